import type { Random } from './random.ts';
import type { Timeline } from './timeline.ts';

/**
 * One direction of a stream: messages arrive in order after a delay, and those under way when it breaks are lost.
 */
export class Link<M> {
  readonly #timeline: Timeline;
  readonly #random: Random;
  readonly #deliver: (message: M) => void;
  #stream = 0;
  #lastArrival = 0;
  /** Milliseconds added to every message. */
  lag = 0;

  constructor(timeline: Timeline, random: Random, deliver: (message: M) => void) {
    this.#timeline = timeline;
    this.#random = random;
    this.#deliver = deliver;
  }

  /** Sends; arrives unless the stream breaks before. */
  send(message: M): void {
    const stream = this.#stream;
    const arrival = Math.max(this.#lastArrival, this.#timeline.now + this.#random.between(1, 30) + this.lag);
    this.#lastArrival = arrival;
    this.#timeline.after(arrival - this.#timeline.now, () => {
      if (stream === this.#stream) this.#deliver(message);
    });
  }

  /** Loses what is under way. */
  break(): void {
    this.#stream += 1;
    this.#lastArrival = 0;
  }
}
