import { parseArgs } from 'node:util';
import { FarmError } from '@clipfarm/shared/errors';
import { z } from 'zod';
import { type RunnerErrorClass, runnerErrorClasses } from '../../src/runner/protocol.ts';

/** A fault to show in the middle of a clip of the job, for tests of everything that has to cope with it. */
export interface Fault {
  readonly clip: number;
  readonly kind: 'fail' | 'hang' | 'crash';
  /** Class of the reported error; for `fail` only. */
  readonly errorClass?: RunnerErrorClass;
}

/** What the synthetic runner was told on its command line. */
export interface SyntheticOptions {
  /** Path of the agent's Unix socket. */
  readonly socket: string;
  /** Least time per clip in seconds; 0 renders as fast as the CPU can. */
  readonly secondsPerClip: number;
  /** Extra seconds before the first clip of each picture size, as compilation takes. */
  readonly warmUpSeconds: number;
  /** Seconds that loading the model takes. */
  readonly loadSeconds: number;
  /** Memory of the pretended GPU in bytes; absent means enough. */
  readonly memoryBytes?: number;
  /** Strength of the differences in appearance between spans; 0 is none, 1 is usual. */
  readonly drift: number;
  readonly faults: readonly Fault[];
  /** Bytes of the pretended GPU that an unload leaves behind; absent means none. */
  readonly unloadKeepsBytes?: number;
  /** A fault happens only while this file does not exist, and makes it. */
  readonly failOnceFile?: string;
  /** Each request for a span is appended to this file, as a line of JSON. */
  readonly requestLog?: string;
}

/** A decimal number from `min` to `max`, spelt without sign or exponent. */
function decimal(min: number, max: number) {
  const accepted = `accepted: a number of ${min} to ${max}`;
  return z
    .string()
    .regex(/^\d{1,9}(\.\d{1,18})?$/, accepted)
    .transform(Number)
    .refine((value) => value >= min && value <= max, accepted);
}

const seconds = decimal(0, 3600);
const clip = z
  .string()
  .regex(/^\d{1,9}$/, 'accepted: the number of a clip')
  .transform(Number);
const failure = z.string().transform((text, context): readonly [number, RunnerErrorClass] => {
  const [at, name] = text.split(':', 2);
  const errorClass = runnerErrorClasses.find((candidate) => candidate === name);
  if (errorClass !== undefined && /^\d{1,9}$/.test(at ?? '')) return [Number(at), errorClass];
  context.addIssue(`accepted: CLIP:CLASS with one of ${runnerErrorClasses.join(', ')}`);
  return z.NEVER;
});

const schema = z.object({
  socket: z.string('accepted: the path of a Unix socket').min(1),
  'seconds-per-clip': seconds.default(0),
  'warm-up-seconds': seconds.default(0),
  'load-seconds': seconds.default(0),
  'memory-gib': decimal(1, 4096).optional(),
  drift: decimal(0, 5).default(1),
  'fail-at-clip': z.array(failure).default([]),
  'hang-at-clip': z.array(clip).default([]),
  'crash-at-clip': z.array(clip).default([]),
  'unload-keeps-gib': decimal(0, 4096).optional(),
  'fail-once-file': z.string().min(1).optional(),
  'request-log': z.string().min(1).optional(),
});

/** The command line's shape, for error messages. */
const USAGE = `usage: main.ts --socket PATH [--seconds-per-clip S] [--warm-up-seconds S] [--load-seconds S]
  [--memory-gib N] [--drift X] [--fail-at-clip CLIP:CLASS]... [--hang-at-clip CLIP]... [--crash-at-clip CLIP]...
  [--unload-keeps-gib N] [--fail-once-file PATH] [--request-log PATH]
CLASS is one of ${runnerErrorClasses.join(', ')}`;

/** Reads the arguments after the script's name. Throws FarmError `invalid_argument` that names the option. */
export function parseOptions(args: readonly string[]): SyntheticOptions {
  const given = split(args);
  const parsed = schema.safeParse(given);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const name = String(issue?.path[0] ?? '');
    const field = `--${name}`;
    const message = `${field} is ${JSON.stringify(given[name])}; ${issue?.message}`;
    throw new FarmError('invalid_argument', message, { field, hint: USAGE });
  }
  const { data } = parsed;
  const gib = data['memory-gib'];
  const kept = data['unload-keeps-gib'];
  const failOnceFile = data['fail-once-file'];
  const requestLog = data['request-log'];
  return {
    socket: data.socket,
    secondsPerClip: data['seconds-per-clip'],
    warmUpSeconds: data['warm-up-seconds'],
    loadSeconds: data['load-seconds'],
    drift: data.drift,
    ...(gib === undefined ? {} : { memoryBytes: gib * 2 ** 30 }),
    ...(kept === undefined ? {} : { unloadKeepsBytes: Math.round(kept * 2 ** 30) }),
    ...(failOnceFile === undefined ? {} : { failOnceFile }),
    ...(requestLog === undefined ? {} : { requestLog }),
    faults: [
      ...data['fail-at-clip'].map(([at, errorClass]) => ({ clip: at, kind: 'fail', errorClass }) as const),
      ...data['hang-at-clip'].map((at) => ({ clip: at, kind: 'hang' }) as const),
      ...data['crash-at-clip'].map((at) => ({ clip: at, kind: 'crash' }) as const),
    ],
  };
}

function split(args: readonly string[]): Readonly<Record<string, unknown>> {
  const one = { type: 'string' } as const;
  const many = { type: 'string', multiple: true } as const;
  try {
    return parseArgs({
      args: [...args],
      options: {
        socket: one,
        'seconds-per-clip': one,
        'warm-up-seconds': one,
        'load-seconds': one,
        'memory-gib': one,
        drift: one,
        'fail-at-clip': many,
        'hang-at-clip': many,
        'crash-at-clip': many,
        'unload-keeps-gib': one,
        'fail-once-file': one,
        'request-log': one,
      },
    }).values;
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new FarmError('invalid_argument', message, { hint: USAGE, cause });
  }
}
