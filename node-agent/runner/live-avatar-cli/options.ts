import { isAbsolute } from 'node:path';
import { parseArgs } from 'node:util';
import { FarmError } from '@clipfarm/shared/errors';
import { z } from 'zod';

/** What the runner was told on its command line: how to run upstream's own script on this host. */
export interface CliOptions {
  /** Path of the agent's Unix socket. */
  readonly socket: string;
  /** Name or path of a Python that has upstream's requirements, usually of a virtual environment. */
  readonly python: string;
  /** Unmodified checkout of Live Avatar. */
  readonly checkout: string;
  /** Folder of Wan2.2-S2V-14B. */
  readonly ckptDir: string;
  /** Live Avatar's weights, a .safetensors file; without them the plain model is run. */
  readonly lora: string | undefined;
  /** Training settings that belong to the weights; upstream's own unless given. */
  readonly trainingConfig: string | undefined;
  /** fp8 weights; needs compute capability 8.9 or later. */
  readonly fp8: boolean;
  /** torch.compile. */
  readonly compile: boolean;
  /** Upstream's mode on five GPUs. */
  readonly tpp: boolean;
  /** Text encoder on the CPU. */
  readonly t5Cpu: boolean;
  /** Caches in host memory; one GPU only. */
  readonly offloadKvCache: boolean;
  /** Upstream's early decoding of the first clip, which refreshes the anchor; one GPU only. */
  readonly onlineDecode: boolean;
  /** Factor on every limit of time; above 1 on slow hosts. */
  readonly patience: number;
  /** Folder in which the runner makes one of its own for each range. */
  readonly workDir: string;
  readonly ffmpeg: string;
  readonly ffprobe: string;
}

const USAGE = `usage: main.ts --socket PATH --python FILE --checkout DIR --ckpt-dir DIR [--lora FILE]
  [--training-config FILE] [--fp8] [--compile] [--tpp] [--t5-cpu] [--offload-kv-cache] [--online-decode]
  [--patience FACTOR] [--work-dir DIR] [--ffmpeg FILE] [--ffprobe FILE]`;

const absolute = z
  .string('accepted: an absolute path')
  .refine((path) => isAbsolute(path) && !path.includes('\0'), 'accepted: an absolute path');

const patience = z
  .string()
  .regex(/^\d{1,4}(\.\d{1,6})?$/, 'accepted: a number of 0.001 to 1000')
  .transform(Number)
  .refine((value) => value >= 0.001 && value <= 1000, 'accepted: a number of 0.001 to 1000');

const flag = z.boolean().default(false);

const schema = z.object({
  socket: z.string('accepted: the path of a Unix socket').min(1),
  python: z
    .string('accepted: the name or the path of a program')
    .regex(/^[^\0\s-][^\0]*$/, 'accepted: the name or the path of a program'),
  checkout: absolute,
  'ckpt-dir': absolute,
  // Upstream downloads 1.35 GB into its working directory for a name of the hub; a file is explicit and checkable.
  lora: absolute
    .refine((path) => path.endsWith('.safetensors'), 'accepted: the absolute path of a .safetensors file')
    .optional(),
  'training-config': absolute.optional(),
  fp8: flag,
  compile: flag,
  tpp: flag,
  't5-cpu': flag,
  'offload-kv-cache': flag,
  'online-decode': flag,
  patience: patience.default(1),
  'work-dir': absolute,
  ffmpeg: z.string().min(1).default('ffmpeg'),
  ffprobe: z.string().min(1).default('ffprobe'),
});

/**
 * Reads the arguments after the script's name. Throws FarmError `invalid_argument` that names the option.
 *
 * @param temporary folder to work in where none is given
 */
export function parseOptions(args: readonly string[], temporary: string): CliOptions {
  const given: Readonly<Record<string, unknown>> = { 'work-dir': temporary, ...split(args) };
  const parsed = schema.safeParse(given);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const name = String(issue?.path[0] ?? '');
    refuse(`--${name}`, `is ${JSON.stringify(given[name])}; ${issue?.message}`);
  }
  const { data } = parsed;
  // Upstream takes these silently in its mode on five GPUs, and does nothing about them.
  for (const name of ['offload-kv-cache', 'online-decode'] as const) {
    if (data.tpp && data[name]) refuse(`--${name}`, 'has no effect together with --tpp; accepted: one of the two');
  }
  // A plus sign in the path of the audio makes upstream look for several speakers.
  if (data['work-dir'].includes('+')) refuse('--work-dir', `is ${data['work-dir']}; accepted: a path without "+"`);
  return {
    ...{ socket: data.socket, python: data.python, checkout: data.checkout, lora: data.lora },
    ...{ fp8: data.fp8, compile: data.compile, tpp: data.tpp, patience: data.patience },
    ...{ ffmpeg: data.ffmpeg, ffprobe: data.ffprobe },
    ckptDir: data['ckpt-dir'],
    trainingConfig: data['training-config'],
    t5Cpu: data['t5-cpu'],
    offloadKvCache: data['offload-kv-cache'],
    onlineDecode: data['online-decode'],
    workDir: data['work-dir'],
  };
}

function split(args: readonly string[]): Readonly<Record<string, unknown>> {
  const text = { type: 'string' } as const;
  const on = { type: 'boolean' } as const;
  try {
    return parseArgs({
      args: [...args],
      options: {
        ...{ socket: text, python: text, checkout: text, 'ckpt-dir': text, lora: text, 'training-config': text },
        ...{ fp8: on, compile: on, tpp: on, 't5-cpu': on, 'offload-kv-cache': on, 'online-decode': on },
        ...{ patience: text, 'work-dir': text, ffmpeg: text, ffprobe: text },
      },
    }).values;
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new FarmError('invalid_argument', message, { hint: USAGE, cause });
  }
}

function refuse(field: string, what: string): never {
  throw new FarmError('invalid_argument', `${field} ${what}`, { field, hint: USAGE });
}
