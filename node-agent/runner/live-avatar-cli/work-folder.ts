import { mkdtemp, readdir, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { FarmError } from '@clipfarm/shared/errors';
import { CLIP_FRAMES } from '@clipfarm/shared/model/clip';

/** Folders of this kind of runner; the number is the process that made it. */
const NAME = /^clipfarm-cli-(\d+)-[A-Za-z0-9]{6}$/;

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
 * are removed first.
 *
 * @throws FarmError `resource_exhausted` when there is too little room.
 */
export async function makeWorkFolder(
  root: string,
  picture: { readonly width: number; readonly height: number },
  clips: number,
): Promise<WorkFolder> {
  await removeLeftovers(root);
  const pixels = COPIES * clips * CLIP_FRAMES * picture.width * picture.height;
  const neededBytes = Math.ceil(pixels * USUAL_BYTES_PER_PIXEL);
  const { bavail, bsize } = await statfs(root);
  if (bavail * bsize < neededBytes) {
    const message = `${root} has ${bavail * bsize} bytes free; upstream's video of ${clips} clips may take ${neededBytes}`;
    throw new FarmError('resource_exhausted', message, { field: '--work-dir' });
  }
  const path = await mkdtemp(join(root, `clipfarm-cli-${process.pid}-`));
  const limitBytes = Math.ceil(pixels * MOST_BYTES_PER_PIXEL) + SMALL_FILES_BYTES;
  return { path, limitBytes, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

async function removeLeftovers(root: string): Promise<void> {
  for (const name of await readdir(root)) {
    const owner = Number(NAME.exec(name)?.[1] ?? Number.NaN);
    if (!Number.isInteger(owner) || isAlive(owner)) continue;
    // Another user's folder can't be removed, and does no harm here.
    await rm(join(root, name), { recursive: true, force: true }).catch(() => {});
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}
