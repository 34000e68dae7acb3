import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { diskError, isDiskFull, isSystemError, systemReason } from './disk-error.ts';
import { mkdirDurable } from './durable-file.ts';
import { FarmError } from './errors.ts';

/**
 * Makes the directory in which a process keeps what is its own, closed to other users, and sees that it can be used.
 *
 * @param flag flag that names it, for the message.
 * @throws FarmError `invalid_argument` when it can't be made or written to, `resource_exhausted` when the disk is full.
 */
export async function makeOwnDirectory(path: string, flag: string): Promise<void> {
  try {
    await mkdirDurable(path, 0o700);
    await access(path, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (cause) {
    if (isDiskFull(cause)) throw diskError(cause, `make ${path}`);
    const accepted = 'a directory that is there or can be made, and that this user may write to';
    const isFile = isSystemError(cause, 'EEXIST') || isSystemError(cause, 'ENOTDIR');
    const reason = isFile ? 'a file is in its place, or on the way to it' : systemReason(cause);
    throw new FarmError('invalid_argument', `${flag}: "${path}" can't be used: ${reason}; accepted: ${accepted}`, {
      field: flag,
      cause,
    });
  }
}

/**
 * Whether users outside the directory's group may look into it: it was there already, and what lay in it may be open to them.
 *
 * @throws the system's error
 */
export async function isOpenToOthers(path: string): Promise<boolean> {
  return ((await stat(path)).mode & 0o007) !== 0;
}

/** What to say of a directory that {@link isOpenToOthers}. */
export const OPEN_TO_OTHERS = 'other users of this host can look into a directory that was there already';
