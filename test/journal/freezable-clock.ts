import { type Clock, systemClock, type Timer } from '@clipfarm/shared/clock';

/**
 * The system's time for one coordinator, which stands still while it is frozen: no timer runs, and whoever looks at the
 * monotonic clock sees what it showed before. So a coordinator goes on that was stopped just after it had looked.
 */
export class FreezableClock implements Clock {
  #frozen = false;
  #frozenAt = 0;
  readonly #overdue = new Set<() => void>();

  now(): number {
    return systemClock.now();
  }

  monotonic(): number {
    return this.#frozen ? this.#frozenAt : systemClock.monotonic();
  }

  setTimeout(fn: () => void, ms: number): Timer {
    const due = () => {
      if (this.#frozen) this.#overdue.add(fn);
      else fn();
    };
    const timer = systemClock.setTimeout(due, ms);
    const cancel = () => {
      timer.cancel();
      this.#overdue.delete(fn);
    };
    return { cancel, [Symbol.dispose]: cancel };
  }

  freeze(): void {
    this.#frozenAt = systemClock.monotonic();
    this.#frozen = true;
  }

  /** Lets time go on; what fell due meanwhile is called at once. */
  thaw(): void {
    this.#frozen = false;
    const overdue = [...this.#overdue];
    this.#overdue.clear();
    for (const fn of overdue) fn();
  }
}
