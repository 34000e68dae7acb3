import type { LogLine } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';

/** What an {@link OperatorLog} works with. */
export interface OperatorLogOptions {
  readonly send: (line: LogLine) => void;
  /** Monotonic milliseconds. */
  readonly now: () => number;
}

/** Characters of a line that are sent; the coordinator reads no more. */
const MAX_TEXT = 2000;

/** Lines that may go out at once: each slot of a host, and some of its chunks, may fail together. */
const BURST = 20;

/** Milliseconds after which one more line may go out. */
const REFILL_MILLIS = 1000;

/** Lines of this agent for the operator at the coordinator: bounded in size and, whatever fails how often, in number. */
export class OperatorLog {
  readonly #options: OperatorLogOptions;
  #left = BURST;
  #refilledAt: number;
  #leftOut = 0;

  constructor(options: OperatorLogOptions) {
    this.#options = options;
    this.#refilledAt = options.now();
  }

  /** Sends a line, or leaves it out when there were too many; the next line that is sent says how many. */
  tell(level: number, text: string, leaseId: string): void {
    if (!this.#allowed()) {
      this.#leftOut += 1;
      return;
    }
    const note = this.#leftOut === 0 ? '' : `(${this.#leftOut} lines were left out before this one) `;
    this.#leftOut = 0;
    this.#options.send({ level, message: `${note}${text}`.slice(0, MAX_TEXT).toWellFormed(), leaseId });
  }

  #allowed(): boolean {
    const refills = Math.floor((this.#options.now() - this.#refilledAt) / REFILL_MILLIS);
    this.#refilledAt += refills * REFILL_MILLIS;
    this.#left = Math.min(BURST, this.#left + refills);
    if (this.#left === 0) return false;
    this.#left -= 1;
    return true;
  }
}
