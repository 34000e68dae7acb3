import { GIB } from '@clipfarm/shared/model/gpu-cost';
import { pretendedMemoryBytes } from '@clipfarm/shared/model/profiles';
import { RunnerFailure } from '../common/runner-failure.ts';

/** Bytes that a picture takes on a pretended GPU; 0 when none is pretended. */
export function pretendedBytes(
  picture: { readonly width: number; readonly height: number },
  memoryBytes: number | undefined,
): number {
  return memoryBytes === undefined ? 0 : pretendedMemoryBytes(picture);
}

/**
 * Throws a {@link RunnerFailure} of class `out_of_memory`, with the numbers, when the real model would not fit a GPU of
 * `memoryBytes` at that picture size.
 */
export function checkMemory(
  picture: { readonly width: number; readonly height: number },
  memoryBytes = Number.POSITIVE_INFINITY,
): void {
  const needed = pretendedMemoryBytes(picture);
  if (needed <= memoryBytes) return;
  const gib = (bytes: number): string => `${(bytes / GIB).toFixed(1)} GiB`;
  const size = `${picture.width}x${picture.height}`;
  throw new RunnerFailure(
    'out_of_memory',
    `out of memory: ${size} needs ${gib(needed)}, the GPU has ${gib(memoryBytes)}`,
    { neededBytes: needed, totalBytes: memoryBytes },
  );
}
