import type { Clock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import { type Decision, decide, isOver, type JobCommand } from '../core/decide.ts';
import { evolve } from '../core/evolve.ts';
import type { JobEvent } from '../core/job-events.ts';
import type { JobDefinition, JobState } from '../core/job-model.ts';
import type { Journal, StoredEvent } from '../journal/journal.ts';
import { Mutex } from './mutex.ts';
import type { Office } from './office.ts';
import { Stream } from './stream.ts';

/** Called after an event is durable and folded; the state is the one after it. */
export type JobListener = (job: JobState, event: JobEvent, at: number) => void;

interface Entry {
  readonly stream: Stream<JobEvent>;
  readonly mutex: Mutex;
  /** Null until the first event is folded. */
  state: JobState | null;
}

const STREAM_PREFIX = 'jobs/';

/**
 * All jobs: a projection of the journal, and the only way to change it. Commands to one job run one after the other; an
 * event is durable before anyone hears of it. A coordinator that follows keeps the projection warm and changes nothing.
 */
export class Jobs {
  readonly #journal: Journal;
  readonly #clock: Clock;
  readonly #office: Office;
  readonly #entries = new Map<string, Entry>();
  readonly #byKey = new Map<string, string>();
  readonly #listeners: JobListener[] = [];
  readonly #submitting = new Mutex();

  private constructor(journal: Journal, clock: Clock, office: Office) {
    this.#journal = journal;
    this.#clock = clock;
    this.#office = office;
  }

  /** Reads every job from the journal and follows it from there on. */
  static async load(journal: Journal, clock: Clock, office: Office): Promise<Jobs> {
    const jobs = new Jobs(journal, clock, office);
    journal.watch((events) => {
      for (const event of events) jobs.#heard(event);
    });
    await jobs.#catchUp();
    return jobs;
  }

  async #catchUp(): Promise<void> {
    for (const { stream } of await this.#journal.streams()) {
      if (stream.startsWith(STREAM_PREFIX)) await this.#entry(stream.slice(STREAM_PREFIX.length)).stream.catchUp();
    }
  }

  /**
   * Takes every live job over for a new term: an earlier leader's appends fail from here on.
   *
   * @throws what the journal throws when it can't be read or written
   */
  async takeOver(): Promise<void> {
    await this.#catchUp();
    const term = this.#office.term;
    await Promise.all(
      this.live().map((job) => this.#append(job.definition.jobId, () => [{ type: 'TermOpened', term }])),
    );
  }

  #heard(event: StoredEvent): void {
    if (!event.stream.startsWith(STREAM_PREFIX)) return;
    const { stream } = this.#entry(event.stream.slice(STREAM_PREFIX.length));
    // A gap is closed by the next command or take-over at the latest; reading it here would race with them.
    if (!stream.take(event)) void stream.catchUp().catch(() => undefined);
  }

  #entry(jobId: string): Entry {
    const known = this.#entries.get(jobId);
    if (known) return known;
    const entry: Entry = {
      stream: new Stream<JobEvent>(this.#journal, STREAM_PREFIX + jobId, (event, at) => this.#folded(entry, event, at)),
      mutex: new Mutex(),
      state: null,
    };
    this.#entries.set(jobId, entry);
    return entry;
  }

  #folded(entry: Entry, event: JobEvent, at: number): void {
    entry.state = evolve(entry.state, event, at);
    const { owner, idempotencyKey, jobId } = entry.state.definition;
    if (event.type === 'JobSubmitted' && idempotencyKey !== undefined)
      this.#byKey.set(keyOf(owner, idempotencyKey), jobId);
    for (const listener of this.#listeners) listener(entry.state, event, at);
  }

  /** Hears of every event of every job, whoever appended it. */
  onEvent(listener: JobListener): void {
    this.#listeners.push(listener);
  }

  /**
   * Accepts a job durably; the owner's idempotency key, when given, returns the job accepted first.
   *
   * @throws FarmError `unavailable` when this coordinator does not lead; what the journal throws
   */
  submit(definition: JobDefinition, priority: number): Promise<{ job: JobState; alreadyExisted: boolean }> {
    return this.#submitting.run(async () => {
      const known = this.byIdempotencyKey(definition.owner, definition.idempotencyKey);
      if (known) return { job: known, alreadyExisted: true };
      try {
        await this.#append(definition.jobId, () => [{ type: 'JobSubmitted', definition, priority }]);
      } finally {
        // What was refused leaves nothing behind.
        if (this.#entries.get(definition.jobId)?.state === null) this.#entries.delete(definition.jobId);
      }
      const job = this.get(definition.jobId);
      if (!job) throw new FarmError('internal', `job ${definition.jobId} vanished`);
      return { job, alreadyExisted: false };
    });
  }

  /**
   * Decides a command and makes its events durable.
   *
   * @throws FarmError `not_found` for an unknown job; `unavailable` when this coordinator does not lead; what the
   * journal throws when it can't be written
   */
  async execute(jobId: string, command: JobCommand): Promise<Decision> {
    const entry = this.#entries.get(jobId);
    const { state } = entry ?? {};
    if (!entry || !state) throw new FarmError('not_found', `there is no job ${jobId}`, { field: 'job_id' });
    return entry.mutex.run(async () => {
      let decision: Decision = { outcome: 'unchanged' };
      await entry.stream.append(
        () => {
          decision = decide(state, command, this.#clock.now());
          return { events: decision.outcome === 'unchanged' ? [] : decision.events };
        },
        () => ({ at: this.#clock.now(), term: this.#office.term }),
      );
      return decision;
    });
  }

  #append(jobId: string, events: () => readonly JobEvent[]): Promise<unknown> {
    const { mutex, stream } = this.#entry(jobId);
    const meta = () => ({ at: this.#clock.now(), term: this.#office.term });
    return mutex.run(() => stream.append(() => ({ events: events() }), meta));
  }

  /** A job by its identity, if there is one. */
  get(jobId: string): JobState | undefined {
    return this.#entries.get(jobId)?.state ?? undefined;
  }

  /** The job that an owner submitted under this key, if any. */
  byIdempotencyKey(owner: string, key: string | undefined): JobState | undefined {
    if (key === undefined) return undefined;
    return this.get(this.#byKey.get(keyOf(owner, key)) ?? '');
  }

  /**
   * A job by its identity or by a prefix that only one job has.
   *
   * @throws FarmError `not_found` or, when several fit, `invalid_argument`
   */
  find(idOrPrefix: string): JobState {
    const exact = this.get(idOrPrefix);
    if (exact) return exact;
    const found = idOrPrefix === '' ? [] : this.#states().filter((job) => job.definition.jobId.startsWith(idOrPrefix));
    if (found.length > 1) {
      const message = `job "${idOrPrefix}" could be any of ${found.length} jobs; give more of it`;
      throw new FarmError('invalid_argument', message, { field: 'job_id' });
    }
    const job = found[0];
    if (!job)
      throw new FarmError('not_found', `there is no job "${idOrPrefix}"`, { field: 'job_id', hint: 'clipfarm jobs' });
    return job;
  }

  /** All jobs, in the order of their submission. */
  all(): JobState[] {
    return this.#states().sort((a, b) => a.submittedAt - b.submittedAt);
  }

  /** Jobs that are not over. */
  live(): JobState[] {
    return this.#states().filter((job) => !isOver(job));
  }

  #states(): JobState[] {
    return [...this.#entries.values()].flatMap((entry) => entry.state ?? []);
  }
}

function keyOf(owner: string, key: string): string {
  return JSON.stringify([owner, key]);
}
