/** How waiting times grow from one failed attempt to the next. */
export interface Backoff {
  /** Milliseconds after the first failure. */
  readonly first: number;
  /** Most milliseconds. */
  readonly most: number;
}

/** Milliseconds to wait after so many failures in a row, 1 or more: doubling, up to a limit. */
export function backoffDelay(backoff: Backoff, failures: number): number {
  return Math.min(backoff.most, backoff.first * 2 ** Math.min(failures - 1, 30));
}
