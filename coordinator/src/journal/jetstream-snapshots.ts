import { randomUUID } from 'node:crypto';
import { crc32 } from 'node:zlib';
import type { KV, KvEntry } from 'nats';
import type { Head } from './jetstream-heads.ts';
import { bucketStream, encodeToken } from './jetstream-names.ts';
import { encodeBody, MAX_SNAPSHOT_BYTES, type Snapshot } from './journal.ts';
import { type AskParts, ask } from './nats-ask.ts';
import { jetStreamCode, jetStreamError } from './nats-error.ts';

/** Where snapshots are. */
export interface SnapshotParts extends AskParts {
  readonly bucket: string;
  readonly kv: KV;
  readonly patienceMillis: number;
}

/** What the key of a stream holds. The text is in other keys, in pieces, so that it may be larger than a message. */
interface Manifest {
  readonly position: number;
  /** What comes after the position is in messages of JetStream after this sequence. */
  readonly sequence: number;
  /** Part of the pieces' keys, another one each time, so that a snapshot that is half written harms none. */
  readonly generation: string;
  readonly pieces: number;
  /** CRC-32 of the whole text. */
  readonly checkSum: number;
}

/** A snapshot and where to go on reading. */
export interface PlacedSnapshot extends Snapshot {
  /** What comes after it is in messages of JetStream after this sequence. */
  readonly sequence: number;
}

/** Largest piece in bytes. */
const PIECE_BYTES = 512 * 1024;

/** Snapshots of streams in a key-value bucket. */
export class JetStreamSnapshots {
  readonly #parts: SnapshotParts;

  constructor(parts: SnapshotParts) {
    this.#parts = parts;
  }

  /**
   * Stores a snapshot unless a newer one is there.
   *
   * @param end position that it reaches, and a sequence after which everything is that comes later
   * @throws FarmError `invalid_argument` when JSON can't carry it or it is too large, `unavailable`, `resource_exhausted`
   */
  async save(stream: string, { position, sequence }: Head, data: unknown): Promise<void> {
    const bytes = Buffer.from(encodeBody(data, `snapshot of ${stream}`, MAX_SNAPSHOT_BYTES));
    const { kv } = this.#parts;
    const key = encodeToken(stream);
    if (((await this.#manifest(key))?.manifest.position ?? 0) > position) return;
    const generation = randomUUID();
    const maxPayload = this.#parts.link.connection.info?.max_payload ?? 2 * PIECE_BYTES;
    const size = Math.min(PIECE_BYTES, Math.floor(maxPayload / 2));
    const pieces = Math.ceil(bytes.length / size);
    for (let piece = 0; piece < pieces; piece++) {
      const part = bytes.subarray(piece * size, (piece + 1) * size);
      await this.#ask(`saving a snapshot of ${stream}`, () => kv.put(pieceKey(key, generation, piece), part));
    }
    const manifest: Manifest = { position, sequence, generation, pieces, checkSum: crc32(bytes) };
    const replaced = await this.#replace(key, manifest);
    const superfluous = replaced === 'newer is there' ? generation : replaced?.generation;
    if (superfluous !== undefined) await this.#removePieces(key, superfluous);
  }

  /** The stored snapshot; null when there is none, or it is damaged: what can't be made again from the events, reading says. */
  async load(stream: string): Promise<PlacedSnapshot | null> {
    const key = encodeToken(stream);
    for (let known: string | undefined; ; ) {
      const manifest = (await this.#manifest(key))?.manifest;
      // A piece can be missing because the snapshot was just replaced; then there is another one.
      if (!manifest || manifest.generation === known) return null;
      const pieces = await Promise.all(
        Array.from({ length: manifest.pieces }, (_, piece) => this.#get(pieceKey(key, manifest.generation, piece))),
      );
      const bytes = Buffer.concat(pieces.map((entry) => entry?.value ?? new Uint8Array()));
      if (crc32(bytes) === manifest.checkSum) {
        return { position: manifest.position, sequence: manifest.sequence, data: JSON.parse(bytes.toString()) };
      }
      known = manifest.generation;
    }
  }

  /** Position that the stored snapshot reaches, 0 when there is none. */
  async reach(stream: string): Promise<number> {
    return (await this.#manifest(encodeToken(stream)))?.manifest.position ?? 0;
  }

  /** Removes the snapshot of a stream, and what is left of one that was half written. */
  async remove(stream: string): Promise<void> {
    const { jsm, bucket } = this.#parts;
    const key = encodeToken(stream);
    for (const filter of [`$KV.${bucket}.${key}`, `$KV.${bucket}.${key}.>`]) {
      await this.#ask('removing a snapshot', () => jsm.streams.purge(bucketStream(bucket), { filter }));
    }
  }

  /** @returns the manifest that this one took the place of */
  async #replace(key: string, manifest: Manifest): Promise<Manifest | undefined | 'newer is there'> {
    const { kv } = this.#parts;
    for (let replaced: Manifest | undefined; ; ) {
      const found = await this.#manifest(key);
      if ((found?.manifest.position ?? 0) > manifest.position) return 'newer is there';
      // Ours, although its acknowledgement was lost.
      if (found?.manifest.generation === manifest.generation) return replaced;
      replaced = found?.manifest;
      const previousSeq = found?.revision ?? 0;
      try {
        await this.#ask('saving a snapshot', () => kv.put(key, JSON.stringify(manifest), { previousSeq }));
        return replaced;
      } catch (error) {
        if (!(error instanceof Error) || jetStreamCode(error.cause) !== jetStreamError.wrongLastSequence) throw error;
      }
    }
  }

  async #manifest(key: string): Promise<{ readonly manifest: Manifest; readonly revision: number } | null> {
    const entry = await this.#get(key);
    return entry && { manifest: entry.json<Manifest>(), revision: entry.revision };
  }

  #get(key: string): Promise<KvEntry | null> {
    return this.#ask('reading a snapshot', () => this.#parts.kv.get(key));
  }

  async #removePieces(key: string, generation: string): Promise<void> {
    const { jsm, bucket } = this.#parts;
    const filter = `$KV.${bucket}.${key}.${generation}.*`;
    await this.#ask('removing an old snapshot', () => jsm.streams.purge(bucketStream(bucket), { filter }));
  }

  #ask<T>(doing: string, attempt: () => Promise<T>): Promise<T> {
    const { clock, patienceMillis } = this.#parts;
    return ask(this.#parts, doing, clock.monotonic() + patienceMillis, attempt);
  }
}

function pieceKey(key: string, generation: string, piece: number): string {
  return `${key}.${generation}.${piece}`;
}
