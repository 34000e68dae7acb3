import type { JobState } from '../core/job-model.ts';

/** Slot-seconds used long ago count half after this many milliseconds. */
const HALF_LIFE_MILLIS = 10 * 60_000;

/** Slot-seconds below which an owner who holds nothing counts as one who never used the farm. */
const FORGOTTEN_SECONDS = 1;

/** Recent slot-seconds by owner: what slots were held for, fading with time. */
export class UsageMeter {
  readonly #seconds = new Map<string, number>();
  #at: number;

  /** @param now monotonic milliseconds */
  constructor(now: number) {
    this.#at = now;
  }

  /** Slot-seconds by owner. */
  get byOwner(): ReadonlyMap<string, number> {
    return this.#seconds;
  }

  /**
   * Lets time pass: what was used fades, and the owners of leases in force are charged for it.
   *
   * @param jobs that are not over; none when it is not known who held what
   * @param now monotonic milliseconds
   */
  advance(jobs: readonly JobState[], now: number): void {
    const elapsed = now - this.#at;
    this.#at = now;
    const slots = new Map<string, number>();
    for (const { definition, leases } of jobs) {
      if (leases.size > 0) slots.set(definition.owner, (slots.get(definition.owner) ?? 0) + leases.size);
    }
    const fade = 0.5 ** (elapsed / HALF_LIFE_MILLIS);
    for (const [owner, seconds] of this.#seconds) {
      const left = seconds * fade;
      if (left < FORGOTTEN_SECONDS && !slots.has(owner)) this.#seconds.delete(owner);
      else this.#seconds.set(owner, left);
    }
    for (const [owner, held] of slots) {
      this.#seconds.set(owner, (this.#seconds.get(owner) ?? 0) + (held * elapsed) / 1000);
    }
  }
}
