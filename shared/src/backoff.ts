/** How waiting times grow from one failed attempt to the next. */
export interface Backoff {
  /** Milliseconds after the first failure. */
  readonly firstMillis: number;
  /** Most milliseconds. */
  readonly maxMillis: number;
}

/** Milliseconds to wait after so many failures in a row, 1 or more: doubling, up to a limit. */
export function backoffDelay({ firstMillis, maxMillis }: Backoff, failures: number): number {
  return Math.min(maxMillis, firstMillis * 2 ** Math.min(failures - 1, 30));
}

/**
 * Milliseconds to wait before the next attempt: doubling with every failure, then drawn from the upper half, so that
 * many agents that lost one coordinator do not come back in step.
 *
 * @param failures failures so far, at least 1
 * @param random uniform in [0, 1)
 */
export function backoffMillis(failures: number, random: number, backoff: Backoff): number {
  const ceiling = backoffDelay(backoff, failures + 1);
  return Math.max(backoff.firstMillis, ceiling * (0.5 + random / 2));
}
