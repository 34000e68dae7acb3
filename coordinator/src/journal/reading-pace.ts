import type { Clock } from '@clipfarm/shared/clock';
import type { Logger } from '@clipfarm/shared/log';

/** What noticing a slow reader needs. */
export interface ReadingPaceParts {
  readonly clock: Clock;
  readonly log: Logger;
  /** Called when it is said that this process reads too slowly. */
  readonly onSlow: () => void;
}

/** Messages that are written and not read yet; ten times as many as a reader asks for at a time. */
export const BEHIND = 1000;

/** After a break a reader has much to catch up with; for this long it is no sign of being slow. */
export const BEHIND_MILLIS = 5000;

/**
 * Notices that a reader falls behind the writers. It is told before NATS loses patience with it, and of readers with whom it
 * never does because they ask for little at a time. Said when it begins and when it is over.
 */
export class ReadingPace {
  readonly #parts: ReadingPaceParts;
  /** Since when, by the monotonic clock. */
  #behindSince: number | null = null;
  #said = false;

  constructor(parts: ReadingPaceParts) {
    this.#parts = parts;
  }

  /** Notes that a message was read. @param left messages that are stored behind it */
  read(left: number): void {
    const { clock, log, onSlow } = this.#parts;
    if (left < BEHIND) {
      this.#behindSince = null;
      if (this.#said && left === 0) {
        this.#said = false;
        log.info('the journal is read to its end again');
      }
      return;
    }
    this.#behindSince ??= clock.monotonic();
    if (this.#said || clock.monotonic() - this.#behindSince < BEHIND_MILLIS) return;
    this.#said = true;
    onSlow();
    log.warn({ behind: left, hint: SLOW_HINT }, 'this process reads the journal more slowly than it is written');
  }
}

/** What to do about a reader that is too slow. */
export const SLOW_HINT = 'this process or its network is too slow for what it reads; check its load';
