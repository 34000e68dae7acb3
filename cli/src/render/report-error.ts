import { exitCodeOf, FarmError } from '@clipfarm/shared/errors';
import type { TextStream } from '../shell.ts';
import { asTyped } from './program-name.ts';
import { createStyle } from './style.ts';
import { printable } from './text.ts';

/**
 * Writes what went wrong and what to do about it, as `error:` and `try:`.
 *
 * @param program what the user types to start this program.
 * @returns the exit code that the error stands for.
 */
export function reportError(thrown: unknown, stream: TextStream, color: boolean, program = 'clipfarm'): number {
  const error = FarmError.from(thrown);
  const style = createStyle(color);
  stream.write(`${style.bad('error:')} ${asTyped(printable(error.message), program)}\n`);
  if (error.hint !== undefined) {
    stream.write(`${style.bold('try:')} ${asTyped(printable(error.hint), program)}\n`);
  }
  return exitCodeOf(error.code);
}
