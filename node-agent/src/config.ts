import { join, resolve } from 'node:path';
import { formatAddress, parseAddress } from '@clipfarm/shared/address';
import { FarmError } from '@clipfarm/shared/errors';
import { flagProblem, parseFlags } from '@clipfarm/shared/flags';
import { type HostPaths, MAX_UNLOAD_MINUTES, MIN_UNLOAD_MINUTES } from '@clipfarm/shared/live-avatar/model-profile';
import { type LogLevel, logLevels } from '@clipfarm/shared/log';
import { PROFILES, RUNNABLE_PROFILES } from '@clipfarm/shared/model/profiles';
import { z } from 'zod';
import type { SyntheticSettings } from './synthetic-profile.ts';

/** Help of the agent. */
export const USAGE = `Usage: clipfarm agent [options]

Runs the node agent: offers this host's slots to a coordinator, renders the clips that it is given, hands them in.
One agent serves all slots of a host. SIGTERM finishes the clip in hand and leaves; a second one leaves at once.
SIGUSR2 makes every slot without a lease give its model's memory back until its next lease.

  --coordinator HOST:PORT[,HOST:PORT]...
                            where to dial (default $CLIPFARM_COORDINATOR or 127.0.0.1:7400)
  --name NAME               label of this node (default: the host's name)
  --pool NAME               pool that this node belongs to (default "default")
  --state-dir DIR           identity, inputs and spool (default $CLIPFARM_HOME/agent or ~/.clipfarm/agent)
  --token-file FILE         bearer token for the coordinator (default $CLIPFARM_TOKEN_FILE)
  --tls-ca FILE, --tls-cert FILE, --tls-key FILE
                            PEM files; beyond this machine --tls-ca is required
                            (default $CLIPFARM_TLS_CA, $CLIPFARM_TLS_CERT, $CLIPFARM_TLS_KEY)
  --insecure                plaintext to another machine (never on a network that others use)
  --profile NAME            how slots run the model (default synthetic); those of --profiles, and
                            ${RUNNABLE_PROFILES.map(({ name }) => name).join(', ')}
  --profiles FILE           YAML file with profiles of your own (docs/live-avatar.md)
  --slots N|auto            slots of this host, 1 to 16; auto: as many as its GPUs make (default: 1 synthetic slot,
                            otherwise auto)
  --gpus N[,N]...           GPUs that may be used, by their index in nvidia-smi (default: all that the profile can run on)
  --unload-idle-minutes N   a slot without a lease for so long gives the model's memory back, and loads it again for the
                            next lease, which then begins later (default: the model stays loaded)
  --spool-max-bytes N       finished chunks kept while they can't be handed in (default 4294967296)
  --cache-max-bytes N       inputs kept for further leases (default 8589934592)
  --ffmpeg FILE, --ffprobe FILE
                            where FFmpeg is, if not on the PATH
  --admin HOST:PORT         serve /metrics, /livez, /readyz (default: not served)
  --log-level LEVEL         ${logLevels.join(', ')} (default info)
  --log-pretty              readable lines instead of JSON
  --help

Profiles with a model (what a profile of your own leaves open is taken from here, too):
  --checkout DIR            unmodified checkout of Live Avatar
  --ckpt-dir DIR            directory of Wan2.2-S2V-14B
  --lora FILE               liveavatar.safetensors
  --python FILE             Python with Live Avatar's requirements (default python3)
  --dtype bf16|fp8          number format of the weights, for built-in profiles (default: the profile's)
  --compile                 compile the model, for built-in profiles: slow at first, faster later

Profile synthetic:
  --seconds-per-clip S      least time per clip; 0 renders as fast as the CPU can (default 0)
  --warm-up-seconds S       before the first clip of a picture size (default 0)
  --load-seconds S          that loading the model takes (default 0)
  --memory-gib N            memory of the pretended GPU (default: enough)
  --runner-arg ARG          passed to the runner as it is; may be repeated

Examples: clipfarm agent --coordinator 127.0.0.1:7400 --profile synthetic --slots 2 --seconds-per-clip 0.5
          clipfarm agent --coordinator farm:7400 --tls-ca ca.pem --profile single-80g --checkout /opt/LiveAvatar \\
            --ckpt-dir /data/Wan2.2-S2V-14B --lora /data/liveavatar.safetensors
`;

const HELP = 'clipfarm agent --help';

const seconds = z
  .string()
  .regex(/^\d+(\.\d+)?$/, 'a number of seconds, 0 or more')
  .transform(Number);
const bytes = z
  .string()
  .regex(/^\d{1,16}$/, 'a whole number of bytes')
  .transform(Number)
  .refine((value) => value >= 2 ** 20, 'at least 1048576 (1 MiB)');
