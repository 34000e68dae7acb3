import { join } from 'node:path';
import { diskError } from '@clipfarm/shared/disk-error';
import { FarmError } from '@clipfarm/shared/errors';
import { type ExclusiveLock, lockExclusively } from '@clipfarm/shared/exclusive-lock';

/**
 * Takes the lock on a data directory that a file in it stands for.
 *
 * @throws FarmError `failed_precondition` when another coordinator, or this process itself, holds it; what the disk
 * throws.
 */
export function lockDirectory(path: string, directory: string): ExclusiveLock {
  const lock = lockExclusively(path);
  if (lock !== null) return lock;
  throw new FarmError('failed_precondition', `data directory ${directory} is in use by another coordinator`, {
    field: '--data-dir',
    hint:
      'Stop the other coordinator, or give this one a directory of its own with --data-dir DIR. Coordinators of one farm share ' +
      'the journal and the artifacts, never this directory.',
  });
}

/**
 * Takes the lock on a data directory that no second coordinator may work in, wherever its journal is.
 *
 * @throws FarmError as {@link lockDirectory} does, `internal` or `resource_exhausted` when the disk refuses.
 */
export function lockDataDirectory(directory: string): ExclusiveLock {
  try {
    return lockDirectory(join(directory, 'coordinator.lock'), directory);
  } catch (error) {
    throw error instanceof FarmError ? error : diskError(error, `lock the data directory ${directory}`);
  }
}
