/**
 * How slots run the model: the built-in profiles, what a picture needs in memory, and how long a clip takes before
 * anybody measured it.
 */
import {
  type Dtype,
  decodeSeconds,
  type Execution,
  GIB,
  pipeMemoryBytes,
  singleMemoryBytes,
  stepSeconds,
  streamingMemoryBytes,
  tppMemoryBytes,
  upstreamDecodeSeconds,
} from './gpu-cost.ts';
import type { HostUse } from './host-cost.ts';
import { MAX_UNITS_SINGLE, MAX_UNITS_TPP, unitsOf } from './size.ts';

/**
 * One GPU, upstream's 5-GPU mode, layers split over GPUs, or no GPU. `tpp` makes other frames from the same seed than
 * the rest: its reference and motion are prepared differently.
 */
export type ProfileKind = 'single' | 'tpp' | 'pipe' | 'synthetic';

/** The programs that render: the farm's own around upstream's code, upstream's script, and the one without a model. */
export const RUNNER_KINDS = ['live-avatar', 'live-avatar-cli', 'synthetic'] as const;

/** One of {@link RUNNER_KINDS}. */
export type RunnerKind = (typeof RUNNER_KINDS)[number];

/** A way to run the model on a slot. */
export interface Profile {
  readonly name: string;
  readonly kind: ProfileKind;
  readonly runner: RunnerKind;
  readonly gpus: number;
  /** Memory per GPU that a card of this class offers; 0 where unknown or not needed. */
  readonly memoryBytesPerGpu: number;
  /** Largest picture in units of 64x64 pixels. */
  readonly maxUnits: number;
  /** Weights that memory is planned for; null without a model. */
  readonly dtype: Dtype | null;
  /** Denoising steps that it can render with. */
  readonly sampleSteps: readonly number[];
  readonly description: string;
  /** What its numbers rest on. */
  readonly basis: string;
  /** What {@link priorSecondsPerClip} assumes: how the model runs, and how many times slower than an H200 the GPU is. */
  readonly speed: { readonly execution: Execution; readonly slowdown: number };
}

/** Seconds per clip of a synthetic slot that declares none. */
const SYNTHETIC_SECONDS_PER_CLIP = 1;

/** Cards of 24 and 48 GB against an H200, by memory bandwidth and dense bf16 arithmetic from the data sheets. */
const SMALL_CARD_SLOWDOWN = 5.5;

const ANY_STEPS = [1, 2, 3, 4] as const;

const SYNTHETIC: Profile = {
  name: 'synthetic',
  kind: 'synthetic',
  runner: 'synthetic',
  gpus: 0,
  memoryBytesPerGpu: 0,
  maxUnits: MAX_UNITS_TPP,
  dtype: null,
  sampleSteps: ANY_STEPS,
  description: 'No GPU: draws the portrait moving with the speech, at a declared speed.',
  basis: 'Takes whatever a real slot could take; its speed is declared.',
  speed: { execution: 'bf16-eager', slowdown: 1 },
};

/** The profiles that come with the farm. */
export const PROFILES: readonly Profile[] = [
  {
    name: 'single-80g',
    kind: 'single',
    runner: 'live-avatar',
    gpus: 1,
    memoryBytesPerGpu: 79.6 * GIB,
    maxUnits: MAX_UNITS_SINGLE,
    dtype: 'fp8',
    sampleSteps: ANY_STEPS,
    description:
      'One 80 GB card with the whole model; fp8 where the card can and bf16 does not hold every size, otherwise bf16.',
    basis: 'Memory fitted on an H200; time measured there with fp8 and compile, decoder measured on its own.',
    speed: { execution: 'fp8-compiled', slowdown: 1 },
  },
  {
    name: 'single-48g-fp8',
    kind: 'single',
    runner: 'live-avatar',
    gpus: 1,
    memoryBytesPerGpu: 44.5 * GIB,
    maxUnits: 34,
    dtype: 'fp8',
    sampleSteps: ANY_STEPS,
    description: 'One 48 GB card with fp8 weights (compute capability 8.9 or later); small pictures.',
    basis: 'Memory fitted on an H200; time scaled from it by data sheets, not measured.',
    speed: { execution: 'fp8-compiled', slowdown: SMALL_CARD_SLOWDOWN },
  },
  {
    name: 'tpp-5x80g',
    kind: 'tpp',
    runner: 'live-avatar',
    gpus: 5,
    memoryBytesPerGpu: 79.6 * GIB,
    maxUnits: MAX_UNITS_TPP,
    dtype: 'bf16',
    sampleSteps: [4],
    description: "Upstream's own 5-GPU mode: four GPUs with one denoising step each, the fifth decodes.",
    basis: 'Memory and time are arithmetic from one GPU; upstream reports 1.06 s a clip on five H800 at 704x384.',
    speed: { execution: 'fp8-compiled', slowdown: 1 },
  },
  {
    name: 'pipe-4x24g',
    kind: 'pipe',
    runner: 'live-avatar',
    gpus: 4,
    memoryBytesPerGpu: 23.5 * GIB,
    maxUnits: MAX_UNITS_SINGLE,
    dtype: 'bf16',
    sampleSteps: ANY_STEPS,
    description: "Four 24 GB cards that share the model's layers.",
    basis: 'Memory and time are arithmetic from one GPU and data sheets; nothing was measured.',
    speed: { execution: 'bf16-eager', slowdown: SMALL_CARD_SLOWDOWN },
  },
  SYNTHETIC,
];