const label = z.string().regex(/^[\x21-\x7e]{1,100}$/, '1 to 100 printable ASCII characters without blanks');
const file = z
  .string()
  .refine((path) => path !== '', 'a path')
  .transform((path) => resolve(path));

const program = z.string().refine((name) => name !== '', 'the name or the path of a program');

const schema = z.strictObject({
  coordinator: z.string(),
  name: label,
  pool: label.default('default'),
  'state-dir': file,
  'token-file': file.optional(),
  'tls-ca': file.optional(),
  'tls-cert': file.optional(),
  'tls-key': file.optional(),
  insecure: z.boolean().default(false),
  profile: z.string().default('synthetic'),
  profiles: file.optional(),
  slots: z
    .string()
    .regex(/^(\d+|auto)$/, 'a whole number or auto')
    .transform((text) => (text === 'auto' ? text : Number(text)))
    .refine((value) => value === 'auto' || (value >= 1 && value <= 16), '1 to 16')
    .optional(),
  gpus: z
    .string()
    .regex(/^\d{1,3}(,\d{1,3})*$/, 'numbers of GPUs, such as 0,1')
    .transform((text) => text.split(',').map(Number))
    .refine((gpus) => new Set(gpus).size === gpus.length, 'each number once')
    .optional(),
  checkout: file.optional(),
  'ckpt-dir': file.optional(),
  lora: file.optional(),
  python: program.optional(),
  dtype: z.enum(['bf16', 'fp8'], 'bf16 or fp8').optional(),
  compile: z.boolean().default(false),
  'unload-idle-minutes': z
    .string()
    .regex(/^\d+(\.\d+)?$/, 'a number of minutes')
    .transform(Number)
    .refine(
      (value) => value >= MIN_UNLOAD_MINUTES && value <= MAX_UNLOAD_MINUTES,
      `${MIN_UNLOAD_MINUTES} to ${MAX_UNLOAD_MINUTES} minutes`,
    )
    .optional(),
  'spool-max-bytes': bytes.default(4 * 2 ** 30),
  'cache-max-bytes': bytes.default(8 * 2 ** 30),
  ffmpeg: program.optional(),
  ffprobe: program.optional(),
  admin: z.string().optional(),
  'log-level': z.enum(logLevels, `one of ${logLevels.join(', ')}`).default('info'),
  'log-pretty': z.boolean().default(false),
  'seconds-per-clip': seconds.default(0),
  'warm-up-seconds': seconds.default(0),
  'load-seconds': seconds.default(0),
  'memory-gib': z
    .string()
    .regex(/^\d+(\.\d+)?$/, 'a number of GiB')
    .transform(Number)
    .refine((value) => value > 0, 'above 0')
    .optional(),
  'runner-arg': z.array(z.string()).default([]),
});

/** Settings of an agent. */
export interface AgentConfig {
  /** `host:port` of every coordinator, at least one. */
  readonly coordinators: readonly string[];
  readonly name: string;
  readonly pool: string;
  /** Absolute path. */
  readonly stateDir: string;
  readonly access: {
    readonly tokenPath?: string;
    readonly caPath?: string;
    readonly certPath?: string;
    readonly keyPath?: string;
    readonly insecure: boolean;
  };
  /** Name of a built-in profile or of one in `profilesFile`. */
  readonly profile: string;
  /** Absolute path. */
  readonly profilesFile: string | undefined;
  /** Undefined: what the profile makes of it. */
  readonly slots: number | 'auto' | undefined;
  /** Indices; undefined: all. */
  readonly gpus: readonly number[] | undefined;
  /** Where model and checkout are. */
  readonly host: HostPaths;
  /** What the command line changes about a built-in profile. */
  readonly model: { readonly dtype?: 'bf16' | 'fp8'; readonly compile?: boolean };
  readonly synthetic: SyntheticSettings;
  /** Minutes without a lease after which a model gives its memory back, where the profile does not say. */
  readonly unloadIdleMinutes: number | undefined;
  readonly spoolMaxBytes: number;
  readonly cacheMaxBytes: number;
  readonly ffmpeg: { readonly ffmpegPath?: string; readonly ffprobePath?: string };
  /** `host:port` for metrics and probes; undefined: not served. */
  readonly admin: string | undefined;
  readonly logLevel: LogLevel;
  readonly logPretty: boolean;
}

/** What of the surroundings gives defaults. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly hostName: string;
  readonly homeDir: string;
}

/**
 * Settings from flags and environment; null when help was asked for.
 *
 * @throws FarmError `invalid_argument` naming the flag, its value and what is accepted
 */
