import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, rename, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { diskError } from '@clipfarm/shared/disk-error';
import { FarmError } from '@clipfarm/shared/errors';
import { type ExclusiveLock, lockExclusively } from '@clipfarm/shared/exclusive-lock';
import { CLIP_FRAMES } from '@clipfarm/shared/model/clip';

/** Folders of this kind of runner. */
const NAME = /^clipfarm-cli-[0-9a-f]{16}$/;

/** Folders of the versions before there was a lock; the number is the process that made it, on whatever host. */
const UNLOCKED = /^clipfarm-cli-\d+-[A-Za-z0-9]{6}$/;

/** One of those in which nothing was made or removed for so long is a leftover: a model call takes hours at the most. */
const ABANDONED_MILLIS = 24 * 3_600_000;

/** File in a folder whose lock its runner holds for as long as it uses the folder. */
const LOCK = '.lock';

/** Others that begin at the same time take a new folder for a leftover at most once each; then something else is wrong. */
const LOCK_ATTEMPTS = 100;

/** Bytes per pixel of upstream's video: x264 at quality 10 takes about a tenth of one for a talking head. */
const USUAL_BYTES_PER_PIXEL = 0.25;

/** The same for pictures that can't be compressed: as many as they have in YUV 4:2:0. */
const MOST_BYTES_PER_PIXEL = 1.5;

/** Copies of the video that exist at once: while upstream adds the audio there are two. */
const COPIES = 2;

/** Reference, audio of the longest call and what else upstream may leave. */
const SMALL_FILES_BYTES = 512 * 2 ** 20;

/** A folder that exists for one range. */
export interface WorkFolder extends AsyncDisposable {
  readonly path: string;
  /** Most bytes that its files may come to. */
  readonly limitBytes: number;
}

/**
 * Makes a folder that only this user may enter, below `root`, with room for a model call. Folders that dead runners left
 * are removed first; those of runners in other containers that share `root` stay.
 *
 * @param lockFile locks a file as {@link lockExclusively} does
 * @throws FarmError `resource_exhausted` when there is too little room, `failed_precondition` when nothing there can be locked.
 */
export async function makeWorkFolder(
  root: string,
  picture: { readonly width: number; readonly height: number },
  clips: number,
  lockFile: typeof lockExclusively = lockExclusively,
): Promise<WorkFolder> {
  await removeLeftovers(root);
  const pixels = COPIES * clips * CLIP_FRAMES * picture.width * picture.height;
  const neededBytes = Math.ceil(pixels * USUAL_BYTES_PER_PIXEL);
  const { bavail, bsize } = await statfs(root);
  if (bavail * bsize < neededBytes) {
    const message = `${root} has ${bavail * bsize} bytes free; upstream's video of ${clips} clips may take ${neededBytes}`;
    throw new FarmError('resource_exhausted', message, { field: '--work-dir' });
  }
  const { path, lock } = await makeLocked(root, lockFile);
  const limitBytes = Math.ceil(pixels * MOST_BYTES_PER_PIXEL) + SMALL_FILES_BYTES;
  return {
    ...{ path, limitBytes },
    [Symbol.asyncDispose]: async () => {
      await remove(root, path);
      lock.release();
    },
  };
}

/** A new folder and the lock on it. */
async function makeLocked(
  root: string,
  lockFile: typeof lockExclusively,
): Promise<{ readonly path: string; readonly lock: ExclusiveLock }> {
  for (let attempt = 1; attempt <= LOCK_ATTEMPTS; attempt++) {
    const path = newPath(root);
    await mkdir(path, { mode: 0o700 });
    // Until it is locked, another runner may take it for a leftover, which loses its path before anything else.
    try {
      const lock = lockFile(join(path, LOCK));
      if (lock !== null && existsSync(path)) return { path, lock };
      lock?.release();
    } catch (error) {
      if (existsSync(path)) throw diskError(error, `lock the work folder ${path}`);
    }
    await rm(path, { recursive: true, force: true, maxRetries: 3 });
  }
  // A network file system without a lock service says of every file that somebody else has it.
  throw new FarmError('failed_precondition', `${root}: none of ${LOCK_ATTEMPTS} new folders could be locked`, {
    field: '--work-dir',
    hint: 'Name a directory whose file system has locks, such as one on a disk of this host.',
  });
}

async function removeLeftovers(root: string): Promise<void> {
  for (const name of await readdir(root)) {
    const path = join(root, name);
    if (UNLOCKED.test(name) && (await isAbandoned(path))) await remove(root, path);
    if (!NAME.test(name)) continue;
    let lock: ExclusiveLock | null;
    try {
      lock = lockExclusively(join(path, LOCK));
    } catch {
      // Another user's, which can't be removed and does no harm here; or one that is being removed just now.
      continue;
    }
    if (lock === null) continue;
    await remove(root, path);
    lock.release();
  }
}

async function isAbandoned(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => null);
  return found !== null && Date.now() - found.mtimeMs > ABANDONED_MILLIS;
}

/** Removes a folder whose lock is held, or that had none, its path first. What can't be removed is left to the next call. */
async function remove(root: string, path: string): Promise<void> {
  const doomed = newPath(root);
  await rename(path, doomed)
    .then(() => rm(doomed, { recursive: true, force: true, maxRetries: 3 }))
    .catch(() => {});
}

function newPath(root: string): string {
  return join(root, `clipfarm-cli-${randomBytes(8).toString('hex')}`);
}
