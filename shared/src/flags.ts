import { type ParseArgsOptionsConfig, parseArgs } from 'node:util';
import type { z } from 'zod';
import { FarmError } from './errors.ts';
import { firstProblem } from './field-problem.ts';

/**
 * Flags of a service: long ones only, no operands.
 *
 * @param help command that shows what is accepted; the error's hint.
 * @throws FarmError `invalid_argument` naming the flag that is unknown, lacks its value or takes none.
 */
export function parseFlags<T extends ParseArgsOptionsConfig>(argv: readonly string[], options: T, help: string) {
  try {
    return parseArgs({ args: [...argv], options, strict: true, allowPositionals: false }).values;
  } catch (cause) {
    throw new FarmError('invalid_argument', flagFault(cause), { hint: help, cause });
  }
}

/**
 * The error for what a schema found in the values of flags: the first problem, which names flag, value and what is accepted.
 *
 * @param given values by name of the flag, without its dashes
 * @param help command that shows what is accepted; the error's hint
 */
export function flagProblem(error: z.ZodError, given: Readonly<Record<string, unknown>>, help: string): FarmError {
  const { field, message } = firstProblem(error, given, '');
  return new FarmError('invalid_argument', `--${message}`, { field: `--${field}`, hint: help });
}

/** What Node says about an argument, in one line; its advice on positional arguments does not apply here. */
function flagFault(cause: unknown): string {
  const message = cause instanceof Error ? cause.message : String(cause);
  const flag = /'(--[\w-]+)/.exec(message)?.[1];
  if (flag !== undefined && message.includes('ambiguous')) {
    return `${flag}: the value is missing; one that begins with a dash is written ${flag}=-VALUE`;
  }
  return message.split(/\. |\n/)[0] ?? message;
}
