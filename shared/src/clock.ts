/** A pending call; cancelling it twice, or after it ran, does nothing. */
export interface Timer extends Disposable {
  cancel(): void;
}

/** Time as the shell sees it; tests pass a {@link ManualClock}. */
export interface Clock {
  /** Wall clock in milliseconds since 1970. */
  now(): number;
  /** Milliseconds since some fixed point; never goes back. */
  monotonic(): number;
  /** Calls `fn` once, `ms` milliseconds from now. Keeps the process alive until then. */
  setTimeout(fn: () => void, ms: number): Timer;
}

/** Longest delay of Node's own timer in milliseconds; beyond it Node would fire at once. */
const LONGEST_DELAY = 2 ** 31 - 1;

/** The machine's time. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  setTimeout(fn, ms) {
    let handle: NodeJS.Timeout;
    const arm = (left: number): void => {
      const step = Math.min(left, LONGEST_DELAY);
      handle = setTimeout(() => (left > step ? arm(left - step) : fn()), step);
    };
    arm(Math.max(0, ms));
    return timerOf(() => clearTimeout(handle));
  },
};

/** Time that moves only when told to. */
export class ManualClock implements Clock {
  #elapsed = 0;
  #sequence = 0;
  #start: number;
  readonly #timers = new Map<number, { readonly due: number; readonly fn: () => void }>();

  /** @param start wall clock at the beginning, milliseconds since 1970. */
  constructor(start = Date.UTC(2030, 0, 1)) {
    this.#start = start;
  }

  now(): number {
    return this.#start + this.#elapsed;
  }

  monotonic(): number {
    return this.#elapsed;
  }

  setTimeout(fn: () => void, ms: number): Timer {
    const id = this.#sequence++;
    this.#timers.set(id, { due: this.#elapsed + Math.max(0, ms), fn });
    return timerOf(() => this.#timers.delete(id));
  }

  /** Sets the wall clock forward by `ms` milliseconds, or back; no time passes. */
  setWall(ms: number): void {
    this.#start += ms;
  }

  /** Number of timers that have not run yet. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Moves time on by `ms` milliseconds and runs what falls due, in order of time, then of creation. */
  advance(ms: number): void {
    const end = this.#elapsed + ms;
    for (let next = this.#nextDue(end); next !== undefined; next = this.#nextDue(end)) {
      const [id, timer] = next;
      this.#timers.delete(id);
      this.#elapsed = Math.max(this.#elapsed, timer.due);
      timer.fn();
    }
    this.#elapsed = end;
  }

  #nextDue(end: number) {
    let first: [number, { readonly due: number; readonly fn: () => void }] | undefined;
    for (const entry of this.#timers) {
      // Map order is creation order, so a strict comparison keeps the older of two that are due together.
      if (entry[1].due <= end && (first === undefined || entry[1].due < first[1].due)) first = entry;
    }
    return first;
  }
}

function timerOf(cancel: () => void): Timer {
  return { cancel, [Symbol.dispose]: cancel };
}
