import { delimiter } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ModelProfile } from '@clipfarm/shared/live-avatar/model-profile';
import { type SlotGpus, traitsOf } from './gpu/form-slots.ts';
import type { RunnerProfile } from './profile.ts';
import { runnerEnvironment } from './runner/runner-environment.ts';

/** What a runner process is started with beside its profile. */
export interface RunnerHostPrograms {
  /** Path of the Node program. */
  readonly node: string;
  readonly ffmpeg: string;
  readonly ffprobe: string;
  /** The agent's own environment. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Directory of the runners: the Python package `live_avatar`, and the others. */
const RUNNERS = fileURLToPath(new URL('../runner', import.meta.url));

/** Program that runs upstream's own script. */
const SCRIPT = fileURLToPath(new URL('../runner/live-avatar-cli/main.ts', import.meta.url));

/** Milliseconds that a Python with torch may take to begin on a busy host with a cold disk. */
const HELLO_MILLIS = 120_000;

/** How the runner of a slot is started, and what the slot tells of itself. */
export function modelRunnerProfile(profile: ModelProfile, slot: SlotGpus, programs: RunnerHostPrograms): RunnerProfile {
  const isScript = profile.runner === 'live-avatar-cli';
  const indices = slot.gpus.map(({ index }) => index);
  const python = [RUNNERS, ...(programs.env.PYTHONPATH ? [programs.env.PYTHONPATH] : [])].join(delimiter);
  const env = runnerEnvironment(programs.env, {
    ...passed(profile, programs.env),
    ...profile.env.set,
    // By number as the driver counts, which is what nvidia-smi shows, and not by speed.
    CUDA_DEVICE_ORDER: 'PCI_BUS_ID',
    CUDA_VISIBLE_DEVICES: indices.join(','),
    PYTHONUNBUFFERED: '1',
    ...(isScript ? {} : { PYTHONPATH: python }),
  });
  return {
    runner: {
      command: isScript ? programs.node : profile.python,
      args: isScript ? scriptArgs(profile, programs) : moduleArgs(profile),
      env,
    },
    capabilities: isScript ? { setEnd: false, continues: false } : { setEnd: true, continues: true },
    helloMillis: HELLO_MILLIS,
    loadSilenceMillis: profile.load_silence_seconds * 1000,
    unloadIdleMillis: null,
    slot: {
      ...traitsOf(profile),
      gpus: indices,
      memoryBytes: slot.memoryBytes,
      hostMemoryBytes: slot.hostMemoryBytes,
      maxUnits: profile.max_units ?? 0,
      declaredSecondsPerClip: 0,
      warmUpSeconds: profile.warm_up_seconds,
    },
  };
}

function passed({ env }: ModelProfile, host: RunnerHostPrograms['env']): Record<string, string> {
  const found = env.pass.map((name) => [name, host[name]] as const);
  return Object.fromEntries(found.filter((entry): entry is readonly [string, string] => entry[1] !== undefined));
}

function moduleArgs(profile: ModelProfile): string[] {
  const { module, dtype, compile, tpp } = profile;
  return [
    ...['-m', module, ...paths(profile), '--dtype', dtype],
    ...(compile ? ['--compile'] : []),
    ...(tpp ? ['--tpp'] : []),
    ...furtherArgs(profile),
  ];
}

function scriptArgs(profile: ModelProfile, { ffmpeg, ffprobe }: RunnerHostPrograms): string[] {
  const { python, dtype, compile, tpp } = profile;
  return [
    ...[SCRIPT, '--python', python, ...paths(profile), '--ffmpeg', ffmpeg, '--ffprobe', ffprobe],
    ...(dtype === 'fp8' ? ['--fp8'] : []),
    ...(compile ? ['--compile'] : []),
    ...(tpp ? ['--tpp'] : []),
    ...furtherArgs(profile),
  ];
}

function paths({ checkout = '', ckpt_dir = '', lora }: ModelProfile): string[] {
  return ['--checkout', checkout, '--ckpt-dir', ckpt_dir, ...(lora === undefined ? [] : ['--lora', lora])];
}

/** The profile's own arguments; `false` leaves one out. */
export function furtherArgs({ flags }: Pick<ModelProfile, 'flags'>): string[] {
  return Object.entries(flags).flatMap(([name, value]) => {
    if (typeof value === 'boolean') return value ? [`--${name}`] : [];
    return [`--${name}`, String(value)];
  });
}
