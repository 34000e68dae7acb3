import { FarmError } from '../errors.ts';
import { runTool } from '../process.ts';

/** What `nvidia-smi` says of a GPU. */
export interface GpuReading {
  readonly index: number;
  /** Identity that the driver gives it; it stays when indices move. */
  readonly uuid: string;
  readonly name: string;
  /** PCI address as the kernel writes it: `0000:3b:00.0` in lower case, or empty. */
  readonly pci: string;
  readonly driver: string;
  /** Major and minor version of the compute capability as one number, such as 9 or 8.9; 0 where unknown. */
  readonly computeCapability: number;
  readonly memoryBytes: number;
  readonly memoryUsedBytes: number;
  /** Degrees; 0 where unknown. */
  readonly temperatureCelsius: number;
  /** 0 to 100. */
  readonly utilizationPercent: number;
  /** Why it is slower than it could be, by the words of {@link THROTTLE_REASONS}. */
  readonly throttleReasons: readonly string[];
  /** Memory errors that could not be corrected since the driver was loaded; 0 where not counted. */
  readonly uncorrectedErrors: number;
}

/** Reasons that slow a GPU down, by their bit in the driver's mask (NVML's `nvmlClocksEventReason*`). */
export const THROTTLE_REASONS: readonly (readonly [number, string])[] = [
  [0x4, 'power cap'],
  [0x8, 'hardware slowdown'],
  [0x20, 'heat'],
  [0x40, 'heat (hardware)'],
  [0x80, 'power brake'],
];

/** Compute capability from which on the GPU multiplies in fp8: Ada, Hopper, Blackwell. */
export const FP8_CAPABILITY = 8.9;

const BASIC = ['index', 'uuid', 'name', 'pci.bus_id', 'driver_version', 'memory.total', 'memory.used'] as const;

/** Fields that older drivers don't know. The one on throttling changes its name in newer ones. */
const MORE = [
  'compute_cap',
  'temperature.gpu',
  'utilization.gpu',
  'ecc.errors.uncorrected.volatile.total',
  'clocks_event_reasons.active',
] as const;

const OLDER = MORE.map((field) => field.replace('clocks_event', 'clocks_throttle'));

/** More GPUs than any host has; what is beyond is ignored. */
const MAX_GPUS = 64;

/** Milliseconds; with a GPU that has fallen off the bus, `nvidia-smi` may wait for ever. */
const TIMEOUT_MILLIS = 15_000;

/**
 * Reads the GPUs of this host; a driver that does not know a field leaves it at its neutral value.
 *
 * @param program name or path of `nvidia-smi`
 * @throws FarmError `failed_precondition` when the program is missing, `internal` or `timeout` when the driver fails
 */
export async function readGpus(program = 'nvidia-smi'): Promise<readonly GpuReading[]> {
  let refused: unknown;
  for (const fields of [[...BASIC, ...MORE], [...BASIC, ...OLDER], BASIC]) {
    try {
      const argv = [`--query-gpu=${fields.join(',')}`, '--format=csv,noheader,nounits'];
      const { stdout } = await runTool(program, argv, { timeoutMs: TIMEOUT_MILLIS, maxOutputBytes: 64 * 1024 });
      return parseGpus(stdout.toString('utf8'), fields);
    } catch (error) {
      const { code } = FarmError.from(error);
      // Status 2 and a word on the field is how the program refuses one; anything else is worse.
      if (code !== 'internal') throw error;
      refused = error;
    }
  }
  throw refused;
}

/**
 * GPUs from the CSV of `nvidia-smi`, one a line.
 *
 * @param fields that were asked for, in their order
 * @throws FarmError `internal` naming a line that is not understood
 */
export function parseGpus(csv: string, fields: readonly string[]): readonly GpuReading[] {
  const lines = csv.split(/\r?\n/).filter((line) => line.trim() !== '');
  return lines.slice(0, MAX_GPUS).map((line) => parseLine(line, fields));
}

function parseLine(line: string, fields: readonly string[]): GpuReading {
  const values = line.split(',').map((value) => value.trim());
  const text = (field: string): string => (values[fields.indexOf(field)] ?? '').slice(0, 100);
  const number = (field: string): number => (/^\d+(\.\d+)?$/.test(text(field)) ? Number(text(field)) : 0);
  const mask = MASK_FIELDS.map(text).find((value) => /^0x[0-9a-f]{1,16}$/i.test(value)) ?? '0x0';
  // Bits above the 32nd are not among the reasons.
  const bits = Number.parseInt(mask.slice(-8).replace(/^0x/i, ''), 16);
  const known = /^\d{1,3}$/.test(text('index')) && number('memory.total') > 0 && values.length === fields.length;
  if (!known) throw new FarmError('internal', `nvidia-smi: line not understood: "${line.slice(0, 200)}"`);
  return {
    index: number('index'),
    uuid: text('uuid'),
    name: text('name'),
    pci: kernelAddress(text('pci.bus_id')),
    driver: text('driver_version'),
    computeCapability: number('compute_cap'),
    memoryBytes: number('memory.total') * 2 ** 20,
    memoryUsedBytes: number('memory.used') * 2 ** 20,
    temperatureCelsius: Math.round(number('temperature.gpu')),
    utilizationPercent: Math.min(100, Math.round(number('utilization.gpu'))),
    throttleReasons: THROTTLE_REASONS.filter(([bit]) => (bits & bit) !== 0).map(([, words]) => words),
    uncorrectedErrors: number('ecc.errors.uncorrected.volatile.total'),
  };
}

const MASK_FIELDS = ['clocks_event_reasons.active', 'clocks_throttle_reasons.active'] as const;

/** `00000000:3B:00.0` of `nvidia-smi` as the kernel writes it; empty when it is something else. */
function kernelAddress(pci: string): string {
  const match = /^(?:[0-9a-f]{4})?([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f])$/i.exec(pci);
  return match?.[1]?.toLowerCase() ?? '';
}
