import assert from 'node:assert/strict';
import type { JobEvent } from '../../coordinator/src/core/job-events.ts';
import type { StoredEvent } from '../../coordinator/src/journal/journal.ts';
import { JobInvariants } from '../harness/job-invariants.ts';
import { openQuietly } from '../journal/open-quietly.ts';

/** An event of a job as it was stored. */
export interface JobRecord {
  readonly jobId: string;
  readonly event: JobEvent;
  /** Milliseconds since 1970. */
  readonly at: number;
}

const STREAM_PREFIX = 'jobs/';

/** The stream whose end a new leader moves last. */
const MOVED_LAST = 'farm';

/**
 * Follows the journal like a coordinator does, from before the first job, and checks every event of every job against
 * the invariants the moment that it comes; and of all events, in the order in which they are stored, that none is of an earlier
 * leader than one that has taken over.
 */
export class Witness implements AsyncDisposable {
  /** Every event so far, those of one job in order. */
  readonly records: JobRecord[] = [];
  /** What does not hold. */
  readonly violations: string[] = [];
  readonly #histories = new Map<string, JobInvariants>();
  readonly #positions = new Map<string, number>();
  readonly #submitted = new Set<string>();
  /** Highest term whose leader has taken over. */
  #term = 0;
  readonly #close: () => Promise<void>;

  private constructor(close: () => Promise<void>) {
    this.#close = close;
  }

  /** @param servers URLs of the NATS servers */
  static async open(servers: readonly string[]): Promise<Witness> {
    const { journal, election } = await openQuietly({ servers });
    const witness = new Witness(async () => {
      await election.close();
      await journal.close();
    });
    journal.watch((events) => {
      for (const stored of events) {
        witness.#checkTerm(stored);
        witness.#take(stored);
      }
    });
    return witness;
  }

  /** Jobs that were accepted. */
  get jobIds(): readonly string[] {
    return [...this.#submitted];
  }

  /** What is known of a job's history. */
  history(jobId: string): JobInvariants {
    return this.#histories.get(jobId) ?? assert.fail(`the journal has no job ${jobId}`);
  }

  #checkTerm({ stream, type, position, term }: StoredEvent): void {
    if (term < this.#term) {
      this.violations.push(`${stream}: ${type}, event ${position}, is of term ${term} and came when ${this.#term} led`);
    }
    if (stream === MOVED_LAST && type === 'TermOpened') this.#term = Math.max(this.#term, term);
  }

  #take(stored: StoredEvent): void {
    if (!stored.stream.startsWith(STREAM_PREFIX)) return;
    const jobId = stored.stream.slice(STREAM_PREFIX.length);
    const position = this.#positions.get(jobId) ?? 0;
    if (stored.position !== position + 1) {
      this.violations.push(`job ${jobId}: event ${stored.position} follows ${position}`);
    }
    this.#positions.set(jobId, stored.position);
    const history = this.#histories.get(jobId) ?? new JobInvariants(jobId);
    this.#histories.set(jobId, history);
    const event = stored.data as JobEvent;
    this.records.push({ jobId, event, at: stored.at });
    if (event.type === 'JobSubmitted') this.#submitted.add(jobId);
    try {
      history.take(event, stored.term);
    } catch (error) {
      this.violations.push(error instanceof Error ? error.message : String(error));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }
}
