/** Whether a slot can take a job, with the numbers. */
import { MAX_CLIPS_PER_CALL } from './clip.ts';
import { GIB } from './gpu-cost.ts';
import { hostBytes, hostBytesToLoad, upstreamClipsIn } from './host-cost.ts';
import {
  hostUseOf,
  type Profile,
  peakBytes,
  pretendedBytes,
  priorSecondsPerClip,
  profileOf,
  RUNNABLE_PROFILES,
  type Sides,
  type SlotTraits,
} from './profiles.ts';
import { formatPicture, MAX_UNITS_SINGLE, MAX_UNITS_TPP, USABLE_SIZES, unitBudget, unitsOf } from './size.ts';

/** What a slot says of itself; 0 for what it leaves open. */
export interface SlotCapacity extends SlotTraits {
  /** Memory per GPU in bytes that the model may use. */
  readonly memoryBytes: number;
  /** Largest picture in units of 64x64 pixels. */
  readonly maxUnits: number;
  readonly declaredSecondsPerClip?: number;
  /** Memory of the host in bytes that the slot may use. */
  readonly hostMemoryBytes?: number;
}

/** What a job asks of a slot: picture in pixels, denoising steps, clips of the whole job. */
export interface SlotWork extends Sides {
  readonly sampleSteps: number;
  readonly clips: number;
}

/** What was measured on slots of the same profile with the same picture and steps; 0 for what was not. */
export interface Measured {
  /** Seconds per clip on this slot, or else on others like it. */
  readonly secondsPerClip: number;
  /** Most bytes that a model call had needed on one GPU, driver's own included. */
  readonly peakBytes: number;
  /** The most that calls were seen to take, for people: alone, and with what an allocator held in reserve. */
  readonly seen?: { readonly bytes: number; readonly reservedBytes: number };
}

/** Fewest clips that a model call is worth: one, and one of pre-roll. */
const LEAST_CALL = 2;

const NOT_MEASURED: Measured = { secondsPerClip: 0, peakBytes: 0 };

/**
 * Whether a slot can render a job, with the numbers; where it cannot, `detail` says what could be changed. Where an
 * operator's own profile leaves its memory open, the largest picture alone decides.
 */
export function fitSlot(
  slot: SlotCapacity,
  work: SlotWork,
  measured: Measured = NOT_MEASURED,
): { readonly fits: boolean; readonly detail: string } {
  const found = fitOf(slot, work, measured);
  const { profile, memory, limit, units, needed } = found;
  const picture = `${formatPicture(work)} (${units} units)`;
  const problems: string[] = [];
  const choices: string[] = [];
  if (!found.memoryFits) {
    const isTaken = measured.peakBytes > memory;
    const use = isTaken
      ? `took ${gib(needed)} GiB per GPU${reserveWords(measured)}`
      : `needs ${gib(needed)} GiB per GPU`;
    problems.push(`${picture} ${use}, card has ${gib(memory)} GiB${isTaken ? '' : seenWords(measured)}`);
  } else if (!found.unitsFit) {
    problems.push(`${picture} is larger than the ${limit} units that the slot takes`);
  }
  if (problems.length > 0) {
    const size = USABLE_SIZES.findLast((name) => {
      const budget = unitBudget(name);
      return budget < units && budget <= limit && holds(profile, memory, budget);
    });
    if (size !== undefined) choices.push(`size ${size}`);
  }
  if (!found.stepsFit) {
    const possible = profile.sampleSteps.join(', ');
    problems.push(`${profile.name} renders with ${possible} denoising steps, the job asks for ${work.sampleSteps}`);
    choices.push(`sample_steps ${possible}`);
  }
  if (problems.length > 0) choices.push(...otherProfiles(found, work.sampleSteps));
  if (found.hostProblem !== null) {
    problems.push(found.hostProblem);
    choices.push('fewer slots on the host');
  }
  if (problems.length > 0) {
    const way = choices.length > 0 ? `use ${choices.join(' or ')}` : 'nothing fits';
    return { fits: false, detail: `${problems.join('; ')}: ${way}` };
  }
  const isMeasured = measured.secondsPerClip > 0;
  const seconds = isMeasured ? measured.secondsPerClip : priorSecondsPerClip(slot, work, slot.declaredSecondsPerClip);
  const space = memory > 0 ? `needs ${gib(needed)} of ${gib(memory)} GiB per GPU` : 'fits by its number of units';
  const basis = isMeasured ? 'as measured' : 'before measurement';
  const time = `about ${seconds.toFixed(1)} s a clip ${basis}, ${(seconds * work.clips).toFixed(0)} s for ${clipsText(work.clips)}`;
  return { fits: true, detail: `${picture} ${space}${seenWords(measured)}; ${time}` };
}

/** What calls were seen to take. A card shows the larger figure; the smaller one is what it must have. */
function seenWords(measured: Measured): string {
  const { seen } = measured;
  return seen === undefined || seen.bytes === 0 ? '' : `, seen: ${gib(seen.bytes)} GiB${reserveWords(measured)}`;
}

function reserveWords({ seen }: Measured): string {
  if (seen === undefined || seen.reservedBytes <= seen.bytes) return '';
  return ` (${gib(seen.reservedBytes)} GiB with what its allocator kept in reserve)`;
}

/** What {@link fitSlot} says, without the words: for whoever asks about every slot and every job. */
export function slotFits(slot: SlotCapacity, work: SlotWork, measured: Measured = NOT_MEASURED): boolean {
  const { memoryFits, unitsFit, stepsFit, hostProblem } = fitOf(slot, work, measured);
  return memoryFits && unitsFit && stepsFit && hostProblem === null;
}

