import { access, constants } from 'node:fs/promises';
import { delimiter, isAbsolute, join, resolve } from 'node:path';
import { FarmError } from '@clipfarm/shared/errors';
import type { GpuReading } from '@clipfarm/shared/gpu/nvidia-smi';
import { builtInModelProfile, type ModelProfile, NOTHING_TO_UNLOAD } from '@clipfarm/shared/live-avatar/model-profile';
import { dtypeFor, hasOpenDtype } from '@clipfarm/shared/live-avatar/open-dtype';
import { readProfileFile } from '@clipfarm/shared/live-avatar/profile-file';
import { PROFILES, RUNNABLE_PROFILES } from '@clipfarm/shared/model/profiles';
import type { AgentConfig } from './config.ts';
import { formSlots } from './gpu/form-slots.ts';
import { furtherArgs, modelRunnerProfile, type RunnerHostPrograms } from './model-runner-profile.ts';
import type { RunnerProfile } from './profile.ts';
import { runnerEnvironment } from './runner/runner-environment.ts';
import { type SyntheticSettings, syntheticProfile } from './synthetic-profile.ts';

/** What an agent is asked to run: the profile `synthetic`, or one with a model or an operator's own. */
export type ChosenProfile =
  | {
      readonly kind: 'synthetic';
      readonly settings: SyntheticSettings;
      readonly name: string;
      /** Where the operator's own profile says it. */
      readonly unloadIdleMinutes?: number;
    }
  | {
      readonly kind: 'model';
      readonly profile: ModelProfile;
      /** The cards decide the number format. */
      readonly openDtype?: boolean;
    };

type Environment = Readonly<Record<string, string | undefined>>;

type Wanted = Pick<
  AgentConfig,
  'profile' | 'profilesFile' | 'host' | 'model' | 'synthetic' | 'slots' | 'gpus' | 'unloadIdleMinutes'
>;

/**
 * Finds the profile that the command line names, before anything is started.
 *
 * @throws FarmError naming the flag or the place in the file; `failed_precondition` for a profile without a runner
 */
export async function chooseProfile(config: Wanted, env: Environment): Promise<ChosenProfile> {
  const { profile: name, profilesFile, host, model, synthetic } = config;
  const builtIn = PROFILES.some((profile) => profile.name === name);
  if (name === 'synthetic') return { kind: 'synthetic', settings: synthetic, name };
  if (builtIn) {
    const openDtype = hasOpenDtype(name) && model.dtype === undefined;
    return { ...(await withPython(builtInModelProfile(name, host, model), env)), openDtype };
  }
  const own = profilesFile === undefined ? [] : await readProfileFile(profilesFile, host);
  const profile = own.find((candidate) => candidate.name === name);
  if (profile === undefined) {
    const names = [...RUNNABLE_PROFILES, ...own].map((known) => known.name);
    throw new FarmError('invalid_argument', `--profile: "${name}": is not known; there is: ${names.join(', ')}`, {
      field: '--profile',
    });
  }
  if (profile.runner === 'live-avatar-cli' && config.unloadIdleMinutes !== undefined) {
    throw new FarmError('invalid_argument', `--unload-idle-minutes: ${NOTHING_TO_UNLOAD}`, {
      field: '--unload-idle-minutes',
      hint: 'Leave it out.',
    });
  }
  if (profile.runner !== 'synthetic') return withPython(profile, env);
  const { unload_idle_minutes: minutes } = profile;
  const unload = minutes === undefined ? {} : { unloadIdleMinutes: minutes };
  return { kind: 'synthetic', settings: syntheticSettings(profile), name, ...unload };
}

/** The profile with the whole path of its Python, because not every runner looks it up. */
async function withPython(
  profile: ModelProfile,
  env: Environment,
): Promise<Extract<ChosenProfile, { readonly kind: 'model' }>> {
  return { kind: 'model', profile: { ...profile, python: await findProgram(profile.python, env.PATH ?? '') } };
}

