import { fileURLToPath } from 'node:url';
import { GIB } from '@clipfarm/shared/model/gpu-cost';
import { profileOf } from '@clipfarm/shared/model/profiles';
import type { RunnerProfile } from './profile.ts';

/** What the operator declares for synthetic slots. */
export interface SyntheticSettings {
  /** Least seconds per clip; 0 renders as fast as the CPU can. */
  readonly secondsPerClip: number;
  /** Seconds before the first clip of a picture size. */
  readonly warmUpSeconds: number;
  /** Seconds that loading takes. */
  readonly loadSeconds: number;
  /** Memory of the pretended GPU in GiB; undefined means enough. */
  readonly memoryGib: number | undefined;
  /** Further arguments of the runner. */
  readonly runnerArgs: readonly string[];
}

const MAIN = fileURLToPath(new URL('../runner/synthetic/main.ts', import.meta.url));

/** Milliseconds that a start of Node may take on a host that is busy rendering. */
const HELLO_MILLIS = 30_000;

/**
 * The profile `synthetic`: no GPU, at a declared speed.
 *
 * @param node path of the Node program that runs the runner
 * @param env the runner's whole environment
 * @param name of the profile, where an operator gave it one
 */
export function syntheticProfile(
  settings: SyntheticSettings,
  node: string,
  env: Readonly<Record<string, string>>,
  name = 'synthetic',
): RunnerProfile {
  const { secondsPerClip, warmUpSeconds, loadSeconds, memoryGib, runnerArgs } = settings;
  const memory = memoryGib === undefined ? [] : ['--memory-gib', String(memoryGib)];
  return {
    runner: {
      command: node,
      args: [
        MAIN,
        ...['--seconds-per-clip', String(secondsPerClip)],
        ...['--warm-up-seconds', String(warmUpSeconds)],
        ...['--load-seconds', String(loadSeconds)],
        ...memory,
        ...runnerArgs,
      ],
      env,
    },
    capabilities: { setEnd: true, continues: true },
    helloMillis: HELLO_MILLIS,
    loadSilenceMillis: loadSeconds * 1000 + HELLO_MILLIS,
    unloadIdleMillis: null,
    slot: {
      profile: name,
      runnerKind: 'synthetic',
      gpus: [],
      memoryBytes: Math.floor((memoryGib ?? 0) * GIB),
      maxUnits: profileOf('synthetic').maxUnits,
      declaredSecondsPerClip: secondsPerClip,
      warmUpSeconds,
      ...{ dtype: '', compiled: false, tpp: false, hostMemoryBytes: 0 },
    },
  };
}
