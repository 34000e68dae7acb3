import { readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { diskError, isSystemError } from '@clipfarm/shared/disk-error';
import { mkdirDurable } from '@clipfarm/shared/durable-file';
import { FarmError } from '@clipfarm/shared/errors';
import { hashFile } from '@clipfarm/shared/hash-file';
import type { Logger } from '@clipfarm/shared/log';
import { receiveToFile } from '@clipfarm/shared/rpc/stream';
import type { ContentRef } from './lease-task.ts';

/** Where inputs come from and how much of them is kept. */
export interface InputCacheOptions {
  readonly dir: string;
  /** Bytes above which the inputs used longest ago are deleted. Inputs in use are never deleted. */
  readonly maxBytes: number;
  /** The content of an input, piece by piece. */
  readonly fetch: (jobId: string, sha256: string, signal: AbortSignal) => AsyncIterable<Uint8Array>;
  /** Told for every use whether the input was there. */
  readonly onLookup?: (result: 'hit' | 'miss') => void;
  /** Wall clock, milliseconds since 1970. */
  readonly now: () => number;
  readonly log: Logger;
}

/** An input on disk; it stays there until released. */
export interface CachedInput {
  /** Absolute path; the name is the SHA-256. */
  readonly path: string;
  /** Allows the cache to delete it. A repeat does nothing. */
  release(): void;
}

interface Fetching {
  readonly done: Promise<void>;
  readonly stop: AbortController;
  waiting: number;
}

/**
 * Inputs by content: fetched once, whoever asks and however many at the same time, and hashed again at every use, so
 * that a damaged file is fetched anew instead of rendered.
 */
export class InputCache {
  readonly #options: InputCacheOptions;
  readonly #inUse = new Map<string, number>();
  readonly #fetching = new Map<string, Fetching>();

  private constructor(options: InputCacheOptions) {
    this.#options = options;
  }

  /**
   * Opens the cache; half-fetched files of an earlier process are deleted.
   *
   * @throws FarmError when the disk refuses.
   */
  static async open(options: InputCacheOptions): Promise<InputCache> {
    try {
      await mkdirDurable(options.dir);
      for (const name of await readdir(options.dir)) {
        if (!isContentName(name)) await rm(join(options.dir, name), { recursive: true, force: true });
      }
    } catch (error) {
      throw diskError(error, `open the input cache ${options.dir}`);
    }
    return new InputCache(options);
  }

  /**
   * An input, from disk or fetched.
   *
   * @throws FarmError as the fetch threw it, `invalid_argument` when other content came than was asked for,
   *   `resource_exhausted` when the disk is full; the signal's reason.
   */
  async get(jobId: string, ref: ContentRef, signal: AbortSignal): Promise<CachedInput> {
    const path = join(this.#options.dir, ref.sha256);
    this.#inUse.set(ref.sha256, (this.#inUse.get(ref.sha256) ?? 0) + 1);
    let held = true;
    const release = (): void => {
      if (!held) return;
      held = false;
      const left = (this.#inUse.get(ref.sha256) ?? 1) - 1;
      if (left > 0) this.#inUse.set(ref.sha256, left);
      else this.#inUse.delete(ref.sha256);
    };
    try {
      const present = !this.#fetching.has(ref.sha256) && (await this.#present(path, ref));
      this.#options.onLookup?.(present ? 'hit' : 'miss');
      if (!present) await this.#fetchShared(jobId, ref, path, signal);
      const seconds = this.#options.now() / 1000;
      await utimes(path, seconds, seconds);
      return { path, release };
    } catch (error) {
      release();
      throw error;
    }
  }

  async #present(path: string, ref: ContentRef): Promise<boolean> {
    try {
      if ((await stat(path)).size === ref.bytes && (await hashFile(path)) === ref.sha256) return true;
    } catch (error) {
      if (isSystemError(error, 'ENOENT')) return false;
      throw diskError(error, `read the input ${ref.sha256}`);
    }
    this.#options.log.warn({ sha256: ref.sha256 }, 'a cached input is damaged and will be fetched again');
    return false;
  }

  /** Joins the fetch that is under way or starts one. It is stopped when nobody waits for it any more. */
  async #fetchShared(jobId: string, ref: ContentRef, path: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    let fetching = this.#fetching.get(ref.sha256);
    if (fetching === undefined) {
      const stop = new AbortController();
      fetching = { done: this.#fetch(jobId, ref, path, stop.signal), stop, waiting: 0 };
      this.#fetching.set(ref.sha256, fetching);
    }
    fetching.waiting += 1;
    const left = Promise.withResolvers<never>();
    const leave = (): void => left.reject(signal.reason);
    signal.addEventListener('abort', leave, { once: true });
    try {
      await Promise.race([fetching.done, left.promise]);
    } finally {
      signal.removeEventListener('abort', leave);
      fetching.waiting -= 1;
      if (fetching.waiting === 0) {
        this.#fetching.delete(ref.sha256);
        fetching.done.catch(() => {});
        fetching.stop.abort(new FarmError('unavailable', 'nobody waits for this input any more'));
      }
    }
  }

  async #fetch(jobId: string, ref: ContentRef, path: string, signal: AbortSignal): Promise<void> {
    const { dir, fetch, log } = this.#options;
    const temporary = await receiveToFile({ pieces: fetch(jobId, ref.sha256, signal), dir, ...ref, limit: ref.bytes });
    try {
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw diskError(error, `store the input ${ref.sha256}`);
    }
    log.debug({ job_id: jobId, sha256: ref.sha256, bytes: ref.bytes }, 'input fetched');
    await this.#evict();
  }

  async #evict(): Promise<void> {
    const { dir, maxBytes } = this.#options;
    const files: { readonly name: string; readonly size: number; readonly mtimeMs: number }[] = [];
    for (const name of (await readdir(dir)).filter(isContentName)) {
      // Another fetch may end at the same time and delete it first.
      const found = await stat(join(dir, name)).catch(() => null);
      if (found !== null) files.push({ name, size: found.size, mtimeMs: found.mtimeMs });
    }
    let bytes = files.reduce((sum, file) => sum + file.size, 0);
    for (const file of files.sort((a, b) => a.mtimeMs - b.mtimeMs)) {
      if (bytes <= maxBytes) return;
      if (this.#inUse.has(file.name)) continue;
      await rm(join(dir, file.name), { force: true });
      bytes -= file.size;
    }
  }
}

function isContentName(name: string): boolean {
  return /^[0-9a-f]{64}$/.test(name);
}
