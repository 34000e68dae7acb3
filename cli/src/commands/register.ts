import type { Command } from 'commander';
import type { Context } from '../context.ts';
import type { RawOptions } from '../job-options.ts';

/** What a command does. Returns the exit code; errors are thrown as FarmError. */
export type Handler = (context: Context, operands: readonly string[], options: RawOptions) => Promise<number>;

/** Makes a handler into something that {@link act} can attach. */
export type Run = (handler: Handler) => (command: Command, operands: readonly string[]) => Promise<void>;

/** Adds a command to the program. */
export type Register = (program: Command, run: Run) => void;

/** Attaches a handler to a command, whatever number of operands it has. */
export function act(command: Command, run: Run, handler: Handler): void {
  const start = run(handler);
  command.action(() => start(command, command.args));
}

/** Examples at the end of a command's help. */
export function examples(lines: readonly string[]): string {
  const text = lines.map((line) => `  ${line}`).join('\n');
  return `\nExamples:\n${text}\n\nThe options of \`clipfarm --help\`, such as -o json and --coordinator, work here too.`;
}
