import { statfs } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { FP8_CAPABILITY, type GpuReading, readGpus } from '@clipfarm/shared/gpu/nvidia-smi';
import type { ModelProfile } from '@clipfarm/shared/live-avatar/model-profile';
import { hasOpenDtype } from '@clipfarm/shared/live-avatar/open-dtype';
import { GIB } from '@clipfarm/shared/model/gpu-cost';
import { hostBytesToLoad } from '@clipfarm/shared/model/host-cost';
import { hostUseOf, peakBytes, profileOf } from '@clipfarm/shared/model/profiles';
import { USABLE_SIZES, unitBudget } from '@clipfarm/shared/model/size';
import { count } from '../render/units.ts';
import { broken, type Check, failed, passed } from './check.ts';
import { checkCheckout, checkLora, checkWeights } from './model-checks.ts';
import { checkPython } from './python-checks.ts';

/** Shared memory in bytes that the five processes of upstream's 5-GPU mode exchange through; Docker's default is 64 MiB. */
const SHARED_MEMORY_BYTES = GIB;

/** Everything that a host needs to render with a profile. */
export async function checkGpuHost(profile: ModelProfile): Promise<readonly Check[]> {
  const [gpus, python, checkout, weights, lora, shared] = await Promise.all([
    checkGpus(profile),
    checkPython(profile.python, profile.dtype === 'fp8' && !hasOpenDtype(profile.name)),
    checkCheckout(profile.checkout),
    checkWeights(profile.ckpt_dir),
    checkLora(profile.lora),
    checkSharedMemory(profile),
  ]);
  return [...gpus, ...python, checkout, ...weights, lora, checkHostMemory(profile, totalmem()), shared];
}

async function checkGpus(profile: ModelProfile): Promise<readonly Check[]> {
  try {
    return judgeGpus(profile, await readGpus());
  } catch (error) {
    const fix =
      "Install NVIDIA's driver; a container must be given the GPUs too: docker run --gpus all. " +
      'A host without a GPU can try the farm with the profile synthetic: clipfarm up.';
    // The hint of a missing program would say to put it on the PATH.
    return [failed('driver', broken('', error, '').detail, fix)];
  }
}

/** What the GPUs can do: the driver, each GPU's state, and the largest picture that it holds. */
export function judgeGpus(profile: ModelProfile, gpus: readonly GpuReading[]): readonly Check[] {
  const [first] = gpus;
  if (first === undefined) {
    return [
      failed(
        'driver',
        'the driver lists no GPU',
        'Give a container the GPUs: docker run --gpus all. On the host itself, dmesg | grep NVRM says more.',
      ),
    ];
  }
  const driver = passed('driver', `${first.driver}, ${count(gpus.length, 'GPU')}`);
  return [driver, ...gpus.map((gpu) => judgeGpu(profile, gpu))];
}

function judgeGpu(profile: ModelProfile, gpu: GpuReading): Check {
  const { index, memoryBytes, memoryUsedBytes, computeCapability, uncorrectedErrors, throttleReasons } = gpu;
  const name = `gpu ${index}`;
  const free = memoryBytes - memoryUsedBytes;
  const fp8 = computeCapability >= FP8_CAPABILITY;
  const sizes = (['bf16', 'fp8'] as const).flatMap((dtype) => {
    const size = dtype === 'fp8' && !fp8 ? undefined : largestSize(profile, dtype, free);
    return size === undefined ? [] : [`${dtype} up to ${size}`];
  });
  const has = `${gpu.name}, ${gib(free)} of ${gib(memoryBytes)} GiB free, compute capability ${computeCapability.toFixed(1)}`;
  const slow = throttleReasons.length === 0 ? '' : `, slowed by ${throttleReasons.join(', ')}`;
  const detail = `${has}${slow}; ${sizes.length === 0 ? 'no size fits' : sizes.join(', ')}`;
  if (uncorrectedErrors > 0) {
    return failed(
      name,
      `${detail}; ${uncorrectedErrors} memory errors`,
      `Stop what uses it and run nvidia-smi --gpu-reset -i ${index}; if that does not help, replace the card.`,
    );
  }
  if (hasOpenDtype(profile.name) && sizes.length > 0) return passed(name, detail);
  if (profile.dtype === 'fp8' && !fp8)
    return failed(name, detail, `fp8 needs compute capability ${FP8_CAPABILITY} or more. ${useBf16(profile)}`);
  if (largestSize(profile, profile.dtype, free) !== undefined) return passed(name, detail);
  const other = sizes.length === 0 ? '' : profile.dtype === 'fp8' ? useBf16(profile) : USE_FP8;
  const used = memoryUsedBytes > 2 * GIB ? 'Other programs use it: nvidia-smi shows which. ' : '';
  return failed(name, detail, `${used}${other || 'The model needs a card of 48 GB or more.'}`);
}

/** Profiles with a fixed number format are left for one that fits; an operator's own profile is changed. */
function useBf16({ name }: ModelProfile): string {
  return name === 'single-48g-fp8' ? 'Use the profile single-80g.' : 'Give the profile dtype bf16.';
}

const USE_FP8 = 'Use the profile single-48g-fp8, or give your own profile dtype fp8.';

/** Largest size that works with every image and fits; undefined when none does. */
function largestSize(profile: ModelProfile, dtype: 'bf16' | 'fp8', bytes: number): string | undefined {
  const traits = { profile: profile.name, runnerKind: profile.runner, dtype, tpp: profile.tpp };
  return USABLE_SIZES.findLast((size) => peakBytes(profileOf(traits), unitBudget(size)) <= bytes);
}

/** The host's memory, as far as one slot needs it. */
export function checkHostMemory(profile: ModelProfile, total: number): Check {
  const use = hostUseOf(profileOf({ profile: profile.name, runnerKind: profile.runner, tpp: profile.tpp }));
  const needed = use === null ? 0 : hostBytesToLoad(use);
  const usable = 0.9 * total;
  const detail = `${gib(total)} GiB; loading the model takes ${gib(needed)} GiB for each slot`;
  if (usable >= needed)
    return passed('host memory', `${detail}: enough for ${count(Math.floor(usable / needed), 'slot')}`);
  // The text encoder is there twice while it is read from its file.
  return failed('host memory', detail, `Render on a host with ${gib(needed / 0.9)} GiB or more.`);
}

async function checkSharedMemory(profile: ModelProfile): Promise<Check> {
  const name = 'shared mem';
  try {
    const { bsize, blocks } = await statfs('/dev/shm');
    const detail = `/dev/shm has ${gib(bsize * blocks)} GiB`;
    if (!profile.tpp || bsize * blocks >= SHARED_MEMORY_BYTES) return passed(name, detail);
    return failed(
      name,
      detail,
      'Give the container more: docker run --shm-size=8g, or in Kubernetes an emptyDir with medium Memory at /dev/shm.',
    );
  } catch (error) {
    return broken(name, error, 'Mount a tmpfs at /dev/shm.');
  }
}

function gib(bytes: number): string {
  return (bytes / GIB).toFixed(1);
}
