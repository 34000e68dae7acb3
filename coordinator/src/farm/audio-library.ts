import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, readFile, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { renameDurable, writeFileDurable } from '@clipfarm/shared/durable-file';
import { FarmError } from '@clipfarm/shared/errors';
import type { Ffmpeg } from '@clipfarm/shared/media/ffmpeg';
import { z } from 'zod';
import type { ArtifactStore } from '../artifacts/artifact-store.ts';
import { ingestAudio } from '../media/ingest.ts';
import { artifactKeys } from './artifact-keys.ts';
import type { UploadRoom } from './upload-room.ts';
import { type QueueOptions, untilAborted, type WorkQueue } from './work-queue.ts';

/** An upload, decoded once to 48 kHz PCM. Its sample count fixes the number of frames; model and mux both use it. */
export interface DecodedAudio {
  /** WAV, 48 kHz, 16 bits, mono or stereo. */
  readonly deliveryWav: string;
  /** Samples a channel. */
  readonly samples: number;
  readonly channels: number;
}

/** 16 bits. */
const BYTES_PER_SAMPLE = 2;

/** Begin of the names of folders into which something is being decoded. */
const DECODING = 'decoding-';

const note = z.object({ samples: z.number().int().positive(), channels: z.number().int().positive() });

/**
 * Bytes of decoded uploads that are kept although no job needs them, because they were only planned with so far: one of
 * four hours in stereo, or an hour of four.
 */
const MAX_IDLE_BYTES = 3_000_000_000;

/** How many of them are kept: each has to be looked at when another one comes. */
const MAX_IDLE = 100;

/** What an {@link AudioLibrary} works with. */
export interface AudioLibraryParts {
  /** Folder of its own. */
  readonly dir: string;
  readonly store: Pick<ArtifactStore, 'localFile'>;
  readonly ffmpeg: Ffmpeg;
  readonly room: Pick<UploadRoom, 'hold'>;
  /** Where decoding waits for its turn. */
  readonly queue: Pick<WorkQueue, 'run'>;
  /** Uploads that live jobs need. */
  readonly needed: () => ReadonlySet<string>;
  /** Most bytes of decoded uploads that none needs; 3 GB unless given. */
  readonly maxIdleBytes?: number;
}

/** An upload that is being looked up or decoded. */
interface Running {
  readonly audio: Promise<DecodedAudio>;
  /** Stops it, when nobody waits for it any more. */
  readonly abort: AbortController;
  /** How many wait for it. */
  callers: number;
}

/** Decoded audio by the content of its upload. A cache on disk: what is missing is decoded again. */
export class AudioLibrary {
  readonly #dir: string;
  readonly #parts: AudioLibraryParts;
  readonly #running = new Map<string, Running>();
  readonly #dropping = new Map<string, Promise<void>>();
  /** Folders into which uploads are being decoded now. */
  readonly #decoding = new Set<string>();
  /** How many use a decoded upload now. */
  readonly #users = new Map<string, number>();
  /** Uploads by when they were last asked for, the earliest first; those of an earlier process are not among them. */
  readonly #recent = new Set<string>();

  constructor(parts: AudioLibraryParts) {
    this.#dir = parts.dir;
    this.#parts = parts;
  }

  /**
   * The decoded audio of an upload. Requests for the same one share the work, which ends when all of them are aborted.
   *
   * @throws FarmError `invalid_argument` (field `audio`) when it can't be used; `not_found` when it was not uploaded;
   *   `resource_exhausted` when it has no room decoded; the signal's reason, or `unavailable`, when it aborts
   */
  async get(audioSha256: string, options: QueueOptions = {}): Promise<DecodedAudio> {
    this.#recent.delete(audioSha256);
    this.#recent.add(audioSha256);
    const found = this.#running.get(audioSha256);
    const running = found && !found.abort.signal.aborted ? found : this.#begin(audioSha256, options.urgent, found);
    running.callers += 1;
    try {
      return await untilAborted(running.audio, options.signal);
    } finally {
      running.callers -= 1;
      if (running.callers === 0) running.abort.abort(options.signal?.reason);
    }
  }

  /** @param before an aborted one, which may not have ended */
  #begin(audioSha256: string, urgent: boolean | undefined, before: Running | undefined): Running {
    const abort = new AbortController();
    const options = { signal: abort.signal, ...(urgent === undefined ? {} : { urgent }) };
    const audio = (async () => {
      await before?.audio.catch(() => undefined);
      return this.#get(audioSha256, options);
    })();
    const running = { audio, abort, callers: 0 };
    this.#running.set(audioSha256, running);
    const end = () => {
      if (this.#running.get(audioSha256) === running) this.#running.delete(audioSha256);
    };
    audio.then(end, end);
    return running;
  }

