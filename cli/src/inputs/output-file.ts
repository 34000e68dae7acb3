import { open, rm, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { isSystemError } from '@clipfarm/shared/disk-error';
import { FarmError } from '@clipfarm/shared/errors';
import { shellWord } from '../render/shell-word.ts';

/** File that a video is downloaded to before it gets its name. */
export function partPath(path: string): string {
  return `${path}.part`;
}

/**
 * Checks, before anything is rendered, that a video can be written to `path`: its directory exists, a file can be made
 * in it, and nothing is there yet unless `force`.
 *
 * @throws FarmError `invalid_argument` on `output`.
 */
export async function checkOutput(path: string, force: boolean): Promise<void> {
  const refuse = (why: string, hint: string, cause?: unknown) =>
    new FarmError('invalid_argument', `output: "${path}" ${why}; accepted: a new file in a directory that exists`, {
      field: 'output',
      hint,
      cause,
    });
  if (path === '' || path.endsWith('/')) throw refuse('names no file', 'Add a file name, for example talk.mp4.');
  const directory = dirname(resolve(path));
  const parent = await stat(directory).catch(() => undefined);
  if (parent?.isDirectory() !== true) {
    throw refuse(`is in ${directory}, which is no directory`, `mkdir -p ${shellWord(directory)}`);
  }
  const existing = await stat(path).catch(() => undefined);
  if (existing !== undefined && !existing.isFile()) {
    throw refuse('exists and is no regular file', 'Choose another --output.');
  }
  if (existing !== undefined && !force) {
    throw refuse('exists', 'Choose another --output, or add --force to replace it.');
  }
  try {
    await tryToMake(partPath(path));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw refuse(`can't be made (${why})`, 'Choose another --output.', cause);
  }
}

/**
 * Makes sure that the video will not replace what it is made of, under whatever name that is given.
 *
 * @param inputs files by the flag that names them
 * @throws FarmError `invalid_argument` on `output`.
 */
export async function checkKeepsInputs(
  path: string,
  inputs: Readonly<Record<string, string | undefined>>,
): Promise<void> {
  const there = await stat(path).catch(() => undefined);
  if (there === undefined) return;
  for (const [flag, input] of Object.entries(inputs)) {
    if (input === undefined) continue;
    const { dev, ino } = await stat(input);
    if (dev !== there.dev || ino !== there.ino) continue;
    const message = `output: "${path}" is the file of --${flag}, which the video would replace; accepted: another file`;
    throw new FarmError('invalid_argument', message, { field: 'output', hint: 'Choose another --output.' });
  }
}

/** Makes a file and takes it away again: permissions alone do not tell what a file system allows. */
async function tryToMake(path: string): Promise<void> {
  try {
    await (await open(path, 'wx')).close();
  } catch (error) {
    // What a killed download left behind is replaced by the next one.
    if (isSystemError(error, 'EEXIST')) return;
    throw error;
  }
  await rm(path, { force: true });
}
