import { FarmError } from '@clipfarm/shared/errors';
import { runTool } from '@clipfarm/shared/process';
import type { Context } from '../context.ts';
import { exitCode } from '../exit-code.ts';
import { flagValue, type RawOptions } from '../job-options.ts';
import { mainFile } from '../supervise/spawn-service.ts';
import { broken, type Check } from './check.ts';

/** Every server is asked, and a few writes are timed; one that does not answer takes seconds. */
const TIMEOUT_MS = 60_000;

const HELP = 'clipfarm doctor --help';

/** Options that mean to the coordinator what they mean here. */
export const journalOptions: readonly (readonly [flags: string, description: string])[] = [
  ['--journal <where>', 'check NATS for a journal, nats://HOST[:PORT][,HOST...], in place of a running farm'],
  ['--nats-prefix <name>', 'tells farms on the same NATS apart'],
  ['--nats-credentials <file>', 'NATS user as nsc writes it'],
  ['--nats-ca <file>', 'PEM file: who signed the certificates of the servers'],
  ['--nats-cert <file>', 'PEM file: certificate for the servers'],
  ['--nats-key <file>', 'PEM file: its key'],
  ['--nats-monitor <urls>', 'HTTP monitoring of the servers, comma-separated; tells whether writes are synced'],
  ['--nats-replicas <n>', 'copies of everything'],
];

/** The same by their names: `--nats-ca`. */
export const journalFlags: readonly string[] = journalOptions.map(([flags]) => flags.split(' ')[0] ?? '');

/** What the coordinator program found. */
interface Finding {
  readonly check: string;
  readonly level: 'ok' | 'warning' | 'error';
  readonly detail: string;
  readonly fix?: string;
}

/**
 * Has the coordinator program look at the NATS that a farm would keep its journal in, with the same options.
 *
 * @throws FarmError `invalid_argument` when it refuses one of them
 */
export async function checkJournal(context: Context, options: RawOptions): Promise<Check[]> {
  const argv = journalFlags.flatMap((flag) => {
    const value = flagValue(options, optionKey(flag));
    return value === undefined ? [] : [flag, value];
  });
  try {
    const { stdout } = await runTool(process.execPath, [mainFile('coordinator'), '--check-journal', ...argv], {
      timeoutMs: TIMEOUT_MS,
      signal: context.shell.interrupted,
      // The coordinator's own program, which may find its options there.
      env: process.env,
    });
    return (JSON.parse(stdout.toString()) as readonly Finding[]).map(checkOf);
  } catch (error) {
    if (context.shell.interrupted.aborted) throw error;
    const { message } = FarmError.from(error);
    // What the program wrote as its error, without how it ended.
    const [, status, words] = / ended with status (\d+): error: (.+?)(?:\ntry: |$)/s.exec(message) ?? [];
    if (words === undefined) return [broken('journal', error, HELP)];
    const own = new FarmError('invalid_argument', words, { hint: HELP, cause: error });
    if (Number(status) === exitCode.usage) throw own;
    return [broken('journal', own, HELP)];
  }
}

function checkOf({ check, level, detail, fix }: Finding): Check {
  const unsafe = level === 'warning' ? { unsafe: true } : {};
  return { name: check, ok: level !== 'error', ...unsafe, detail, ...(fix === undefined ? {} : { fix }) };
}

/** The name that commander gives an option: `--nats-ca` becomes `natsCa`. */
export function optionKey(flag: string): string {
  return flag.slice(2).replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
