import type { Clock } from '@clipfarm/shared/clock';
import type { Logger } from '@clipfarm/shared/log';

const FIRST_PAUSE_MILLIS = 500;
const MAX_PAUSE_MILLIS = 5000;

/** A failure that lies back for longer than its pause and this is no longer counted. */
const FORGET_MILLIS = 60_000;

interface Failing {
  readonly failures: number;
  /** Monotonic milliseconds. */
  readonly until: number;
}

/**
 * Jobs for which something could not be recorded just now. They are left out of scheduling for moments that get longer:
 * what can't be written to one job's stream must not keep slots and rounds from all others.
 */
export class LeftOutJobs {
  readonly #clock: Pick<Clock, 'monotonic'>;
  readonly #log: Logger;
  readonly #failing = new Map<string, Failing>();

  constructor(clock: Pick<Clock, 'monotonic'>, log: Logger) {
    this.#clock = clock;
    this.#log = log;
  }

  /** Whether a job is left out at this moment. */
  has(jobId: string): boolean {
    const failing = this.#failing.get(jobId);
    if (failing === undefined) return false;
    const over = this.#clock.monotonic() - failing.until;
    if (over > FORGET_MILLIS) this.#failing.delete(jobId);
    return over < 0;
  }

  /**
   * Records something for a job, and leaves it out for a while if that fails.
   *
   * @returns what `record` returns, or null when it failed
   */
  async attempt<Result>(jobId: string, record: () => Promise<Result>): Promise<Result | null> {
    try {
      const result = await record();
      this.#failing.delete(jobId);
      return result;
    } catch (error) {
      this.#failed(jobId, error);
      return null;
    }
  }

  #failed(jobId: string, error: unknown): void {
    // Several attempts of one round fail together and count once.
    if (this.has(jobId)) return;
    const failures = (this.#failing.get(jobId)?.failures ?? 0) + 1;
    const pause = Math.min(MAX_PAUSE_MILLIS, FIRST_PAUSE_MILLIS * 2 ** (failures - 1));
    this.#failing.set(jobId, { failures, until: this.#clock.monotonic() + pause });
    const words = 'what was decided for a job could not be recorded; it is tried again, and other jobs go on meanwhile';
    this.#log[failures === 1 ? 'warn' : 'debug']({ err: error, job_id: jobId, failures }, words);
  }
}
