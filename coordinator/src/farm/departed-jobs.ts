import type { Clock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import type { Journal, StoredEvent } from '../journal/journal.ts';
import { Mutex } from './mutex.ts';
import type { Office } from './office.ts';
import type { SnapshotKeeper } from './snapshot-keeper.ts';
import { Stream } from './stream.ts';

/** What is left of a job that was removed. */
export interface DepartedJob {
  readonly jobId: string;
  /** Wall-clock milliseconds when it completed, failed or was cancelled. */
  readonly finishedAt: number;
  /** Wall-clock milliseconds when it expired. */
  readonly expiredAt: number;
}

type DepartureEvent =
  /** A leader took over; appends of an earlier one fail from here on. */
  | { readonly type: 'TermOpened'; readonly term: number }
  /** Everything of a job but this is removed. */
  | ({ readonly type: 'JobRemoved' } & DepartedJob)
  /** Inputs that no job needs, by the SHA-256 of their content, are to be removed. */
  | { readonly type: 'InputsExpired'; readonly sha256s: readonly string[] };

/** Removed jobs that are remembered, the last ones; about a hundred bytes each. */
export const REMEMBERED = 5000;

/** Raised whenever the form changes. Whoever raises it goes on reading the forms before: the events that they cover are gone. */
const SNAPSHOT_VERSION = 1;

/** Jobs that were removed after their time, remembered so that whoever asks for one learns what became of it. */
export class DepartedJobs {
  static readonly stream = 'expired';
  readonly #clock: Clock;
  readonly #office: Office;
  readonly #jobs = new Map<string, DepartedJob>();
  readonly #stream: Stream<DepartureEvent>;
  readonly #mutex = new Mutex();
  readonly #removed: (jobId: string) => void;
  readonly #missed: () => void;

  /**
   * @param removed called for every job that is removed, by whatever coordinator
   * @param missed called when more may have been removed meanwhile than is remembered
   */
  constructor(
    parts: {
      readonly journal: Journal;
      readonly clock: Clock;
      readonly office: Office;
      readonly snapshots: SnapshotKeeper;
    },
    removed: (jobId: string) => void,
    missed: () => void,
  ) {
    this.#clock = parts.clock;
    this.#office = parts.office;
    this.#removed = removed;
    this.#missed = missed;
    const fold = (event: DepartureEvent) => {
      if (event.type === 'JobRemoved') {
        const { jobId, finishedAt, expiredAt } = event;
        this.#remember({ jobId, finishedAt, expiredAt });
      }
      if (parts.office.leads && this.#stream.snapshotDue) parts.snapshots.request(this.#stream);
    };
    this.#stream = new Stream<DepartureEvent>(parts.journal, DepartedJobs.stream, fold, {
      pack: () => ({ version: SNAPSHOT_VERSION, jobs: [...this.#jobs.values()] }),
      unpack: (data) => this.#unpack(data as { version: number; jobs: readonly DepartedJob[] }),
      weight: () => this.#jobs.size,
      trims: true,
    });
  }

  /** Reads what the journal has. @throws what the journal throws when it can't be read */
  load(): Promise<void> {
    return this.#stream.load();
  }

  /**
   * Takes over for a new term: an earlier leader decides no removal from here on.
   *
   * @throws FarmError as {@link record} does
   */
  async takeOver(): Promise<void> {
    await this.#stream.catchUp();
    await this.#append(() => [{ type: 'TermOpened', term: this.#office.term }]);
  }

  /** Takes an event that the journal announced. */
  heard(event: StoredEvent): void {
    // A gap is closed by the next take-over at the latest.
    if (!this.#stream.take(event)) void this.#stream.catchUp().catch(() => undefined);
  }

  /**
   * Records durably that a job is removed; once is enough.
   *
   * @throws FarmError `unavailable` when this coordinator does not lead; what the journal throws
   */
  record(job: DepartedJob): Promise<void> {
    return this.#append(() => (this.#jobs.has(job.jobId) ? [] : [{ type: 'JobRemoved', ...job }]));
  }

  /** Records durably that inputs are to be removed. @throws FarmError as {@link record} does */
  recordInputsExpired(sha256s: readonly string[]): Promise<void> {
    return this.#append(() => [{ type: 'InputsExpired', sha256s }]);
  }

  async #append(decide: () => readonly DepartureEvent[]): Promise<void> {
    const meta = () => ({ at: this.#clock.now(), term: this.#office.term });
    await this.#mutex.run(() => this.#stream.append(() => ({ events: decide() }), meta));
  }

  /** Whether the job was removed. */
  has(jobId: string): boolean {
    return this.#jobs.has(jobId);
  }

  /** The error for a job that was removed, by its identity or a prefix that only one of them has; null for others. */
  missing(idOrPrefix: string): FarmError | null {
    if (idOrPrefix === '') return null;
    const exact = this.#jobs.get(idOrPrefix);
    const found = exact ? [exact] : [...this.#jobs.values()].filter(({ jobId }) => jobId.startsWith(idOrPrefix));
    const [job] = found;
    return job && found.length === 1 ? expiredError(job) : null;
  }

  #remember(job: DepartedJob): void {
    if (this.#jobs.has(job.jobId)) return;
    this.#jobs.set(job.jobId, job);
    this.#removed(job.jobId);
    for (const jobId of this.#jobs.keys()) {
      if (this.#jobs.size <= REMEMBERED) return;
      this.#jobs.delete(jobId);
    }
  }

  #unpack(data: { readonly version: number; readonly jobs: readonly DepartedJob[] }): boolean {
    if (data.version !== SNAPSHOT_VERSION) return false;
    for (const job of data.jobs) this.#remember(job);
    if (this.#stream.position > 0 && data.jobs.length >= REMEMBERED) this.#missed();
    return true;
  }
}

/** The error for a job whose time is over. */
export function expiredError({ jobId, finishedAt, expiredAt }: DepartedJob): FarmError {
  const [ended, expired] = [finishedAt, expiredAt].map((at) => `${new Date(at).toISOString().slice(0, 16)}Z`);
  const message = `job ${jobId} expired at ${expired}: it ended at ${ended}, and finished jobs are removed after a time`;
  return new FarmError('not_found', message, {
    field: 'job_id',
    hint: 'Submit it again; to keep finished jobs longer, start the coordinator with a larger --retain-hours.',
  });
}
