/** How a slot runs a model: what an operator writes into a profile file, and what the built-in profiles come to. */
import { isAbsolute } from 'node:path';
import { z } from 'zod';
import { FarmError } from '../errors.ts';
import { firstProblem } from '../field-problem.ts';
import { PROFILES, RUNNABLE_PROFILES, RUNNER_KINDS } from '../model/profiles.ts';
import { MAX_UNITS_TPP } from '../model/size.ts';

/** GPUs of one slot in upstream's 5-GPU mode. */
export const TPP_GPUS = 5;

/** Arguments and variables that the agent sets itself. */
const RESERVED_FLAGS: ReadonlySet<string> = new Set([
  ...['socket', 'checkout', 'ckpt-dir', 'lora', 'dtype', 'fp8', 'compile', 'tpp', 'python', 'ffmpeg', 'ffprobe'],
]);
const RESERVED_VARIABLES: ReadonlySet<string> = new Set(['CUDA_VISIBLE_DEVICES', 'PYTHONPATH']);

/**
 * Seconds from a grant to the first clip: text, reference and audio; compiling (133 s measured on an H200 with fp8 at
 * 704x384); upstream's whole start.
 */
const WARM_UP = { plain: 15, compiled: 150, script: 200 };

/** Bounds of `unload_idle_minutes`: six seconds, a week. */
export const MIN_UNLOAD_MINUTES = 0.1;
export const MAX_UNLOAD_MINUTES = 10_080;

/** Why `live-avatar-cli` is not told to unload. */
export const NOTHING_TO_UNLOAD = 'has no effect with runner live-avatar-cli, which keeps no model between leases';

const path = z
  .string()
  .max(4096)
  .refine((text) => isAbsolute(text) && !text.includes('\0'), 'an absolute path');
const program = z.string().regex(/^[^\0\s][^\0]{0,4095}$/, 'the name or the path of a program');
const variable = z.string().regex(/^[A-Z_][A-Z0-9_]{0,99}$/i, 'the name of an environment variable');
const gib = z.number().min(1).max(65_536);

/** Names whose values never reach a runner: they are the farm's own keys. */
const isSecret = (name: string): boolean => /^CLIPFARM_/i.test(name);

const ownVariable = variable
  .refine((name) => !RESERVED_VARIABLES.has(name), 'others; this one is set by the agent')
  .refine((name) => !isSecret(name), 'others; this one is not passed to runners');

const modelProfile = z
  .strictObject({
    name: z.string().regex(/^[a-z0-9][a-z0-9._-]{0,59}$/, '1 to 60 of a-z, 0-9, . _ and -'),
    runner: z.enum(RUNNER_KINDS, `${RUNNER_KINDS.join(', ')}`),
    /** Unmodified checkout of Live Avatar. */
    checkout: path.optional(),
    /** Directory of Wan2.2-S2V-14B. */
    ckpt_dir: path.optional(),
    /** liveavatar.safetensors; without it the plain model is run. */
    lora: path.optional(),
    /** Python that has upstream's requirements. */
    python: program.default('python3'),
    /** Python module that is run, for `live-avatar`. */
    module: z
      .string()
      .regex(/^[A-Za-z_]\w{0,99}(\.[A-Za-z_]\w{0,99}){0,9}$/, 'the name of a Python module')
      .default('live_avatar'),
    dtype: z.enum(['bf16', 'fp8'], 'bf16, fp8').default('bf16'),
    compile: z.boolean().default(false),
    /** Upstream's 5-GPU mode. */
    tpp: z.boolean().default(false),
    gpus_per_slot: z.number().int().min(0).max(16).optional(),
    memory_gib_per_gpu: gib.optional(),
    /** Memory of the host that a slot may use; goes before what the agent works out. */
    host_memory_gib: gib.optional(),
    /** Largest picture in units of 64x64 pixels. */
    max_units: z.number().int().min(1).max(MAX_UNITS_TPP).optional(),
    warm_up_seconds: z.number().min(0).max(3600).optional(),
    load_silence_seconds: z.number().min(10).max(86_400).default(900),
    /** Minutes without a lease after which the model gives its memory back; left out: it stays loaded. */
    unload_idle_minutes: z.number().min(MIN_UNLOAD_MINUTES).max(MAX_UNLOAD_MINUTES).optional(),
    /** Further arguments of the runner: `name: value` becomes `--name value`, `name: true` becomes `--name`. */
    flags: z
      .record(
        z
          .string()
          .regex(/^[a-z][a-z0-9-]{0,59}$/, 'the name of an argument without its dashes')
          .refine((name) => !RESERVED_FLAGS.has(name), 'others; this one is set by the agent'),
        z.union([z.boolean(), z.number(), z.string().max(4096)], 'true, false, a number, or at most 4096 characters'),
      )
      .default({}),
    env: z
      .strictObject({
        /** Names that are taken over from the agent's environment, beside those that every runner gets. */
        pass: z.array(ownVariable).max(50).default([]),
        set: z
          .record(
            ownVariable,
            z
              .string()
              .max(4096)
              .regex(/^[^\0]*$/, 'text without a zero byte'),
          )
          .default({}),
      })
      .default({ pass: [], set: {} }),
  })
  .superRefine((profile, context) => {
    const refuse = (field: keyof typeof profile, message: string): void => {
      context.addIssue({ code: 'custom', path: [field], message });
    };
    if (PROFILES.some(({ name }) => name === profile.name)) refuse('name', 'others; this is a built-in profile');
    const { runner, tpp, gpus_per_slot: gpus } = profile;
    if (runner === 'live-avatar-cli' && profile.unload_idle_minutes !== undefined) {
      refuse('unload_idle_minutes', `nothing; it ${NOTHING_TO_UNLOAD}`);
    }
    if (runner === 'synthetic') {
      if (tpp) refuse('tpp', 'false, because a synthetic runner has no GPUs');
      if (gpus !== undefined && gpus > 0) refuse('gpus_per_slot', '0, because a synthetic runner has no GPUs');
    } else if (tpp && gpus !== undefined && gpus !== TPP_GPUS) {
      refuse('gpus_per_slot', `${TPP_GPUS} with tpp`);
    } else if (!tpp && gpus !== undefined && gpus !== 1) {
      refuse('gpus_per_slot', '1 without tpp, because nothing in this version splits the model over cards');
    }
  });

