import type { GpuReading } from '@clipfarm/shared/gpu/nvidia-smi';
import { FATAL_XIDS, type XidError } from './xid.ts';

/** What was found at one look at the GPUs. */
export interface GpuLook {
  /** What `nvidia-smi` said; or why it could not be asked. */
  readonly readings: readonly GpuReading[] | string;
  /** Errors in the kernel's log; null when it can't be read. */
  readonly xids: readonly XidError[] | null;
}

/** What is known of the GPUs that the agent began with. */
export interface GpuHealth {
  /** As they were read last. */
  readonly gpus: readonly GpuReading[];
  /** By uuid: why the GPU can't be used. */
  readonly troubles: ReadonlyMap<string, string>;
  /** By uuid: memory errors when the agent began. */
  readonly errorsBefore: ReadonlyMap<string, number>;
  /** Looks in a row at which the driver failed. */
  readonly failures: number;
  /** Seconds since the host was started: errors before are no news. */
  readonly since: number;
}

/** Looks in a row at which the driver must fail before its GPUs count as lost: it may just be slow. */
const FAILURES_TO_TROUBLE = 3;

/** Health of GPUs that were just read for the first time. */
export function newGpuHealth(gpus: readonly GpuReading[], since: number): GpuHealth {
  const errorsBefore = new Map(gpus.map(({ uuid, uncorrectedErrors }) => [uuid, uncorrectedErrors]));
  return { gpus, troubles: new Map(), errorsBefore, failures: 0, since };
}

/**
 * What another look at the GPUs means. A GPU that is listed again is well again; one with an error that only a reset
 * mends stays out until the agent is started anew. Pure.
 */
export function judgeGpus(before: GpuHealth, { readings, xids }: GpuLook): GpuHealth {
  const failed = typeof readings === 'string';
  const failures = failed ? before.failures + 1 : 0;
  const listed = new Map((failed ? before.gpus : readings).map((gpu) => [gpu.uuid, gpu]));
  const troubles = new Map<string, string>();
  const gpus = before.gpus.map((known) => {
    const { uuid, index } = known;
    const now = listed.get(uuid);
    const lasting = lastingTrouble(before, known, now, xids);
    if (lasting !== null) troubles.set(uuid, lasting);
    else if (now === undefined) troubles.set(uuid, `GPU ${index} is gone: the driver no longer lists it`);
    else if (failed && failures >= FAILURES_TO_TROUBLE) troubles.set(uuid, `the driver does not answer: ${readings}`);
    return now ?? known;
  });
  return { ...before, gpus, troubles, failures };
}

/** Trouble that does not go away by itself; null when there is none. */
function lastingTrouble(
  { troubles, errorsBefore, since }: GpuHealth,
  { uuid, index, pci }: GpuReading,
  now: GpuReading | undefined,
  xids: readonly XidError[] | null,
): string | null {
  const known = troubles.get(uuid);
  if (known?.endsWith(RESET)) return known;
  const fatal = xids?.find((error) => error.pci === pci && error.at >= since && FATAL_XIDS.has(error.xid));
  if (fatal !== undefined) return `GPU ${index} reports XID ${fatal.xid}: ${fatal.text}; ${RESET}`;
  const errors = (now?.uncorrectedErrors ?? 0) - (errorsBefore.get(uuid) ?? 0);
  if (errors > 0) return `GPU ${index} had ${errors} memory errors that could not be corrected; ${RESET}`;
  return null;
}

const RESET = 'reset the GPU and restart the agent';
