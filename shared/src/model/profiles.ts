/**
 * How slots run the model: the built-in profiles, what a picture needs in memory, how long a clip takes before anybody
 * measured it, and whether a slot can take a job.
 */
import {
  type Dtype,
  decodeSeconds,
  type Execution,
  GIB,
  pipeMemoryBytes,
  singleMemoryBytes,
  stepSeconds,
  tppMemoryBytes,
} from './gpu-cost.ts';
import { formatPicture, MAX_UNITS_SINGLE, MAX_UNITS_TPP, USABLE_SIZES, unitBudget, unitsOf } from './size.ts';

/**
 * One GPU, upstream's 5-GPU mode, layers split over GPUs, or no GPU. `tpp` makes other frames from the same seed than
 * the rest: its reference and motion are prepared differently.
 */
export type ProfileKind = 'single' | 'tpp' | 'pipe' | 'synthetic';

/** A way to run the model on a slot. */
export interface Profile {
  readonly name: string;
  readonly kind: ProfileKind;
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

/** The profiles that come with the farm. */
export const PROFILES: readonly Profile[] = [
  {
    name: 'single-80g',
    kind: 'single',
    gpus: 1,
    memoryBytesPerGpu: 79.6 * GIB,
    maxUnits: MAX_UNITS_SINGLE,
    dtype: 'bf16',
    sampleSteps: ANY_STEPS,
    description: 'One 80 GB card with the whole model. Memory is planned for bf16, so that cards without fp8 do too.',
    basis: 'Memory fitted on an H200; time measured there with fp8 and compile, decoder measured on its own.',
    speed: { execution: 'fp8-compiled', slowdown: 1 },
  },
  {
    name: 'single-48g-fp8',
    kind: 'single',
    gpus: 1,
    memoryBytesPerGpu: 44.5 * GIB,
    maxUnits: 38,
    dtype: 'fp8',
    sampleSteps: ANY_STEPS,
    description: 'One 48 GB card with fp8 weights (compute capability 8.9 or later); small pictures.',
    basis: 'Memory fitted on an H200; time scaled from it by data sheets, not measured.',
    speed: { execution: 'fp8-compiled', slowdown: SMALL_CARD_SLOWDOWN },
  },
  {
    name: 'tpp-5x80g',
    kind: 'tpp',
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
    gpus: 4,
    memoryBytesPerGpu: 23.5 * GIB,
    maxUnits: MAX_UNITS_SINGLE,
    dtype: 'bf16',
    sampleSteps: ANY_STEPS,
    description: "Four 24 GB cards that share the model's layers.",
    basis: 'Memory and time are arithmetic from one GPU and data sheets; nothing was measured.',
    speed: { execution: 'bf16-eager', slowdown: SMALL_CARD_SLOWDOWN },
  },
  {
    name: 'synthetic',
    kind: 'synthetic',
    gpus: 0,
    memoryBytesPerGpu: 0,
    maxUnits: MAX_UNITS_TPP,
    dtype: null,
    sampleSteps: ANY_STEPS,
    description: 'No GPU: draws the portrait moving with the speech, at a declared speed.',
    basis: 'Takes whatever a real slot could take; its speed is declared.',
    speed: { execution: 'bf16-eager', slowdown: 1 },
  },
];

/**
 * The profile of that name. An unknown name is an operator's own: it is planned like one GPU with the whole model, with
 * fp8 weights where "fp8" is part of the name.
 */
export function profileOf(name: string): Profile {
  const builtIn = PROFILES.find((profile) => profile.name === name);
  if (builtIn !== undefined) return builtIn;
  const fp8 = name.split(/[^a-z0-9]+/i).includes('fp8');
  return {
    name,
    kind: 'single',
    gpus: 1,
    memoryBytesPerGpu: 0,
    maxUnits: MAX_UNITS_SINGLE,
    dtype: fp8 ? 'fp8' : 'bf16',
    sampleSteps: ANY_STEPS,
    description: "An operator's own profile.",
    basis: 'Planned like one GPU with the whole model, memory and time fitted on an H200.',
    speed: { execution: fp8 ? 'fp8-compiled' : 'bf16-eager', slowdown: 1 },
  };
}

/** A picture in pixels. */
interface Sides {
  readonly width: number;
  readonly height: number;
}

/** Peak bytes per GPU that a profile needs for a picture, reserve included; 0 for `synthetic`. */
export function peakMemoryBytes(profile: string, picture: Sides): number {
  return peakBytes(profileOf(profile), unitsOf(picture.width, picture.height));
}

/**
 * Seconds per clip to assume until a slot has measured its own.
 *
 * @param declared what the operator says, used when above 0
 */
export function priorSecondsPerClip(
  profile: string,
  work: Sides & { readonly sampleSteps: number },
  declared = 0,
): number {
  if (declared > 0) return declared;
  const { kind, speed } = profileOf(profile);
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
      return work.sampleSteps * step + decode;
  }
}

/** What a slot says of itself; 0 for what it leaves open. */
export interface SlotCapacity {
  readonly profile: string;
  /** Memory per GPU in bytes that the model may use. */
  readonly memoryBytes: number;
  /** Largest picture in units of 64x64 pixels. */
  readonly maxUnits: number;
  readonly declaredSecondsPerClip?: number;
}

