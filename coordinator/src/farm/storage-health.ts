import { randomUUID } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from '@clipfarm/shared/log';
import type { ArtifactStore } from '../artifacts/artifact-store.ts';

/** Less than this many free bytes is as good as full: an upload passes through the disk whole, and may be that large. */
const ENOUGH_BYTES = 64 * 1024 * 1024;

/** What a probe writes: a quota that is used up does not show in the free bytes. */
const PROBE_BYTES = 1024 * 1024;

/** System errors that mean that nothing more can be stored. */
const fullCodes: ReadonlySet<unknown> = new Set(['ENOSPC', 'EDQUOT']);

/** SQLite's primary result code for a full disk; see https://sqlite.org/rescode.html. */
const SQLITE_FULL = 13;

/**
 * Whether the coordinator can store what comes in. While it can't, nothing is lost: chunks wait in the agents' spools
 * and are offered again. Says so once when it begins and once when it ends.
 */
export class StorageHealth {
  readonly #log: Logger;
  #problem: string | null = null;
  #checking = false;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** What is wrong, or null. */
  get problem(): string | null {
    return this.#problem;
  }

  /** Notes that something was stored. */
  stored(): void {
    if (this.#problem === null) return;
    this.#problem = null;
    this.#log.info('the store takes data again');
  }

  /** Notes a failure to store; only a full disk or quota counts, everything else is the request's own trouble. */
  failed(error: unknown): void {
    if (!isFull(error)) return;
    if (this.#problem === null) {
      this.#log.error(
        { err: error },
        'the store is full: free space in the data directory; agents keep their chunks until then',
      );
    }
    const words = error instanceof Error ? error.message : String(error);
    this.#problem = `the coordinator's disk is full; finished clips wait in the agents' spools (${words})`;
  }

  /** Runs something that stores, and notes how it went. */
  async watch<T>(store: () => Promise<T>): Promise<T> {
    try {
      const result = await store();
      this.stored();
      return result;
    } catch (error) {
      this.failed(error);
      throw error;
    }
  }

  /**
   * While something is wrong, looks whether it still is: nobody may be storing anything just now who would find out.
   * Never throws. One look at a time; a call during one does nothing.
   */
  async recheck(store: Pick<ArtifactStore, 'freeBytes' | 'tempDir'>): Promise<void> {
    if (this.#problem === null || this.#checking) return;
    this.#checking = true;
    try {
      if ((await store.freeBytes()) > ENOUGH_BYTES) await this.watch(() => probe(store));
    } catch (error) {
      this.#log.debug({ err: error }, 'the store takes no data yet');
    } finally {
      this.#checking = false;
    }
  }
}

/** Writes something where everything that is stored passes through, and deletes it again. */
async function probe(store: Pick<ArtifactStore, 'tempDir'>): Promise<void> {
  const path = join(store.tempDir(), `probe-${randomUUID()}`);
  try {
    await writeFile(path, Buffer.alloc(PROBE_BYTES), { flush: true });
  } finally {
    await rm(path, { force: true });
  }
}

/** Whether an error, or what caused it, is a full disk or quota, of the file system or of SQLite. */
function isFull(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) {
    if ('code' in at && fullCodes.has(at.code)) return true;
    // Extended codes carry the primary one in their low byte.
    if ('errcode' in at && typeof at.errcode === 'number' && (at.errcode & 0xff) === SQLITE_FULL) return true;
  }
  return false;
}