/** @throws FarmError `failed_precondition` when there is no such program */
async function findProgram(program: string, path: string): Promise<string> {
  const candidates = program.includes('/')
    ? [resolve(program)]
    : path.split(delimiter).map((dir) => join(dir, program));
  for (const candidate of candidates) {
    const runnable = await access(candidate, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (runnable && isAbsolute(candidate)) return candidate;
  }
  throw new FarmError('failed_precondition', `--python: "${program}": there is no such program`, {
    field: '--python',
    hint: 'clipfarm doctor --gpu',
  });
}

/** A slot's runner for every slot that the agent offers. */
export function slotProfiles(
  chosen: ChosenProfile,
  config: Pick<Wanted, 'slots' | 'gpus' | 'unloadIdleMinutes'>,
  host: { readonly gpus: readonly GpuReading[]; readonly memoryBytes: number; readonly programs: RunnerHostPrograms },
): readonly RunnerProfile[] {
  const { programs } = host;
  if (chosen.kind === 'synthetic') {
    const env = runnerEnvironment(programs.env, {});
    const unload = unloadMillis(chosen.unloadIdleMinutes ?? config.unloadIdleMinutes);
    const profile = { ...syntheticProfile(chosen.settings, programs.node, env, chosen.name), ...unload };
    const count = config.slots === undefined || config.slots === 'auto' ? 1 : config.slots;
    return Array.from({ length: count }, () => profile);
  }
  const wish = { slots: config.slots ?? 'auto', gpus: config.gpus, hostBytes: host.memoryBytes } as const;
  const visible = config.gpus === undefined ? visibleGpus(host.gpus, programs.env.CUDA_VISIBLE_DEVICES) : host.gpus;
  const used = config.gpus === undefined ? visible : visible.filter(({ index }) => config.gpus?.includes(index));
  const dtype = chosen.openDtype ? dtypeFor(used) : chosen.profile.dtype;
  const profile = { ...chosen.profile, dtype };
  const unload = unloadMillis(profile.unload_idle_minutes ?? config.unloadIdleMinutes);
  return formSlots(profile, visible, wish).map((slot) => ({
    ...modelRunnerProfile(profile, slot, programs),
    ...unload,
  }));
}

function unloadMillis(minutes: number | undefined): Pick<RunnerProfile, 'unloadIdleMillis'> {
  return { unloadIdleMillis: minutes === undefined ? null : minutes * 60_000 };
}

/**
 * The GPUs that the agent itself was given by CUDA's own variable, numbers or identities, in its order; all without it.
 * As CUDA does, what follows on something unknown does not count.
 */
export function visibleGpus(found: readonly GpuReading[], variable: string | undefined): readonly GpuReading[] {
  if (variable === undefined) return found;
  const visible: GpuReading[] = [];
  for (const text of variable.split(',').map((part) => part.trim())) {
    const isIndex = /^\d{1,3}$/.test(text);
    const gpu = found.find(({ index, uuid }) =>
      isIndex ? index === Number(text) : text !== '' && uuid.startsWith(text),
    );
    if (gpu === undefined || visible.includes(gpu)) break;
    visible.push(gpu);
  }
  return visible;
}

/** What an operator's own synthetic profile declares. */
function syntheticSettings(profile: ModelProfile): SyntheticSettings {
  const { flags, warm_up_seconds: warmUpSeconds } = profile;
  const number = (name: string): number | undefined => {
    const value = flags[name];
    if (value === undefined || typeof value === 'number') return value;
    throw new FarmError('invalid_argument', `flags.${name}: ${JSON.stringify(value)}: accepted: a number`, {
      field: `flags.${name}`,
    });
  };
  const own = ['seconds-per-clip', 'load-seconds', 'memory-gib', 'warm-up-seconds'];
  const rest = Object.fromEntries(Object.entries(flags).filter(([name]) => !own.includes(name)));
  return {
    secondsPerClip: number('seconds-per-clip') ?? 0,
    warmUpSeconds: number('warm-up-seconds') ?? warmUpSeconds,
    loadSeconds: number('load-seconds') ?? 0,
    memoryGib: number('memory-gib') ?? profile.memory_gib_per_gpu,
    runnerArgs: furtherArgs({ flags: rest }),
  };
}
