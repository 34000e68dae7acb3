import { FarmError } from '@clipfarm/shared/errors';
import { FP8_CAPABILITY, type GpuReading } from '@clipfarm/shared/gpu/nvidia-smi';
import type { ModelProfile } from '@clipfarm/shared/live-avatar/model-profile';
import { GIB } from '@clipfarm/shared/model/gpu-cost';
import { hostBytesToLoad } from '@clipfarm/shared/model/host-cost';
import { peakMemoryBytes } from '@clipfarm/shared/model/profiles';

/** GPUs of one slot, and the memory in bytes that the model may use on each, and on the host. */
export interface SlotGpus {
  readonly gpus: readonly GpuReading[];
  readonly memoryBytes: number;
  /** 0 where it is not limited. */
  readonly hostMemoryBytes: number;
}

/** What the operator wants. */
export interface SlotWish {
  /** Number of slots; `auto` takes as many as the GPUs make. */
  readonly slots: number | 'auto';
  /** Indices of the GPUs that may be used, in the order of use; undefined: all. */
  readonly gpus: readonly number[] | undefined;
  /** Memory of the host in bytes. */
  readonly hostBytes: number;
}

/** Share of the host's memory that is left to everything else. */
const HOST_RESERVE = 0.1;

/** The smallest picture that is worth a slot: size 384*256. */
const SMALLEST = { width: 384, height: 256 };

/** Most slots of a host. */
const MAX_SLOTS = 16;

/**
 * Which GPUs make which slots. A GPU that can't run the profile at all is left out when slots are formed by themselves,
 * and refused when it was named. Pure.
 *
 * @throws FarmError `failed_precondition` with the numbers when no slot, or fewer than wanted, can be formed
 */
export function formSlots(profile: ModelProfile, found: readonly GpuReading[], wish: SlotWish): readonly SlotGpus[] {
  const named = wish.gpus?.map((index) => namedGpu(found, index));
  const problems: string[] = [];
  const able = (named ?? found).filter((gpu) => {
    const problem = obstacle(profile, gpu);
    if (problem !== null) problems.push(problem);
    return problem === null;
  });
  if (named !== undefined && problems.length > 0) throw unable(profile, problems);
  const perSlot = profile.gpus_per_slot;
  const possible = Math.min(MAX_SLOTS, Math.floor(able.length / perSlot));
  const count = wish.slots === 'auto' ? possible : wish.slots;
  if (possible === 0 || count > possible) {
    const need = `${count === 0 ? 1 : count} slots of ${perSlot} GPUs each need ${Math.max(1, count) * perSlot}`;
    throw unable(profile, [`${need}, ${able.length} of this host's ${found.length} GPUs can be used`, ...problems]);
  }
  const { host_memory_gib: declared } = profile;
  const share =
    declared === undefined ? Math.floor((wish.hostBytes * (1 - HOST_RESERVE)) / count) : Math.floor(declared * GIB);
  checkHost(profile, share, count, wish.hostBytes);
  return Array.from({ length: count }, (_, n) => {
    const gpus = able.slice(n * perSlot, (n + 1) * perSlot);
    return { gpus, memoryBytes: Math.min(...gpus.map((gpu) => usableBytes(profile, gpu))), hostMemoryBytes: share };
  });
}

function namedGpu(found: readonly GpuReading[], index: number): GpuReading {
  const gpu = found.find((candidate) => candidate.index === index);
  if (gpu !== undefined) return gpu;
  const there = found.length === 0 ? 'no GPU was found' : `there is: ${found.map((other) => other.index).join(', ')}`;
  throw new FarmError('failed_precondition', `--gpus: there is no GPU ${index}; ${there}`, {
    field: '--gpus',
    hint: 'clipfarm doctor --gpu',
  });
}

/** Why a GPU can't run the profile even with the smallest picture; null when it can. */
function obstacle(profile: ModelProfile, gpu: GpuReading): string | null {
  const { index, name, computeCapability } = gpu;
  if (profile.dtype === 'fp8' && computeCapability > 0 && computeCapability < FP8_CAPABILITY) {
    const has = computeCapability.toFixed(1);
    return `GPU ${index} (${name}) has compute capability ${has}, fp8 needs ${FP8_CAPABILITY} or more: use dtype bf16`;
  }
  const usable = usableBytes(profile, gpu);
  const needed = peakMemoryBytes(traitsOf(profile), SMALLEST);
  if (usable >= needed) return null;
  const gib = (bytes: number) => (bytes / GIB).toFixed(1);
  const use = profile.dtype === 'bf16' ? ': use dtype fp8' : '';
  return `GPU ${index} (${name}) has ${gib(usable)} GiB free, ${profile.dtype} at 384*256 needs ${gib(needed)} GiB${use}`;
}

/** Memory that is free before the model is there, or less where the profile says so. */
function usableBytes(profile: ModelProfile, gpu: GpuReading): number {
  const free = gpu.memoryBytes - gpu.memoryUsedBytes;
  return profile.memory_gib_per_gpu === undefined ? free : Math.min(free, Math.floor(profile.memory_gib_per_gpu * GIB));
}

/** What the memory and time models know a profile by. */
export function traitsOf({ name, runner, dtype, compile, tpp }: ModelProfile) {
  return { profile: name, runnerKind: runner, dtype, compiled: compile, tpp };
}

/** Slots may load one after the other, so that only one of them needs what loading takes. */
function checkHost(profile: ModelProfile, share: number, count: number, hostBytes: number): void {
  const use = profile.runner === 'live-avatar-cli' ? 'upstream' : profile.tpp ? 'tpp' : 'streaming';
  const needed = hostBytesToLoad(use);
  if (share >= needed) return;
  const gib = (bytes: number) => (bytes / GIB).toFixed(1);
  const declared = profile.host_memory_gib !== undefined;
  const has = declared
    ? `the profile allows ${gib(share)}`
    : `${count} slots on ${gib(hostBytes)} GiB may use ${gib(share)} GiB each`;
  throw unable(profile, [`loading the model needs ${gib(needed)} GiB of the host's memory, ${has}: use fewer slots`]);
}

function unable({ name }: ModelProfile, problems: readonly string[]): FarmError {
  return new FarmError('failed_precondition', `profile ${name} can't run here: ${problems.join('; ')}`, {
    field: '--profile',
    hint: 'clipfarm doctor --gpu',
  });
}
