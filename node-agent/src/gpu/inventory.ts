import { FarmError } from '@clipfarm/shared/errors';
import type { Gpu } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { type GpuReading, readGpus } from '@clipfarm/shared/gpu/nvidia-smi';
import type { Logger } from '@clipfarm/shared/log';

/** Milliseconds between looks at GPUs whose memory is still held by a runner of an agent before. */
const SETTLE_MILLIS = 1000;

/** Looks before memory in use counts as somebody else's. */
const SETTLE_LOOKS = 10;

/** Share of a GPU's memory that an idle driver may hold. */
const IDLE_SHARE = 0.03;

/**
 * GPUs of this host at the start of the agent; none when `nvidia-smi` is missing. A driver that fails is logged and also
 * counts as none, because a host without a working driver has no GPU to offer. Waits a moment for memory that is just
 * being given back.
 */
export async function readInventory(
  log: Logger,
  sleep: (millis: number) => Promise<void>,
): Promise<readonly GpuReading[]> {
  try {
    let gpus = await readGpus();
    const busy = () => gpus.some(({ memoryBytes, memoryUsedBytes }) => memoryUsedBytes > IDLE_SHARE * memoryBytes);
    for (let look = 1; busy() && look < SETTLE_LOOKS; look += 1) {
      await sleep(SETTLE_MILLIS);
      gpus = await readGpus();
    }
    for (const { index, name, memoryUsedBytes, memoryBytes } of gpus) {
      log.info({ gpu: index, name, memory_bytes: memoryBytes, memory_used_bytes: memoryUsedBytes }, 'GPU found');
    }
    return gpus;
  } catch (error) {
    const failure = FarmError.from(error);
    if (failure.code !== 'failed_precondition') log.warn({ reason: failure.message }, 'the GPUs could not be read');
    return [];
  }
}

/** A GPU as the coordinator is told about it. */
export function gpuMessage(gpu: GpuReading, trouble = ''): Gpu {
  const { index, uuid, name, driver, memoryBytes, memoryUsedBytes, temperatureCelsius, utilizationPercent } = gpu;
  return {
    ...{ index, uuid, name, driver, memoryBytes, memoryUsedBytes, temperatureCelsius, utilizationPercent, trouble },
    computeCapability: gpu.computeCapability === 0 ? '' : gpu.computeCapability.toFixed(1),
    throttleReasons: [...gpu.throttleReasons],
    uncorrectedErrors: gpu.uncorrectedErrors,
  };
}
