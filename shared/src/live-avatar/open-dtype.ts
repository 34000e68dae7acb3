import { FP8_CAPABILITY, type GpuReading } from '../gpu/nvidia-smi.ts';
import { type Dtype, streamingMemoryBytes } from '../model/gpu-cost.ts';
import { MAX_UNITS_SINGLE } from '../model/size.ts';

/** Whether the cards decide a built-in profile's number format, unless the operator does. */
export function hasOpenDtype(profile: string): boolean {
  return profile === 'single-80g';
}

/**
 * The number format for such a profile: bf16 where every card holds the largest picture with it, otherwise fp8 where every
 * card can, otherwise bf16 with the pictures that fit.
 */
export function dtypeFor(
  gpus: readonly Pick<GpuReading, 'memoryBytes' | 'memoryUsedBytes' | 'computeCapability'>[],
): Dtype {
  const needed = streamingMemoryBytes('bf16', MAX_UNITS_SINGLE);
  if (gpus.every(({ memoryBytes, memoryUsedBytes }) => memoryBytes - memoryUsedBytes >= needed)) return 'bf16';
  return gpus.every(({ computeCapability }) => computeCapability >= FP8_CAPABILITY) ? 'fp8' : 'bf16';
}
