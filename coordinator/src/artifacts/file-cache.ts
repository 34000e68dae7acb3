import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '@clipfarm/shared/clock';
import { hashFile } from '@clipfarm/shared/hash-file';
import type { ArtifactContent } from './artifact-store.ts';

/** Where copies lie and how many may. */
export interface FileCacheOptions {
  readonly dir: string;
  /** Bytes of all copies together; see {@link FileCache}. */
  readonly maxBytes: number;
  readonly clock: Clock;
}

interface Copy {
  readonly path: string;
  readonly content: ArtifactContent;
  /** False for one of an earlier process, until it was read once. */
  checked: boolean;
  /** Monotonic milliseconds. */
  usedAt: number;
}

/**
 * Milliseconds for which a path that was handed out is not removed to make room: its user has to open it first. An open
 * file stays readable after it is removed.
 */
const HOLD_MILLIS = 30_000;

const fileName = /^([0-9a-f]{64})-([0-9a-f]{64})$/;

/**
 * Local copies of files that are stored elsewhere, by key. The least recently used go first when there are more than
 * `maxBytes` of them; only what was asked for within the last 30 seconds can exceed that. Copies survive a restart and
 * are checked against their SHA-256 before they are used again.
 */
export class FileCache {
  readonly #options: FileCacheOptions;
  /** From the least to the most recently used, by the hash of the key. */
  readonly #copies = new Map<string, Copy>();
  readonly #loading = new Map<string, Promise<string>>();
  #bytes = 0;

  private constructor(options: FileCacheOptions) {
    this.#options = options;
  }

  /** Takes over the copies in the directory, which is made if missing. @throws the system's error */
  static async open(options: FileCacheOptions): Promise<FileCache> {
    const cache = new FileCache(options);
    await mkdir(options.dir, { recursive: true });
    const found: { readonly id: string; readonly copy: Copy; readonly modified: number }[] = [];
    for (const name of await readdir(options.dir)) {
      const path = join(options.dir, name);
      const [, id, sha256] = fileName.exec(name) ?? [];
      if (id === undefined || sha256 === undefined) {
        await rm(path, { recursive: true, force: true });
        continue;
      }
      const { size, mtimeMs } = await stat(path);
      const copy = { path, content: { sha256, bytes: size }, checked: false, usedAt: Number.NEGATIVE_INFINITY };
      found.push({ id, copy, modified: mtimeMs });
    }
    for (const { id, copy } of found.sort((a, b) => a.modified - b.modified)) cache.#add(id, copy);
    await cache.#makeRoom();
    return cache;
  }

  /** Bytes of all copies. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Path of the copy for a key. Requests for the same one share the work.
   *
   * @param load brings the file to the path that it is given, and says what it has checked that it holds; called only
   *   when there is no good copy.
   * @throws what `load` throws; the system's error
   */
  get(key: string, load: (path: string) => Promise<ArtifactContent>): Promise<string> {
    const id = idOf(key);
    const running = this.#loading.get(id);
    if (running) return running;
    const work = this.#get(id, load).finally(() => this.#loading.delete(id));
    this.#loading.set(id, work);
    return work;
  }

  async #get(id: string, load: (path: string) => Promise<ArtifactContent>): Promise<string> {
    const copy = this.#copies.get(id);
    if (copy && (await isGood(copy))) {
      copy.checked = true;
      copy.usedAt = this.#options.clock.monotonic();
      this.#add(id, copy);
      return copy.path;
    }
    if (copy) await this.#remove(id, copy);
    const part = join(this.#options.dir, `${randomUUID()}.part`);
    try {
      return await this.#keep(id, part, await load(part));
    } catch (error) {
      await rm(part, { force: true });
      throw error;
    }
  }

  /** Takes over a finished file of the same disk as the copy for a key; one of another disk is deleted. */
  async adopt(key: string, path: string, content: ArtifactContent): Promise<void> {
    try {
      await this.#keep(idOf(key), path, content);
    } catch {
      // The original is stored elsewhere; that there is no copy costs a download at worst.
      await rm(path, { force: true });
    }
  }

  /** Deletes the copy for a key, if there is one. */
  async drop(key: string): Promise<void> {
    const id = idOf(key);
    // A load that is under way may have begun before the original was deleted.
    await this.#loading.get(id)?.catch(() => undefined);
    const copy = this.#copies.get(id);
    if (copy) await this.#remove(id, copy);
  }

  async #keep(id: string, from: string, content: ArtifactContent): Promise<string> {
    const path = join(this.#options.dir, `${id}-${content.sha256}`);
    const before = this.#copies.get(id);
    if (before && before.path !== path) await this.#remove(id, before);
    await rename(from, path);
    this.#add(id, { path, content, checked: true, usedAt: this.#options.clock.monotonic() });
    await this.#makeRoom();
    return path;
  }

  /** Makes a copy the most recently used one. */
  #add(id: string, copy: Copy): void {
    this.#forget(id);
    this.#copies.set(id, copy);
    this.#bytes += copy.content.bytes;
  }

  #forget(id: string): void {
    this.#bytes -= this.#copies.get(id)?.content.bytes ?? 0;
    this.#copies.delete(id);
  }

  async #makeRoom(): Promise<void> {
    const held = this.#options.clock.monotonic() - HOLD_MILLIS;
    for (const [id, copy] of this.#copies) {
      // The rest was used even later.
      if (this.#bytes <= this.#options.maxBytes || copy.usedAt > held) return;
      await this.#remove(id, copy);
    }
  }

  async #remove(id: string, { path }: Copy): Promise<void> {
    this.#forget(id);
    await rm(path, { force: true });
  }
}

async function isGood({ path, content, checked }: Copy): Promise<boolean> {
  try {
    if ((await stat(path)).size !== content.bytes) return false;
    return checked || (await hashFile(path)) === content.sha256;
  } catch {
    return false;
  }
}

function idOf(key: string): string {
  return createHash('sha256').update(key).digest('hex');
}
