import type { Clock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import { type Decision, decide, isOver, type JobCommand } from '../core/decide.ts';
import { evolve } from '../core/evolve.ts';
import type { JobEvent } from '../core/job-events.ts';
import type { JobDefinition, JobState } from '../core/job-model.ts';
import type { Journal } from '../journal/journal.ts';
import { Mutex } from './mutex.ts';

/** Called after an event is durable and folded; the state is the one after it. */
export type JobListener = (job: JobState, event: JobEvent, at: number) => void;

interface Entry {
  readonly state: JobState;
  position: number;
  readonly mutex: Mutex;
}

const STREAM_PREFIX = 'jobs/';

/**
 * All jobs: a projection of the journal, and the only way to change it. Commands to one job run one after the other;
 * an event is durable before anyone hears of it.
 */
export class Jobs {
  readonly #journal: Journal;
  readonly #clock: Clock;
  readonly #term: number;
  readonly #entries = new Map<string, Entry>();
  readonly #byKey = new Map<string, string>();
  readonly #listeners: JobListener[] = [];
  readonly #submitting = new Mutex();

  private constructor(journal: Journal, clock: Clock, term: number) {
    this.#journal = journal;
    this.#clock = clock;
    this.#term = term;
  }

  /** Reads every job from the journal. */
  static async load(journal: Journal, clock: Clock, term: number): Promise<Jobs> {
    const jobs = new Jobs(journal, clock, term);
    for (const { stream } of await journal.streams()) {
      if (stream.startsWith(STREAM_PREFIX)) await jobs.#load(stream);
    }
    return jobs;
  }

  async #load(stream: string): Promise<void> {
    let state: JobState | null = null;
    let position = 0;
    for await (const stored of this.#journal.read(stream, 1)) {
      state = evolve(state, stored.data as JobEvent, stored.at);
      position = stored.position;
    }
    if (state) this.#add(state, position);
  }

  #add(state: JobState, position: number): void {
    this.#entries.set(state.definition.jobId, { state, position, mutex: new Mutex() });
    const key = state.definition.idempotencyKey;
    if (key !== undefined) this.#byKey.set(keyOf(state.definition.owner, key), state.definition.jobId);
  }

  /** Hears of every event of every job. */
  onEvent(listener: JobListener): void {
    this.#listeners.push(listener);
  }

  /**
   * Accepts a job durably; the owner's idempotency key, when given, returns the job accepted first.
   *
   * @throws FarmError `resource_exhausted` when the journal can't be written
   */
  submit(definition: JobDefinition, priority: number): Promise<{ job: JobState; alreadyExisted: boolean }> {
    return this.#submitting.run(async () => {
      const known = this.byIdempotencyKey(definition.owner, definition.idempotencyKey);
      if (known) return { job: known, alreadyExisted: true };
      const at = this.#clock.now();
      const event: JobEvent = { type: 'JobSubmitted', definition, priority };
      const position = await this.#append(definition.jobId, 0, [event], at);
      const job = evolve(null, event, at);
      this.#add(job, position);
      this.#tell(job, event, at);
      return { job, alreadyExisted: false };
    });
  }

  /**
   * Decides a command and makes its events durable.
   *
   * @throws FarmError `not_found` for an unknown job; what the journal throws when it can't be written
   */
  execute(jobId: string, command: JobCommand): Promise<Decision> {
    const entry = this.#entries.get(jobId);
    if (!entry) return Promise.reject(new FarmError('not_found', `there is no job ${jobId}`, { field: 'job_id' }));
    return entry.mutex.run(async () => {
      const at = this.#clock.now();
      const decision = decide(entry.state, command, at);
      if (decision.outcome === 'unchanged' || decision.events.length === 0) return decision;
      entry.position = await this.#append(jobId, entry.position, decision.events, at);
      for (const event of decision.events) {
        evolve(entry.state, event, at);
        this.#tell(entry.state, event, at);
      }
      return decision;
    });
  }

  #append(jobId: string, position: number, events: readonly JobEvent[], at: number): Promise<number> {
    const bodies = events.map((event) => ({ type: event.type, data: event }));
    return this.#journal.append(STREAM_PREFIX + jobId, position, bodies, { at, term: this.#term });
  }

  #tell(job: JobState, event: JobEvent, at: number): void {
    for (const listener of this.#listeners) listener(job, event, at);
  }

  /** A job by its identity, if there is one. */
  get(jobId: string): JobState | undefined {
    return this.#entries.get(jobId)?.state;
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
    const found = idOrPrefix === '' ? [] : [...this.#entries.keys()].filter((id) => id.startsWith(idOrPrefix));
    if (found.length > 1) {
      throw new FarmError(
        'invalid_argument',
        `job "${idOrPrefix}" could be any of ${found.length} jobs; give more of it`,
        {
          field: 'job_id',
        },
      );
    }
    const job = this.get(found[0] ?? '');
    if (!job)
      throw new FarmError('not_found', `there is no job "${idOrPrefix}"`, { field: 'job_id', hint: 'clipfarm jobs' });
    return job;
  }

  /** All jobs, in the order of their submission. */
  all(): JobState[] {
    return [...this.#entries.values()].map((entry) => entry.state).sort((a, b) => a.submittedAt - b.submittedAt);
  }

  /** Jobs that are not over. */
  live(): JobState[] {
    return [...this.#entries.values()].map((entry) => entry.state).filter((job) => !isOver(job));
  }
}

function keyOf(owner: string, key: string): string {
  return JSON.stringify([owner, key]);
}
