import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { copyFile, lstat, mkdir, open, readdir, realpath, rm, stat, statfs, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { diskError, isSystemError } from '@clipfarm/shared/disk-error';
import { mkdirDurable, renameDurable } from '@clipfarm/shared/durable-file';
import { FarmError } from '@clipfarm/shared/errors';
import { hashFile } from '@clipfarm/shared/hash-file';
import {
  type ArtifactContent,
  type ArtifactEntry,
  type ArtifactStore,
  type ByteRange,
  checkArtifactKey,
  checkByteRange,
  checkSize,
  noSuchFile,
  otherContent,
} from './artifact-store.ts';

/** Files below `<root>/files`, temporary ones in `<root>/tmp`. */
class DirectoryStore implements ArtifactStore {
  readonly #files: string;
  readonly #temp: string;
  /** Ends of the puts that are under way, by key: two of one key must not overtake each other. */
  readonly #puts = new Map<string, Promise<void>>();

  /** Permission bits of directories. */
  readonly #mode: number;

  constructor(files: string, temp: string, mode: number) {
    this.#files = files;
    this.#temp = temp;
    this.#mode = mode;
  }

  async putFile(key: string, tempPath: string, content: ArtifactContent): Promise<void> {
    const path = this.#path(key);
    const before = this.#puts.get(key) ?? Promise.resolve();
    const put = before.catch(() => {}).then(() => this.#put(key, path, tempPath, content));
    this.#puts.set(key, put);
    try {
      await put;
    } finally {
      if (this.#puts.get(key) === put) this.#puts.delete(key);
    }
  }

  async #put(key: string, path: string, tempPath: string, content: ArtifactContent): Promise<void> {
    try {
      const { size } = await lstat(tempPath);
      checkSize(key, size, content.bytes);
      const stored = await this.#regularFile(path);
      if (stored === null) {
        await mkdirDurable(dirname(path), this.#mode);
        await this.#checkInside(path);
        await this.#moveIn(tempPath, path);
        return;
      }
      if (stored.size !== content.bytes || (await hashFile(path)) !== content.sha256) {
        throw otherContent(key);
      }
      await unlink(tempPath);
    } catch (error) {
      throw diskError(error, `store ${key}`);
    }
  }

  /** Gives a file its final name; one that was made on another file system is copied into this one first. */
  async #moveIn(tempPath: string, path: string): Promise<void> {
    try {
      await renameDurable(tempPath, path);
      return;
    } catch (error) {
      if (!isSystemError(error, 'EXDEV')) throw error;
    }
    const copy = join(this.#temp, `moved-${randomUUID()}`);
    try {
      await copyFile(tempPath, copy);
      await renameDurable(copy, path);
    } catch (error) {
      await rm(copy, { force: true });
      throw error;
    }
    await unlink(tempPath);
  }

  tempDir(): string {
    return this.#temp;
  }

  async stat(key: string): Promise<{ readonly bytes: number } | null> {
    const path = this.#path(key);
    try {
      const stored = await this.#regularFile(path);
      return stored === null ? null : { bytes: stored.size };
    } catch (error) {
      throw diskError(error, `look up ${key}`);
    }
  }

  async localFile(key: string): Promise<string> {
    // Whoever opens the path would follow a link; the look-up refuses them.
    if ((await this.stat(key)) === null) throw noSuchFile(key);
    return this.#path(key);
  }

  open(key: string, range: ByteRange = {}): Readable {
    const path = this.#path(key);
    checkByteRange(range);
    return Readable.from(this.#bytes(key, path, range), { objectMode: false });
  }

  async *#bytes(key: string, path: string, { start = 0, end }: ByteRange): AsyncGenerator<Buffer> {
    try {
      if ((await this.#regularFile(path)) === null) throw noSuchFile(key);
      if (end !== undefined && end <= start) return;
      const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
      // The stream closes the file, also when it is left early. Node's own `end` is the last byte.
      yield* file.createReadStream({ start, ...(end === undefined ? {} : { end: end - 1 }) });
    } catch (error) {
      throw diskError(error, `read ${key}`);
    }
  }

  async remove(key: string): Promise<void> {
    const path = this.#path(key);
    try {
      await this.#checkInside(path);
      await unlink(path);
    } catch (error) {
      if (!isSystemError(error, 'ENOENT') && !isSystemError(error, 'ENOTDIR')) throw diskError(error, `delete ${key}`);
    }
  }

  async removePrefix(prefix: string): Promise<void> {
    const path = this.#path(prefix);
    try {
      await this.#checkInside(path);
      const entry = await lstat(path);
      if (entry.isDirectory()) await rm(path, { recursive: true, force: true });
    } catch (error) {
      if (!isSystemError(error, 'ENOENT') && !isSystemError(error, 'ENOTDIR'))
        throw diskError(error, `delete ${prefix}/`);
    }
  }

  async list(prefix: string): Promise<readonly ArtifactEntry[]> {
    const path = prefix === '' ? this.#files : this.#path(prefix);
    const found: ArtifactEntry[] = [];
    try {
      await this.#checkInside(join(path, 'any'));
      await this.#walk(path, prefix, found);
    } catch (error) {
      if (!isSystemError(error, 'ENOENT') && !isSystemError(error, 'ENOTDIR'))
        throw diskError(error, `list ${prefix}/`);
    }
    return found.sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  async #walk(directory: string, prefix: string, found: ArtifactEntry[]): Promise<void> {
    for (const entry of await readdir(directory, { withFileTypes: true })) {
      const key = prefix === '' ? entry.name : `${prefix}/${entry.name}`;
      const path = join(directory, entry.name);
      if (entry.isDirectory()) await this.#walk(path, key, found);
      else if (entry.isFile()) {
        const { size, mtimeMs } = await lstat(path);
        found.push({ key, bytes: size, storedAt: mtimeMs });
      }
    }
  }

  async presignPut(key: string): Promise<null> {
    checkArtifactKey(key);
    return null;
  }

  async freeBytes(): Promise<number> {
    try {
      const { bavail, bsize } = await statfs(this.#files);
      return bavail * bsize;
    } catch (error) {
      throw diskError(error, 'ask for free space');
    }
  }

  #path(key: string): string {
    checkArtifactKey(key);
    return join(this.#files, ...key.split('/'));
  }

  /** Size of a regular file; null when there is none. Links are refused, wherever in the path they are. */
  async #regularFile(path: string): Promise<{ readonly size: number } | null> {
    try {
      await this.#checkInside(path);
      const entry = await lstat(path);
      if (entry.isSymbolicLink()) throw escapes(path);
      return entry.isFile() ? entry : null;
    } catch (error) {
      if (isSystemError(error, 'ENOENT') || isSystemError(error, 'ENOTDIR')) return null;
      throw error;
    }
  }

  async #checkInside(path: string): Promise<void> {
    const parent = dirname(path);
    if ((await realpath(parent)) !== parent) throw escapes(path);
  }
}

/**
 * Opens a store in a directory, which is made if missing, and deletes what an earlier process of this
 * owner left in its temporary directory. Several coordinators may share it, each under a name of its own.
 *
 * @param owner part of a key; no two processes at a time
 * @throws FarmError `internal` or `resource_exhausted` when the directory can't be made or read.
 */
export async function openDirectoryStore(root: string, owner = 'sole'): Promise<ArtifactStore> {
  try {
    // What is stored are faces and voices.
    const mode = 0o777 & ~(await storeUmask(root));
    await mkdirDurable(join(root, 'files'), mode);
    const base = await realpath(root);
    const temp = join(base, 'tmp', owner);
    await rm(temp, { recursive: true, force: true });
    await mkdir(temp, { recursive: true, mode });
    const files = join(base, 'files');
    if ((await realpath(files)) !== files) throw escapes('files');
    return new DirectoryStore(files, temp, mode);
  } catch (error) {
    throw diskError(error, `open the artifact directory ${root}`);
  }
}

/**
 * The umask of a process that stores artifacts in this directory: what it makes is for its user alone. Where the operator
 * has made the directory so that a group may write to it, several users share it, and what is made is for that group.
 */
export async function storeUmask(root: string): Promise<number> {
  const isShared = await stat(root).then(
    ({ mode }) => (mode & constants.S_IWGRP) !== 0,
    () => false,
  );
  return isShared ? 0o007 : 0o077;
}

function escapes(what: string): FarmError {
  return new FarmError('internal', `${what} leads through a symbolic link, which artifacts must not`);
}