/** What a job asks of a slot: picture in pixels, denoising steps, clips of the whole job. */
export interface SlotWork extends Sides {
  readonly sampleSteps: number;
  readonly clips: number;
}

/**
 * Whether a slot can render a job, with the numbers; where it cannot, `detail` says what could be changed. Where an
 * operator's own profile leaves its memory open, the largest picture alone decides.
 */
export function fitSlot(slot: SlotCapacity, work: SlotWork): { readonly fits: boolean; readonly detail: string } {
  const { profile, memory, limit, units, memoryFits, unitsFit, stepsFit } = fitOf(slot, work);
  const picture = `${formatPicture(work)} (${units} units)`;
  const needed = peakBytes(profile, units);
  const problems: string[] = [];
  const choices: string[] = [];
  if (!memoryFits) {
    problems.push(`${picture} needs ${gib(needed)} GiB per GPU, card has ${gib(memory)} GiB`);
  } else if (!unitsFit) {
    problems.push(`${picture} is larger than the ${limit} units that the slot takes`);
  }
  if (problems.length > 0) {
    const size = USABLE_SIZES.findLast((name) => unitBudget(name) <= limit && holds(profile, memory, unitBudget(name)));
    if (size !== undefined) choices.push(`size ${size}`);
  }
  if (!stepsFit) {
    const possible = profile.sampleSteps.join(', ');
    problems.push(`${profile.name} renders with ${possible} denoising steps, the job asks for ${work.sampleSteps}`);
    choices.push(`sample_steps ${possible}`);
  }
  if (problems.length > 0) {
    const use = [...choices, ...otherProfiles(profile, memory, units, work.sampleSteps)];
    return {
      fits: false,
      detail: `${problems.join('; ')}: ${use.length > 0 ? `use ${use.join(' or ')}` : 'nothing fits'}`,
    };
  }
  const seconds = priorSecondsPerClip(slot.profile, work, slot.declaredSecondsPerClip);
  const space = memory > 0 ? `needs ${gib(needed)} of ${gib(memory)} GiB per GPU` : 'fits by its number of units';
  const time = `about ${seconds.toFixed(1)} s a clip before measurement, ${(seconds * work.clips).toFixed(0)} s for ${work.clips} clips`;
  return { fits: true, detail: `${picture} ${space}; ${time}` };
}

/** What {@link fitSlot} says, without the words: for whoever asks about every slot and every job. */
export function slotFits(slot: SlotCapacity, work: Omit<SlotWork, 'clips'>): boolean {
  const { memoryFits, unitsFit, stepsFit } = fitOf(slot, work);
  return memoryFits && unitsFit && stepsFit;
}

function fitOf(slot: SlotCapacity, { width, height, sampleSteps }: Omit<SlotWork, 'clips'>) {
  const profile = profileOf(slot.profile);
  const memory = slot.memoryBytes || profile.memoryBytesPerGpu;
  const limit = unitLimit(slot, profile);
  const units = unitsOf(width, height);
  return {
    ...{ profile, memory, limit, units },
    memoryFits: holds(profile, memory, units),
    unitsFit: units <= limit,
    stepsFit: profile.sampleSteps.includes(sampleSteps),
  };
}

function peakBytes(profile: Profile, units: number): number {
  if (profile.dtype === null) return 0;
  switch (profile.kind) {
    case 'tpp':
      return tppMemoryBytes(profile.dtype, units);
    case 'pipe':
      return pipeMemoryBytes(profile.dtype, units, profile.gpus);
    default:
      return singleMemoryBytes(profile.dtype, units);
  }
}

/** Upstream's caches end at the profile's own limit, whatever the slot declares; only `synthetic` has none. */
function unitLimit(slot: SlotCapacity, profile: Profile): number {
  const declared = slot.maxUnits || profile.maxUnits;
  if (profile.kind === 'synthetic') return declared;
  return Math.min(declared, profile.kind === 'tpp' ? MAX_UNITS_TPP : MAX_UNITS_SINGLE);
}

/** Memory that is not known does not refuse. */
function holds(profile: Profile, memory: number, units: number): boolean {
  return memory === 0 || peakBytes(profile, units) <= memory;
}

/** Another profile for the same card, or else the profiles whose cards would do. */
function otherProfiles(profile: Profile, memory: number, units: number, sampleSteps: number): readonly string[] {
  const able = PROFILES.filter(
    ({ dtype, maxUnits, sampleSteps: steps }) => dtype !== null && units <= maxUnits && steps.includes(sampleSteps),
  );
  const sameCard = able.find(
    (other) => other.kind === 'single' && other !== profile && peakBytes(other, units) <= memory,
  );
  if (sameCard !== undefined) return [`profile ${sameCard.name}`];
  const elsewhere = able.filter((other) => holds(other, other.memoryBytesPerGpu, units)).map((other) => other.name);
  return elsewhere.length > 0 ? [`a slot of ${elsewhere.join(', ')}`] : [];
}

function gib(bytes: number): string {
  return (bytes / GIB).toFixed(1);
}
