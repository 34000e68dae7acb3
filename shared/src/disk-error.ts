import { FarmError } from './errors.ts';

/** System errors that mean that a disk, a quota or the file table is full. */
const full = new Set(['ENOSPC', 'EDQUOT', 'EFBIG', 'EMFILE', 'ENFILE']);

/**
 * A failed file operation as FarmError: `resource_exhausted` when something is full, otherwise `internal` with the
 * system's own words. A FarmError is returned as it is.
 *
 * @param action what was being done, for example "store inputs/ab12".
 */
export function diskError(error: unknown, action: string): FarmError {
  if (error instanceof FarmError) return error;
  const reason = error instanceof Error ? error.message : String(error);
  if (isDiskFull(error)) {
    const hint = 'Free space on that disk or raise the limit; nothing that was stored before is lost.';
    return new FarmError('resource_exhausted', `cannot ${action}: ${reason}`, { hint, cause: error });
  }
  return new FarmError('internal', `cannot ${action}: ${reason}`, { cause: error });
}

/** True when a thrown value is a system error that means that a disk, a quota or the file table is full. */
export function isDiskFull(error: unknown): boolean {
  return error instanceof Error && 'code' in error && full.has(String(error.code));
}

/** What a system error says, without its code, call and path: "no such file or directory". Other errors: all they say. */
export function systemReason(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return /^[A-Z][A-Z0-9_]+: (.+?), \w+(?: '.*)?$/s.exec(message)?.[1] ?? message;
}

/** True when a thrown value is a system error with this code, for example `ENOENT`. */
export function isSystemError(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
