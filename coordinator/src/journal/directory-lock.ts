import { FarmError } from '@clipfarm/shared/errors';
import { type ExclusiveLock, lockExclusively } from '@clipfarm/shared/exclusive-lock';

/**
 * Takes the lock on a data directory that a file in it stands for.
 *
 * @throws FarmError `failed_precondition` when another coordinator, or this process itself, holds it.
 */
export function lockDirectory(path: string, directory: string): ExclusiveLock {
  const lock = lockExclusively(path);
  if (lock !== null) return lock;
  throw new FarmError('failed_precondition', `data directory ${directory} is in use by another coordinator`, {
    field: 'data-dir',
    hint: 'Stop the other coordinator, or give this one a directory of its own.',
  });
}