/** Those that an agent can be started with: the layers of a model that is split over cards have no runner. */
export const RUNNABLE_PROFILES: readonly Profile[] = PROFILES.filter(({ kind }) => kind !== 'pipe');

/** What a slot says of how it runs the model; what it leaves open follows from the profile's name. */
export interface SlotTraits {
  readonly profile: string;
  readonly runnerKind?: string;
  /** `bf16`, `fp8` or empty. */
  readonly dtype?: string;
  readonly compiled?: boolean;
  readonly tpp?: boolean;
}

/**
 * The profile of a slot. A name that is not built in is an operator's own: it is planned like one GPU with the whole
 * model, or like upstream's 5-GPU mode; by its name alone, with fp8 weights where "fp8" is part of it.
 */
export function profileOf(slot: string | SlotTraits): Profile {
  const traits: SlotTraits = typeof slot === 'string' ? { profile: slot } : slot;
  const named = PROFILES.find((profile) => profile.name === traits.profile) ?? ownProfile(traits);
  if (named.kind === 'synthetic' || !traits.runnerKind) return named;
  const dtype = traits.dtype === 'fp8' || traits.dtype === 'bf16' ? traits.dtype : (named.dtype ?? 'bf16');
  const execution: Execution = `${dtype}-${traits.compiled ? 'compiled' : 'eager'}`;
  const runner = RUNNER_KINDS.find((kind) => kind === traits.runnerKind) ?? named.runner;
  return { ...named, runner, dtype, speed: { ...named.speed, execution } };
}

function ownProfile({ profile, tpp, runnerKind }: SlotTraits): Profile {
  if (runnerKind === 'synthetic') return { ...SYNTHETIC, name: profile };
  const fp8 = profile.split(/[^a-z0-9]+/i).includes('fp8');
  return {
    name: profile,
    kind: tpp ? 'tpp' : 'single',
    runner: 'live-avatar',
    gpus: tpp ? 5 : 1,
    memoryBytesPerGpu: 0,
    maxUnits: tpp ? MAX_UNITS_TPP : MAX_UNITS_SINGLE,
    dtype: fp8 ? 'fp8' : 'bf16',
    sampleSteps: tpp ? [4] : ANY_STEPS,
    description: "An operator's own profile.",
    basis: `Planned like ${tpp ? "upstream's 5-GPU mode, by arithmetic" : 'one GPU with the whole model, memory and time fitted'} on an H200.`,
    speed: { execution: fp8 ? 'fp8-compiled' : 'bf16-eager', slowdown: 1 },
  };
}

/** A picture in pixels. */
export interface Sides {
  readonly width: number;
  readonly height: number;
}

/** Peak bytes per GPU that a slot needs for a picture, reserve included; 0 without a model. */
export function peakMemoryBytes(slot: string | SlotTraits, picture: Sides): number {
  return peakBytes(profileOf(slot), unitsOf(picture.width, picture.height));
}

/** Peak bytes that a picture would take on the GPU that a synthetic slot pretends to have: the whole model in fp8. */
export function pretendedMemoryBytes(picture: Sides): number {
  return pretendedBytes(unitsOf(picture.width, picture.height));
}

/** See {@link pretendedMemoryBytes}. */
export function pretendedBytes(units: number): number {
  return streamingMemoryBytes('fp8', units);
}

/** See {@link peakMemoryBytes}. */
export function peakBytes(profile: Profile, units: number): number {
  if (profile.dtype === null) return 0;
  switch (profile.kind) {
    case 'tpp':
      return tppMemoryBytes(profile.dtype, units);
    case 'pipe':
      return pipeMemoryBytes(profile.dtype, units, profile.gpus);
    default: {
      const bytes = profile.runner === 'live-avatar-cli' ? singleMemoryBytes : streamingMemoryBytes;
      return bytes(profile.dtype, units);
    }
  }
}

/** How a profile uses its host's memory; null without a model. */
export function hostUseOf(profile: Profile): HostUse | null {
  if (profile.dtype === null) return null;
  if (profile.runner === 'live-avatar-cli') return 'upstream';
  return profile.kind === 'tpp' ? 'tpp' : 'streaming';
}

/**
 * Seconds per clip to assume until a slot has measured its own.
 *
 * @param declared what the operator says, used when above 0
 */
export function priorSecondsPerClip(
  slot: string | SlotTraits,
  work: Sides & { readonly sampleSteps: number },
  declared = 0,
): number {
  if (declared > 0) return declared;
  const { kind, speed, runner } = profileOf(slot);
  const units = unitsOf(work.width, work.height);
  const step = stepSeconds(speed.execution, units, speed.slowdown);
  const decode = decodeSeconds(units, speed.slowdown);
  switch (kind) {
    case 'synthetic':
      return SYNTHETIC_SECONDS_PER_CLIP;
    case 'tpp':
      // Steps and decoder work at the same time on their own GPUs; the slowest sets the pace.
      return Math.max(step, decode);
    default:
      if (runner === 'live-avatar-cli') return work.sampleSteps * step + upstreamDecodeSeconds(units, speed.slowdown);
      return work.sampleSteps * step + decode;
  }
}
