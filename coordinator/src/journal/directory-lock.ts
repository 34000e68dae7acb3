import { DatabaseSync } from 'node:sqlite';
import { FarmError } from '@clipfarm/shared/errors';
import { isLocked } from './sqlite-error.ts';

/** A lock that is held until it is released or the process ends, however it ends. */
export interface ExclusiveLock {
  release(): void;
}

/**
 * Takes the lock that a file stands for. SQLite does the locking: an open exclusive transaction is a lock of the
 * operating system, which ends with the process, so no stale lock ever needs to be cleared by hand.
 *
 * @throws FarmError `failed_precondition` when another coordinator, or this process itself, holds it.
 */
export function lockExclusively(path: string, directory: string): ExclusiveLock {
  const database = new DatabaseSync(path, { timeout: 0 });
  try {
    database.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    database.close();
    if (!isLocked(error)) throw error;
    throw new FarmError('failed_precondition', `data directory ${directory} is in use by another coordinator`, {
      field: 'data-dir',
      hint: 'Stop the other coordinator, or give this one a directory of its own.',
      cause: error,
    });
  }
  return { release: () => database.close() };
}
