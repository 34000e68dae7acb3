import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { renameDurable, writeFileDurable } from '@clipfarm/shared/durable-file';
import type { Ffmpeg } from '@clipfarm/shared/media/ffmpeg';
import { z } from 'zod';
import type { ArtifactStore } from '../artifacts/artifact-store.ts';
import { ingestAudio } from '../media/ingest.ts';
import { artifactKeys } from './artifact-keys.ts';

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

/** Decoded audio by the content of its upload. A cache on disk: what is missing is decoded again. */
export class AudioLibrary {
  readonly #dir: string;
  readonly #store: ArtifactStore;
  readonly #ffmpeg: Ffmpeg;
  readonly #running = new Map<string, Promise<DecodedAudio>>();
  readonly #dropping = new Map<string, Promise<void>>();
  /** Folders into which uploads are being decoded now. */
  readonly #decoding = new Set<string>();
  /** How many use a decoded upload now. */
  readonly #users = new Map<string, number>();

  constructor(dir: string, store: ArtifactStore, ffmpeg: Ffmpeg) {
    this.#dir = dir;
    this.#store = store;
    this.#ffmpeg = ffmpeg;
  }

  /**
   * The decoded audio of an upload. Requests for the same one share the work.
   *
   * @throws FarmError `invalid_argument` (field `audio`) when it can't be used; `not_found` when it was not uploaded
   */
  get(audioSha256: string): Promise<DecodedAudio> {
    const running = this.#running.get(audioSha256);
    if (running) return running;
    const work = this.#get(audioSha256).finally(() => this.#running.delete(audioSha256));
    this.#running.set(audioSha256, work);
    return work;
  }

  /**
   * Runs `work` with the decoded audio of an upload, whose file stays until it is done. Throws as {@link get}, and what
   * `work` throws.
   */
  async use<Result>(audioSha256: string, work: (audio: DecodedAudio) => Promise<Result>): Promise<Result> {
    this.#users.set(audioSha256, (this.#users.get(audioSha256) ?? 0) + 1);
    try {
      return await work(await this.get(audioSha256));
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
    await this.#running.get(audioSha256)?.catch(() => undefined);
    if (this.#users.has(audioSha256) || this.#dropping.has(audioSha256)) return;
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

  async #get(sha256: string): Promise<DecodedAudio> {
    // Half a folder would look like a whole one.
    await this.#dropping.get(sha256)?.catch(() => undefined);
    const dir = join(this.#dir, sha256);
    const deliveryWav = join(dir, 'delivery.wav');
    const known = await readFile(join(dir, 'audio.json'), 'utf8').catch(() => null);
    const size = await stat(deliveryWav).then(
      (file) => file.size,
      () => 0,
    );
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
      const decoded = await ingestAudio(this.#ffmpeg, await this.#store.localFile(artifactKeys.input(sha256)), temp);
      const { samples, channels } = decoded;
      await syncFile(decoded.deliveryWav);
      await writeFileDurable(join(temp, 'audio.json'), JSON.stringify({ samples, channels }));
      await rm(dir, { recursive: true, force: true });
      await renameDurable(temp, dir);
      return { deliveryWav, samples, channels };
    } catch (error) {
      await rm(temp, { recursive: true, force: true });
      throw error;
    } finally {
      this.#decoding.delete(name);
    }
  }
}

async function syncFile(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