export function agentConfigFromArgs(
  argv: readonly string[],
  { env, hostName, homeDir }: Surroundings,
): AgentConfig | null {
  const { help, ...given } = givenFlags(argv);
  if (help === true) return null;
  const fromEnv = {
    coordinator: env.CLIPFARM_COORDINATOR || '127.0.0.1:7400',
    name: hostName.slice(0, 100),
    'state-dir': join(env.CLIPFARM_HOME || join(homeDir, '.clipfarm'), 'agent'),
    'token-file': env.CLIPFARM_TOKEN_FILE || undefined,
    'tls-ca': env.CLIPFARM_TLS_CA || undefined,
    'tls-cert': env.CLIPFARM_TLS_CERT || undefined,
    'tls-key': env.CLIPFARM_TLS_KEY || undefined,
  };
  const parsed = schema.safeParse({ ...fromEnv, ...given });
  if (!parsed.success) throw flagProblem(parsed.error, { ...fromEnv, ...given }, HELP);
  const flags = parsed.data;
  checkProfile(flags.profile, flags.profiles);
  checkEffects(flags.profile, given);
  if (flags.admin !== undefined) parseAddress(flags.admin, '--admin');
  return {
    coordinators: flags.coordinator.split(',').map((text) => formatAddress(parseAddress(text.trim(), '--coordinator'))),
    name: flags.name,
    pool: flags.pool,
    stateDir: flags['state-dir'],
    access: {
      ...optional('tokenPath', flags['token-file']),
      ...optional('caPath', flags['tls-ca']),
      ...optional('certPath', flags['tls-cert']),
      ...optional('keyPath', flags['tls-key']),
      insecure: flags.insecure,
    },
    profile: flags.profile,
    profilesFile: flags.profiles,
    slots: flags.slots,
    gpus: flags.gpus,
    host: {
      ...optional('checkout', flags.checkout),
      ...optional('ckpt_dir', flags['ckpt-dir']),
      ...optional('lora', flags.lora),
      ...optional('python', flags.python),
    },
    model: { ...optional('dtype', flags.dtype), ...(flags.compile ? { compile: true } : {}) },
    synthetic: {
      secondsPerClip: flags['seconds-per-clip'],
      warmUpSeconds: flags['warm-up-seconds'],
      loadSeconds: flags['load-seconds'],
      memoryGib: flags['memory-gib'],
      runnerArgs: flags['runner-arg'],
    },
    unloadIdleMinutes: flags['unload-idle-minutes'],
    spoolMaxBytes: flags['spool-max-bytes'],
    cacheMaxBytes: flags['cache-max-bytes'],
    ffmpeg: { ...optional('ffmpegPath', flags.ffmpeg), ...optional('ffprobePath', flags.ffprobe) },
    admin: flags.admin,
    logLevel: flags['log-level'],
    logPretty: flags['log-pretty'],
  };
}

/** An optional property: absent, not undefined, when there is no value. */
function optional<K extends string, V>(key: K, value: V | undefined): { readonly [P in K]?: V } {
  return (value === undefined ? {} : { [key]: value }) as { readonly [P in K]?: V };
}

function givenFlags(argv: readonly string[]): Readonly<Record<string, unknown>> {
  const options: Record<string, { type: 'string' | 'boolean'; multiple?: boolean }> = { help: { type: 'boolean' } };
  for (const flag of Object.keys(schema.shape)) options[flag] = { type: 'string' };
  for (const flag of ['insecure', 'log-pretty', 'compile']) options[flag] = { type: 'boolean' };
  options['runner-arg'] = { type: 'string', multiple: true };
  return parseFlags(argv, options, HELP);
}

/** Flags that say how a model is run. */
const modelFlags = ['profiles', 'gpus', 'checkout', 'ckpt-dir', 'lora', 'python', 'dtype', 'compile'];

/** Flags that say how the built-in profile without a model pretends. */
const syntheticFlags = ['seconds-per-clip', 'warm-up-seconds', 'load-seconds', 'memory-gib', 'runner-arg'];

/** A flag that a built-in profile would not even look at was meant for another one. */
function checkEffects(profile: string, given: Readonly<Record<string, unknown>>): void {
  if (!PROFILES.some(({ name }) => name === profile)) return;
  const useless = profile === 'synthetic' ? modelFlags : syntheticFlags;
  const flag = useless.find((name) => given[name] !== undefined);
  if (flag === undefined) return;
  throw new FarmError('invalid_argument', `--${flag}: has no effect with --profile ${profile}`, {
    field: `--${flag}`,
    hint: 'Name the profile that it is meant for with --profile NAME, or leave it out.',
  });
}

/** Without a file of profiles only the built-in ones can be meant. */
function checkProfile(profile: string, profilesFile: string | undefined): void {
  if (profilesFile !== undefined || PROFILES.some(({ name }) => name === profile)) return;
  const names = RUNNABLE_PROFILES.map(({ name }) => name);
  throw new FarmError('invalid_argument', `--profile: "${profile}": is not known; there is: ${names.join(', ')}`, {
    field: '--profile',
    hint: 'Give the file with your own profiles: --profiles FILE',
  });
}
