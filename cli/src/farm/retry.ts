import { setTimeout as sleep } from 'node:timers/promises';
import { type Backoff, backoffDelay } from '@clipfarm/shared/backoff';
import { FarmError } from '@clipfarm/shared/errors';

/** How often something that may be repeated is tried. */
export interface RetryOptions {
  readonly attempts: number;
  readonly backoff: Backoff;
  readonly signal: AbortSignal;
  /** Whether to go on after this error; left out, always. */
  readonly worthwhile?: (error: FarmError) => boolean;
  /** Told before each wait. */
  readonly onRetry: (error: FarmError, delayMillis: number) => void;
}

/** About 20 s in all: long enough for a coordinator that restarts. */
export const shortOutage = { attempts: 6, backoff: { firstMillis: 500, maxMillis: 8000 } } as const;

/**
 * Repeats `attempt` while it fails with `unavailable`. Only for what may be done twice.
 *
 * @throws FarmError the last one; any other at once.
 */
export async function retry<T>(attempt: () => Promise<T>, options: RetryOptions): Promise<T> {
  for (let failures = 1; ; failures += 1) {
    try {
      return await attempt();
    } catch (thrown) {
      const error = FarmError.from(thrown);
      if (error.code !== 'unavailable' || failures >= options.attempts || options.signal.aborted) throw error;
      if (options.worthwhile?.(error) === false) throw error;
      const delay = backoffDelay(options.backoff, failures);
      options.onRetry(error, delay);
      // An abort ends the wait; the next attempt then reports it.
      await sleep(delay, undefined, { signal: options.signal }).catch(() => undefined);
    }
  }
}