  /**
   * Runs `work` with the decoded audio of an upload, whose file stays until it is done. Throws as {@link get}, and what
   * `work` throws.
   */
  async use<Result>(
    audioSha256: string,
    work: (audio: DecodedAudio) => Promise<Result>,
    options: QueueOptions = {},
  ): Promise<Result> {
    this.#users.set(audioSha256, (this.#users.get(audioSha256) ?? 0) + 1);
    try {
      return await work(await this.get(audioSha256, options));
    } finally {
      const left = (this.#users.get(audioSha256) ?? 1) - 1;
      if (left === 0) this.#users.delete(audioSha256);
      else this.#users.set(audioSha256, left);
    }
  }

  /**
   * Frees the space of an upload that no job needs decoded any more. One that is in use stays: a job that is being
   * submitted will drop it when it is over.
   */
  async drop(audioSha256: string): Promise<void> {
    await this.#running.get(audioSha256)?.audio.catch(() => undefined);
    if (this.#users.has(audioSha256) || this.#dropping.has(audioSha256)) return;
    this.#recent.delete(audioSha256);
    const removed = rm(join(this.#dir, audioSha256), { recursive: true, force: true });
    this.#dropping.set(audioSha256, removed);
    await removed.finally(() => this.#dropping.delete(audioSha256));
  }

  /**
   * Frees the space of everything but this, of what is in use, and of what is being decoded: uploads that were only planned
   * with, jobs that ended while another coordinator led, and what a process that was killed had half decoded.
   */
  async keepOnly(wanted: ReadonlySet<string>): Promise<void> {
    const names = await readdir(this.#dir).catch(() => []);
    for (const name of names) {
      if (/^[0-9a-f]{64}$/.test(name)) {
        if (!wanted.has(name)) await this.drop(name);
      } else if (name.startsWith(DECODING) && !this.#decoding.has(name)) {
        await rm(join(this.#dir, name), { recursive: true, force: true });
      }
    }
  }

  /** Runs `work`, which may write so many bytes. Where they have no room, what no job needs goes first. */
  async #withRoom(sha256: string, bytes: number, work: () => Promise<void>): Promise<void> {
    const freeBytes = async () => {
      const { bavail, bsize } = await statfs(this.#dir);
      return bavail * bsize;
    };
    const request = { bytes, field: 'audio', what: 'bytes of decoded sound', freeBytes };
    let begun = false;
    const begin = () => {
      begun = true;
      return work();
    };
    try {
      await this.#parts.room.hold(request, begin);
    } catch (error) {
      if (begun || FarmError.from(error).code !== 'resource_exhausted') throw error;
      if (!(await this.#dropIdle(sha256, 0))) throw error;
      await this.#parts.room.hold(request, work);
    }
  }

  /**
   * Drops decoded uploads that no job needs, the longest unused first, until they take no more than `maxBytes`.
   *
   * @param except one that stays
   * @returns whether any was dropped
   */
  async #dropIdle(except: string, maxBytes: number): Promise<boolean> {
    const needed = this.#parts.needed();
    const names = (await readdir(this.#dir)).filter((name) => /^[0-9a-f]{64}$/.test(name));
    const idle = names.filter((name) => name !== except && !needed.has(name) && !this.#isBusy(name));
    const order = new Map([...this.#recent].map((name, i) => [name, i]));
    idle.sort((a, b) => (order.get(a) ?? -1) - (order.get(b) ?? -1));
    const sizes = await Promise.all(idle.map((name) => fileBytes(join(this.#dir, name, 'delivery.wav'))));
    const own = needed.has(except) ? 0 : await fileBytes(join(this.#dir, except, 'delivery.wav'));
    let total = sizes.reduce((sum, bytes) => sum + bytes, own);
    let dropped = false;
    for (const [i, name] of idle.entries()) {
      if (total <= maxBytes && idle.length - i <= MAX_IDLE) break;
      // Asked for meanwhile: it may even wait for the place that this one takes.
      if (this.#isBusy(name)) continue;
      await this.drop(name);
      total -= sizes[i] ?? 0;
      dropped = true;
    }
    return dropped;
  }

  #isBusy(sha256: string): boolean {
    return this.#users.has(sha256) || this.#running.has(sha256);
  }

  async #get(sha256: string, options: QueueOptions & { readonly signal: AbortSignal }): Promise<DecodedAudio> {
    // Half a folder would look like a whole one.
    await this.#dropping.get(sha256)?.catch(() => undefined);
    const dir = join(this.#dir, sha256);
    const deliveryWav = join(dir, 'delivery.wav');
    const known = await readFile(join(dir, 'audio.json'), 'utf8').catch(() => null);
    const size = await fileBytes(deliveryWav);
    if (known !== null) {
      const { samples, channels } = note.parse(JSON.parse(known));
      // A copy that lost its end, or all of it, is made anew.
      if (size >= samples * channels * BYTES_PER_SAMPLE) return { deliveryWav, samples, channels };
    }
    await mkdir(this.#dir, { recursive: true });
    const name = `${DECODING}${randomUUID()}`;
    const temp = join(this.#dir, name);
    this.#decoding.add(name);
    try {
      await mkdir(temp, { mode: 0o700 });
      const path = await this.#parts.store.localFile(artifactKeys.input(sha256));
      const room = (bytes: number, work: () => Promise<void>) => this.#withRoom(sha256, bytes, work);
      const { signal } = options;
      const ingest = () => ingestAudio(this.#parts.ffmpeg, path, temp, { room, signal });
      const decoded = await this.#parts.queue.run(ingest, options);
      const { samples, channels } = decoded;
      await syncFile(decoded.deliveryWav);
      await writeFileDurable(join(temp, 'audio.json'), JSON.stringify({ samples, channels }));
      await rm(dir, { recursive: true, force: true });
      await renameDurable(temp, dir);
      await this.#dropIdle(sha256, this.#parts.maxIdleBytes ?? MAX_IDLE_BYTES);
      return { deliveryWav, samples, channels };
    } catch (error) {
      await rm(temp, { recursive: true, force: true });
      throw error;
    } finally {
      this.#decoding.delete(name);
    }
  }
}

/** Size of a file, 0 when it is not there. */
async function fileBytes(path: string): Promise<number> {
  return stat(path).then(
    (file) => file.size,
    () => 0,
  );
}

async function syncFile(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
