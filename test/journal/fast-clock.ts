import { type Clock, systemClock, type Timer } from '@clipfarm/shared/clock';

/** Time for one coordinator that goes by a whole number of times faster: what it does every few seconds comes sooner. */
export class FastClock implements Clock {
  readonly #factor: number;

  constructor(factor: number) {
    this.#factor = factor;
  }

  now(): number {
    return systemClock.now();
  }

  monotonic(): number {
    return systemClock.monotonic() * this.#factor;
  }

  setTimeout(fn: () => void, ms: number): Timer {
    return systemClock.setTimeout(fn, ms / this.#factor);
  }
}
