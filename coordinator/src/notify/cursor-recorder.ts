import type { Clock, Timer } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import type { Logger } from '@clipfarm/shared/log';
import type { DeliveryLog } from './delivery-log.ts';
import type { Cursor } from './delivery-state.ts';

/** What is delivered is recorded this often: after a crash so much is delivered twice. */
const RECORD_MILLIS = 1000;

/** Until it is tried again when the journal could not be written. */
const AGAIN_MILLIS = 5000;

/** Gathers cursors and records them together, so that many deliveries cost one small event a second. */
export class CursorRecorder {
  readonly #deliveries: DeliveryLog;
  readonly #term: number;
  readonly #clock: Clock;
  readonly #log: Logger;
  #waiting = new Map<string, Cursor>();
  #timer: Timer | null = null;
  #recording: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(deliveries: DeliveryLog, term: number, clock: Clock, log: Logger) {
    this.#deliveries = deliveries;
    this.#term = term;
    this.#clock = clock;
    this.#log = log;
  }

  /** Takes a job's cursor, to be recorded soon. */
  note(jobId: string, cursor: Cursor): void {
    this.#waiting.set(jobId, cursor);
    if (this.#timer === null) this.#recordIn(RECORD_MILLIS);
  }

  /** Records what waits. What can't be recorded now is delivered again by the next leader. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.#recording;
    if (this.#waiting.size > 0) await this.#record();
  }

  #recordIn(millis: number): void {
    if (this.#closed) return;
    this.#timer = this.#clock.setTimeout(() => {
      this.#recording = this.#record().then((recorded) => {
        this.#timer = null;
        if (this.#waiting.size > 0) this.#recordIn(recorded ? RECORD_MILLIS : AGAIN_MILLIS);
      });
    }, millis);
  }

  /** @returns whether it succeeded */
  async #record(): Promise<boolean> {
    const cursors = this.#waiting;
    this.#waiting = new Map();
    try {
      await this.#deliveries.record(cursors, { at: this.#clock.now(), term: this.#term });
      return true;
    } catch (error) {
      this.#waiting = new Map([...cursors, ...this.#waiting]);
      this.#log.warn({ err: FarmError.from(error) }, 'delivered webhooks could not be recorded');
      return false;
    }
  }
}
