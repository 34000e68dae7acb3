import { randomUUID } from 'node:crypto';
import { mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { isSystemError } from './disk-error.ts';

/**
 * Replaces a file so that after a crash or power cut either the old or the new content is there, whole.
 *
 * @param mode permission bits of the new file.
 * @throws the system's error; the temporary file is gone then and the old content untouched.
 */
export async function writeFileDurable(path: string, data: string | Uint8Array, mode = 0o644): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomUUID()}.tmp`);
  try {
    const file = await open(temporary, 'wx', mode);
    try {
      await file.writeFile(data);
    } finally {
      await file.close();
    }
    await renameDurable(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/**
 * Moves a file within one disk, replacing `destination`. When it returns, content and name survive a power cut.
 *
 * @throws the system's error; `EXDEV` when the two lie on different disks.
 */
export async function renameDurable(temporary: string, destination: string): Promise<void> {
  await syncPath(temporary);
  await rename(temporary, destination);
  await syncPath(dirname(destination));
}

/**
 * Makes a directory and its missing parents, durably.
 *
 * @param mode permission bits of what is made; the process's umask is taken off.
 */
export async function mkdirDurable(path: string, mode = 0o777): Promise<void> {
  const first = await makeMissing(path, mode);
  if (first === undefined) return;
  // A directory entry lives in its parent: every parent from the new leaf up to the one that existed must be synced.
  const top = dirname(resolve(first));
  for (let parent = dirname(resolve(path)); ; parent = dirname(parent)) {
    await syncPath(parent);
    if (parent === top) return;
  }
}

/**
 * Makes a directory and its missing parents. Not with mkdir's own `recursive`, which never ends where a file system
 * refuses new directories with ENOENT, as /proc does.
 *
 * @returns the topmost directory that was made; undefined when there was nothing to make.
 */
async function makeMissing(path: string, mode: number): Promise<string | undefined> {
  try {
    return await makeOne(path, mode);
  } catch (error) {
    const parent = dirname(path);
    if (!isSystemError(error, 'ENOENT') || parent === path) throw error;
    const top = await makeMissing(parent, mode);
    const made = await makeOne(path, mode);
    return top ?? made;
  }
}

/** Makes one directory. @returns undefined when it is there already */
async function makeOne(path: string, mode: number): Promise<string | undefined> {
  try {
    await mkdir(path, mode);
    return path;
  } catch (error) {
    if (isSystemError(error, 'EEXIST') && (await stat(path)).isDirectory()) return undefined;
    throw error;
  }
}

/** Makes a file's content, or a directory's names, survive a power cut. @throws the system's error */
export async function syncPath(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