/** Most clips of one model call on a slot, pre-roll included: the model's own limit, or what the host's memory holds. */
export function longestCallOn(slot: SlotCapacity, picture: Sides): number {
  const { hostMemoryBytes = 0 } = slot;
  if (hostUseOf(profileOf(slot)) !== 'upstream' || hostMemoryBytes === 0) return MAX_CLIPS_PER_CALL;
  return Math.min(MAX_CLIPS_PER_CALL, upstreamClipsIn(hostMemoryBytes, unitsOf(picture.width, picture.height)));
}

/** Longest job in clips that the host's memory allows on a slot; 0 where not even the model can be loaded. */
export function longestJobOn(slot: SlotCapacity, picture: Sides): number {
  const use = hostUseOf(profileOf(slot));
  const { hostMemoryBytes = 0 } = slot;
  if (use === null || hostMemoryBytes === 0) return Number.POSITIVE_INFINITY;
  if (hostBytesToLoad(use) > hostMemoryBytes) return 0;
  const units = unitsOf(picture.width, picture.height);
  if (use === 'upstream') return upstreamClipsIn(hostMemoryBytes, units) < LEAST_CALL ? 0 : Number.POSITIVE_INFINITY;
  const base = hostBytes(use, units, 0);
  return Math.max(0, Math.floor((hostMemoryBytes - base) / (hostBytes(use, units, 1) - base)));
}

function fitOf(slot: SlotCapacity, work: SlotWork, measured: Measured) {
  const profile = profileOf(slot);
  const memory = slot.memoryBytes || profile.memoryBytesPerGpu;
  const limit = unitLimit(slot, profile);
  const units = unitsOf(work.width, work.height);
  const needed = neededBytes(profile, units, memory);
  return {
    ...{ profile, memory, limit, units },
    needed: measured.peakBytes > memory ? measured.peakBytes : needed,
    memoryFits: memory === 0 || (needed <= memory && measured.peakBytes <= memory),
    unitsFit: units <= limit,
    stepsFit: profile.sampleSteps.includes(work.sampleSteps),
    hostProblem: hostProblem(profile, slot, units, work.clips),
  };
}

function clipsText(clips: number): string {
  return clips === 1 ? '1 clip' : `${clips} clips`;
}

/** What speaks against the host's memory, in words; null when nothing does. */
function hostProblem(profile: Profile, { hostMemoryBytes = 0 }: SlotCapacity, units: number, clips: number) {
  const use = hostUseOf(profile);
  if (use === null || hostMemoryBytes === 0) return null;
  const toLoad = hostBytesToLoad(use);
  const toRender = hostBytes(use, units, use === 'upstream' ? LEAST_CALL : clips);
  const needed = Math.max(toLoad, toRender);
  if (needed <= hostMemoryBytes) return null;
  const what = toLoad >= toRender ? 'loading the model' : clipsText(clips);
  return `${what} needs ${gib(needed)} GiB of the host's memory, the slot may use ${gib(hostMemoryBytes)} GiB`;
}

/** Upstream's caches end at the profile's own limit, whatever the slot declares; only `synthetic` has none. */
function unitLimit(slot: SlotCapacity, profile: Profile): number {
  if (profile.kind === 'synthetic') return slot.maxUnits || profile.maxUnits;
  const cap = profile.kind === 'tpp' ? MAX_UNITS_TPP : MAX_UNITS_SINGLE;
  // A card whose memory is known is judged by it, not by the class of cards that the profile is named after.
  return Math.min(slot.maxUnits || (slot.memoryBytes > 0 ? cap : profile.maxUnits), cap);
}

/** Peak bytes; a synthetic slot that declares a memory pretends to be a real one. */
function neededBytes(profile: Profile, units: number, memory: number): number {
  return profile.kind === 'synthetic' && memory > 0 ? pretendedBytes(units) : peakBytes(profile, units);
}

/** Memory that is not known does not refuse. */
function holds(profile: Profile, memory: number, units: number): boolean {
  return memory === 0 || neededBytes(profile, units, memory) <= memory;
}

/** Another profile for the same card, or else the profiles whose cards would do. */
function otherProfiles(
  { profile, memory, units, memoryFits }: Pick<ReturnType<typeof fitOf>, 'profile' | 'memory' | 'units' | 'memoryFits'>,
  sampleSteps: number,
): readonly string[] {
  const able = RUNNABLE_PROFILES.filter(({ dtype, sampleSteps: steps }) => {
    return dtype !== null && steps.includes(sampleSteps);
  });
  // What helps on the same card: other weights where memory is short, one GPU where five can't take the steps.
  const isOther = (other: Profile) => (memoryFits ? other.kind !== profile.kind : other.dtype !== profile.dtype);
  const sameCard = able.find((other) => other.kind === 'single' && isOther(other) && peakBytes(other, units) <= memory);
  const isReal = profile.dtype !== null && units <= MAX_UNITS_SINGLE;
  if (sameCard !== undefined && isReal) return [memoryFits ? `profile ${sameCard.name}` : `dtype ${sameCard.dtype}`];
  const elsewhere = able.filter(({ maxUnits }) => units <= maxUnits).map((other) => other.name);
  return elsewhere.length > 0 ? [`a slot of ${elsewhere.join(', ')}`] : [];
}

function gib(bytes: number): string {
  return (bytes / GIB).toFixed(1);
}
