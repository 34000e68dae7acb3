import type { Clock, Timer } from '@clipfarm/shared/clock';

/** A time in which this process did nothing: it was frozen, or busy with one thing. */
export interface Standstill {
  readonly millis: number;
  /** Bytes of messages that it has taken since then: what waited for it, and what came after. */
  readonly bytes: number;
}

/** Between two looks. */
const LOOK_MILLIS = 250;

/** A look that is later than this is a standstill: a collection of garbage and a large snapshot take less. */
const LATE_MILLIS = 1000;

/** What happens this long after a standstill is no consequence of it. */
const RECENT_MILLIS = 5000;

/**
 * Notices that this process stands still. While it does it can't say so, and whoever sends to it may lose patience meanwhile;
 * what it is told of that comes when it goes on, so a standstill is remembered for a moment.
 */
export class StandstillWatch {
  readonly #clock: Clock;
  readonly #received: () => number;
  #last: { readonly at: number; readonly bytes: number };
  #standstill: { readonly from: number; readonly until: number; readonly bytes: number } | null = null;
  #timer: Timer;

  /** @param received bytes that this process has taken so far */
  constructor(clock: Clock, received: () => number) {
    this.#clock = clock;
    this.#received = received;
    this.#last = { at: clock.monotonic(), bytes: received() };
    this.#timer = this.#lookLater();
  }

  /** The standstill that is just over, null when there is none. */
  recent(): Standstill | null {
    // What arrives may be handled before the look that is due.
    this.#look();
    const found = this.#standstill;
    if (found === null || this.#clock.monotonic() - found.until > RECENT_MILLIS) return null;
    return { millis: found.until - found.from, bytes: this.#received() - found.bytes };
  }

  close(): void {
    this.#timer.cancel();
  }

  #look(): void {
    const now = this.#clock.monotonic();
    const { at, bytes } = this.#last;
    if (now - at > LOOK_MILLIS + LATE_MILLIS) this.#standstill = { from: at, until: now, bytes };
    this.#last = { at: now, bytes: this.#received() };
  }

  #lookLater(): Timer {
    return this.#clock.setTimeout(() => {
      this.#look();
      this.#timer = this.#lookLater();
    }, LOOK_MILLIS);
  }
}
