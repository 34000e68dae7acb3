import type { Clock } from '@clipfarm/shared/clock';

/** Watchers get at most one message in this time. */
const MIN_INTERVAL_MILLIS = 200;

/** They get one in this time even when nothing durable changed: progress and forecasts move. */
const MAX_INTERVAL_MILLIS = 1000;

/** Wakes watchers of jobs. */
export class Changes {
  readonly #clock: Clock;
  readonly #waiting = new Map<string, Set<() => void>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Says that a job changed. */
  notify(jobId: string): void {
    for (const wake of this.#waiting.get(jobId) ?? []) wake();
  }

  /** Yields now and after every change, at most five times a second and at least once a second, until the signal. */
  async *of(jobId: string, signal: AbortSignal): AsyncGenerator<void> {
    while (!signal.aborted) {
      // Listens before the watcher looks, so that a change while it looks is not missed.
      const changed = this.#next(jobId, signal);
      yield;
      await this.#sleep(MIN_INTERVAL_MILLIS, signal);
      await changed;
    }
  }

  #next(jobId: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wakers = this.#waiting.get(jobId) ?? new Set();
      this.#waiting.set(jobId, wakers);
      const wake = () => {
        timer.cancel();
        signal.removeEventListener('abort', wake);
        wakers.delete(wake);
        if (wakers.size === 0) this.#waiting.delete(jobId);
        resolve();
      };
      const timer = this.#clock.setTimeout(wake, MAX_INTERVAL_MILLIS);
      signal.addEventListener('abort', wake);
      wakers.add(wake);
    });
  }

  #sleep(millis: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        timer.cancel();
        signal.removeEventListener('abort', wake);
        resolve();
      };
      const timer = this.#clock.setTimeout(wake, millis);
      signal.addEventListener('abort', wake);
    });
  }
}