/** A profile as it is written in a file. */
export type ModelProfileSource = z.input<typeof modelProfile>;

/** A checked profile, with every default filled in. */
export interface ModelProfile extends Omit<z.output<typeof modelProfile>, 'gpus_per_slot' | 'warm_up_seconds'> {
  readonly gpus_per_slot: number;
  readonly warm_up_seconds: number;
}

/** Where things are on a host: what profiles leave open is taken from here. */
export interface HostPaths {
  readonly checkout?: string;
  readonly ckpt_dir?: string;
  readonly lora?: string;
  readonly python?: string;
}

/**
 * Checks one profile and fills in what it leaves open.
 *
 * @param where names it in messages, such as `profiles[0]`
 * @throws FarmError `invalid_argument` naming the field, its value and what is accepted
 */
export function checkModelProfile(source: unknown, where: string, host: HostPaths = {}): ModelProfile {
  const given = typeof source === 'object' && source !== null ? { ...host, ...source } : source;
  const found = modelProfile.safeParse(given);
  if (!found.success) {
    const { field, message } = firstProblem(found.error, given, where, (key) => key);
    throw new FarmError('invalid_argument', message, { field });
  }
  const profile = found.data;
  const { runner, tpp, compile } = profile;
  if (runner !== 'synthetic') {
    for (const [field, flag] of [
      ['checkout', '--checkout'],
      ['ckpt_dir', '--ckpt-dir'],
      ['lora', '--lora'],
    ] as const) {
      // The farm's own runner can run the plain model; upstream's script would download the LoRA.
      if (profile[field] !== undefined || (field === 'lora' && runner === 'live-avatar')) continue;
      // A built-in profile has no place of its own for it.
      const place = where.startsWith('--') ? flag : `${where}.${field}`;
      throw new FarmError('invalid_argument', `${place}: is missing; accepted: an absolute path`, {
        field: place,
        hint: `Give it in the profile, or to the agent with ${flag}.`,
      });
    }
  }
  const warmUp = runner === 'live-avatar-cli' ? WARM_UP.script : compile ? WARM_UP.compiled : WARM_UP.plain;
  return {
    ...profile,
    gpus_per_slot: runner === 'synthetic' ? 0 : tpp ? TPP_GPUS : 1,
    warm_up_seconds: profile.warm_up_seconds ?? (runner === 'synthetic' ? 0 : warmUp),
  };
}

/**
 * A built-in profile with a model, as an operator would have written it.
 *
 * @param change overrides of the command line
 * @throws FarmError `failed_precondition` for one that has no runner yet; `invalid_argument` as {@link checkModelProfile}
 */
export function builtInModelProfile(
  name: string,
  host: HostPaths,
  change: { readonly dtype?: 'bf16' | 'fp8'; readonly compile?: boolean } = {},
): ModelProfile {
  const known = PROFILES.find((profile) => profile.name === name);
  if (known === undefined || known.dtype === null)
    throw new FarmError('internal', `no model runs with profile ${name}`);
  if (known.kind === 'pipe') {
    const why = "has no runner in this version: nothing splits the model over cards, so 24 GB cards can't render";
    const others = RUNNABLE_PROFILES.map((profile) => profile.name);
    throw new FarmError('failed_precondition', `--profile: "${name}": ${why}; there is: ${others.join(', ')}`, {
      field: '--profile',
      hint: 'Use single-48g-fp8 with cards of 48 GB or more.',
    });
  }
  const settings = { dtype: known.dtype, tpp: known.kind === 'tpp', ...change };
  // Checked under another name, because its own is taken.
  const checked = checkModelProfile({ name: 'built-in', runner: 'live-avatar', ...settings }, '--profile', host);
  return { ...checked, name };
}
