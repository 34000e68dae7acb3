/** Bounds of a backoff in milliseconds. */
export interface Backoff {
  /** Shortest wait, and the base of the exponential growth. */
  readonly firstMillis: number;
  /** Longest wait. */
  readonly maxMillis: number;
}

/**
 * Milliseconds to wait before the next attempt: doubling with every failure, then drawn from the upper half, so that
 * many agents that lost one coordinator do not come back in step.
 *
 * @param failures failures so far, at least 1
 * @param random uniform in [0, 1)
 */
export function backoffMillis(failures: number, random: number, { firstMillis, maxMillis }: Backoff): number {
  const ceiling = Math.min(maxMillis, firstMillis * 2 ** Math.min(failures, 30));
  return Math.max(firstMillis, ceiling * (0.5 + random / 2));
}
