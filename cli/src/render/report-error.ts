import { exitCodeOf, FarmError } from '@clipfarm/shared/errors';
import type { TextStream } from '../shell.ts';
import { createStyle } from './style.ts';
import { printable } from './text.ts';

/**
 * Writes what went wrong and what to do about it, as `error:` and `try:`.
 *
 * @returns the exit code that the error stands for.
 */
export function reportError(thrown: unknown, stream: TextStream, color: boolean): number {
  const error = FarmError.from(thrown);
  const style = createStyle(color);
  stream.write(`${style.bad('error:')} ${printable(error.message)}\n`);
  if (error.hint !== undefined) stream.write(`${style.bold('try:')} ${printable(error.hint)}\n`);
  return exitCodeOf(error.code);
}
