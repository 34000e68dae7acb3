import { GIB } from '@clipfarm/shared/model/gpu-cost';

/** How much GPU memory a runner still has after an unload, on its most loaded GPU. */
export interface HeldMemory {
  /** Bytes by the runner's own account, the driver's context left out. */
  readonly toldBytes: number;
  /** Bytes that the driver accounts to its processes, context included; null where it lists none of them. */
  readonly listedBytes: number | null;
}

/**
 * Bytes that a runner may say it still holds: workspaces of libraries. 34 MiB were measured on an H200 after matrix
 * products, attention, convolutions and a compiled function; the smallest model has 15.6 GiB.
 */
const MOST_TOLD = GIB;

/**
 * Bytes that the driver may still account to its processes: a context, which only the end of the process gives back (0.6 to
 * 1.2 GiB on an H200), NCCL's buffers, and {@link MOST_TOLD}.
 */
const MOST_LISTED = 3 * GIB;

/** What speaks against a runner having given its model's memory back, in words; null when nothing does. */
export function unloadProblem({ toldBytes, listedBytes }: HeldMemory): string | null {
  if (toldBytes > MOST_TOLD) return `it still holds ${gib(toldBytes)} GiB by its own account`;
  if (listedBytes !== null && listedBytes > MOST_LISTED) {
    return `the driver still accounts ${gib(listedBytes)} GiB to it, though it says ${gib(toldBytes)}`;
  }
  return null;
}

function gib(bytes: number): string {
  return (bytes / GIB).toFixed(1);
}
