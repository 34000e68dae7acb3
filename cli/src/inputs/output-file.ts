import { access, constants, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { FarmError } from '@clipfarm/shared/errors';

/**
 * Checks, before anything is rendered, that a video can be written to `path`: its directory exists and may be written
 * to, and nothing is there yet unless `force`.
 *
 * @throws FarmError `invalid_argument` on `output`.
 */
export async function checkOutput(path: string, force: boolean): Promise<void> {
  const refuse = (why: string, hint: string) =>
    new FarmError('invalid_argument', `output: "${path}" ${why}; accepted: a new file in a directory that exists`, {
      field: 'output',
      hint,
    });
  const directory = dirname(resolve(path));
  const parent = await stat(directory).catch(() => undefined);
  if (parent?.isDirectory() !== true) {
    throw refuse(`is in ${directory}, which is no directory`, `mkdir -p ${JSON.stringify(directory)}`);
  }
  try {
    await access(directory, constants.W_OK | constants.X_OK);
  } catch (cause) {
    throw new FarmError('invalid_argument', `output: ${directory} may not be written to by this user`, {
      field: 'output',
      hint: 'Choose another --output.',
      cause,
    });
  }
  const existing = await stat(path).catch(() => undefined);
  if (existing === undefined) return;
  if (!existing.isFile()) throw refuse('exists and is no regular file', 'Choose another --output.');
  if (!force) throw refuse('exists', 'Choose another --output, or add --force to replace it.');
}
