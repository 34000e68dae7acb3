import { FarmError } from '@clipfarm/shared/errors';

/** SQLite's primary result codes that are told apart; see https://sqlite.org/rescode.html. */
const SQLITE_CORRUPT = 11;
const SQLITE_FULL = 13;
const SQLITE_CANTOPEN = 14;
const SQLITE_NOTADB = 26;

/** An extended code: the shared memory beside a journal, a file as well, can't be made as large as it must be. */
const SQLITE_IOERR_SHMSIZE = 4874;

/**
 * An error of SQLite as FarmError that says what to do about it.
 *
 * @param path the database file.
 */
export function journalError(error: unknown, path: string): FarmError {
  if (error instanceof FarmError) return error;
  const reason = error instanceof Error ? error.message : String(error);
  const code = extendedCode(error);
  switch (code === SQLITE_IOERR_SHMSIZE ? SQLITE_FULL : primaryCode(code)) {
    case SQLITE_FULL:
      return new FarmError('resource_exhausted', `journal ${path} can't grow: ${reason}`, {
        hint: 'Free space on that disk. Nothing that was acknowledged is lost, and appends work again then.',
        cause: error,
      });
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return damaged(path, reason, error);
    case SQLITE_CANTOPEN:
      return new FarmError('failed_precondition', `journal ${path} can't be opened: ${reason}`, {
        field: 'data-dir',
        hint: 'Check that the directory exists and that this user may write to it.',
        cause: error,
      });
    default:
      return new FarmError('internal', `journal ${path} failed: ${reason}`, { cause: error });
  }
}

/** The error for a journal file whose content is wrong. */
export function damaged(path: string, reason: string, cause?: unknown): FarmError {
  return new FarmError('internal', `journal ${path} is damaged: ${reason}`, {
    hint: 'Stop the coordinator, keep a copy of the file with its -wal, and restore a backup or run: sqlite3 FILE .recover',
    cause,
  });
}

function extendedCode(error: unknown): number | undefined {
  return error instanceof Error && 'errcode' in error && typeof error.errcode === 'number' ? error.errcode : undefined;
}

/** Extended codes carry the primary one in their low byte. */
function primaryCode(code: number | undefined): number | undefined {
  return code === undefined ? undefined : code & 0xff;
}
