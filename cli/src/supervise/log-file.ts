import { closeSync, openSync, readSync, renameSync, statSync } from 'node:fs';

/** Size in bytes above which a log is set aside at the next start; one older log is kept. */
const MAX_BYTES = 16 * 1024 * 1024;

/**
 * Opens a log file for a service to append to. The service writes to it directly, so that nothing is lost when this
 * process ends first.
 *
 * @returns the file descriptor; close it once the service has it.
 */
export function openLog(path: string): number {
  if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > MAX_BYTES) renameSync(path, `${path}.1`);
  return openSync(path, 'a');
}

/**
 * The last lines of a log, for an error message. Empty when there is none.
 *
 * @param from bytes at the beginning that an earlier process wrote; nothing of them is returned.
 */
export function tailOfLog(path: string, lines: number, from: number): string[] {
  const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  if (size <= from) return [];
  const length = Math.min(size - from, 64 * 1024);
  const buffer = Buffer.alloc(length);
  const file = openSync(path, 'r');
  try {
    readSync(file, buffer, 0, length, size - length);
  } finally {
    closeSync(file);
  }
  return buffer.toString('utf8').trimEnd().split('\n').slice(-lines);
}
