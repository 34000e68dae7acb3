import { DatabaseSync } from 'node:sqlite';

/** A lock that is held until it is released or its process ends, however it ends. */
export interface ExclusiveLock {
  release(): void;
}

/** SQLite's primary result codes for what somebody else has locked; see https://sqlite.org/rescode.html. */
const SQLITE_BUSY = 5;
const SQLITE_LOCKED = 6;

/**
 * Takes the lock that a file stands for, without waiting; null while somebody else, or this process itself, holds it.
 * The file is made when it is missing, and nothing is ever written to it.
 *
 * SQLite does the locking, because Node itself has no way to: an open exclusive transaction is a lock of the operating
 * system on the file. The kernel drops it with the process, even after SIGKILL, children do not inherit it, and it holds
 * between containers that share the directory, whose process numbers mean nothing to each other.
 *
 * @throws what SQLite throws when the file can't be opened or locked at all.
 */
export function lockExclusively(path: string): ExclusiveLock | null {
  const database = new DatabaseSync(path, { timeout: 0 });
  try {
    // A rollback journal would be a file, for which a full disk has no room.
    database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
  } catch (error) {
    database.close();
    if (isHeld(error)) return null;
    throw error;
  }
  return { release: () => database.close() };
}

/** Extended codes carry the primary one in their low byte. */
function isHeld(error: unknown): boolean {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return false;
  const code = error.errcode & 0xff;
  return code === SQLITE_BUSY || code === SQLITE_LOCKED;
}
