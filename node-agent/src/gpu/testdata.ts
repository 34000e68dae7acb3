import type { GpuReading } from '@clipfarm/shared/gpu/nvidia-smi';
import { GIB } from '@clipfarm/shared/model/gpu-cost';

/** A GPU for tests: an idle 80 GB Hopper card; `given` replaces what a test is about. */
export function testGpu(index: number, given: Partial<GpuReading> = {}): GpuReading {
  return {
    ...{ index, uuid: `GPU-${index}`, name: 'H100', pci: `0000:0${index}:00.0`, driver: '570.1', computeCapability: 9 },
    ...{ memoryBytes: 79.6 * GIB, memoryUsedBytes: 0, temperatureCelsius: 40, utilizationPercent: 0 },
    ...{ throttleReasons: [], uncorrectedErrors: 0 },
    ...given,
  };
}
