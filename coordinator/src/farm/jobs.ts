import type { Clock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import { type Decision, decide, isOver, type JobCommand } from '../core/decide.ts';
import { evolve } from '../core/evolve.ts';
import type { JobEvent } from '../core/job-events.ts';
import type { JobDefinition, JobState } from '../core/job-model.ts';
import { packJob, unpackJob } from '../core/job-snapshot.ts';
import type { Journal, StoredEvent } from '../journal/journal.ts';
import { DepartedJobs, expiredError } from './departed-jobs.ts';
import { DoubtfulOrders } from './doubtful-orders.ts';
import { Mutex } from './mutex.ts';
import type { Office } from './office.ts';
import type { SnapshotKeeper } from './snapshot-keeper.ts';
import { Stream } from './stream.ts';
import { WriteIntents } from './write-intents.ts';

/** Called after an event is durable and folded; the state is the one after it. */
export type JobListener = (job: JobState, event: JobEvent, at: number) => void;

interface Entry {
  readonly stream: Stream<JobEvent>;
  readonly mutex: Mutex;
  /** Null until the first event is folded. */
  state: JobState | null;
}

/** How the names of jobs' streams begin; the job's identity follows. */
export const JOB_STREAMS = 'jobs/';

/** Streams that are read at the same time: enough to hide the way to a journal elsewhere. */
const READ_TOGETHER = 16;

/** What jobs are kept with. */
export interface JobsParts {
  readonly journal: Journal;
  readonly clock: Clock;
  readonly office: Office;
  readonly snapshots: SnapshotKeeper;
}

/**
 * All jobs: a projection of the journal, and the only way to change it. Commands to one job run one after the other; an
 * event is durable before anyone hears of it. A coordinator that follows keeps the projection warm and changes nothing.
 */
export class Jobs {
  readonly #journal: Journal;
  readonly #clock: Clock;
  readonly #office: Office;
  readonly #snapshots: SnapshotKeeper;
  readonly #departed: DepartedJobs;
  readonly #intents: WriteIntents;
  readonly #entries = new Map<string, Entry>();
  /** Jobs by owner and idempotency key: more than one when some have expired. */
  readonly #byKey = new Map<string, Set<string>>();
  readonly #listeners: JobListener[] = [];
  readonly #submitting = new Mutex();
  /** Whether jobs may be known here that were removed long ago. */
  #mayHoldRemoved = false;
  readonly #doubtful = new DoubtfulOrders();

  private constructor(parts: JobsParts) {
    this.#journal = parts.journal;
    this.#clock = parts.clock;
    this.#office = parts.office;
    this.#snapshots = parts.snapshots;
    const missed = () => {
      this.#mayHoldRemoved = true;
      // Where it fails, the next take-over does it.
      void this.#dropRemoved().catch(() => undefined);
    };
    this.#departed = new DepartedJobs(parts, (jobId) => this.#drop(jobId), missed);
    this.#intents = new WriteIntents(parts, ({ jobId, position }) => {
      return this.#departed.has(jobId) || (this.#entries.get(jobId)?.stream.position ?? 0) > position;
    });
  }

  /** Reads every job from the journal, from its last snapshot on, and follows it from there. */
  static async load(parts: JobsParts): Promise<Jobs> {
    const jobs = new Jobs(parts);
    let heard: StoredEvent[] | null = [];
    parts.journal.watch((events) => {
      if (heard) heard.push(...events);
      else for (const event of events) jobs.#heard(event);
    });
    await jobs.#departed.load();
    await jobs.#intents.load();
    await jobs.#readAll((stream) => stream.load());
    const missed = heard;
    heard = null;
    for (const event of missed) jobs.#heard(event);
    return jobs;
  }

  /** Has every stream read that the journal has more of than is known here. */
  async #readAll(read: (stream: Stream<JobEvent>) => Promise<void>): Promise<void> {
    const queue = (await this.#journal.streams()).flatMap(({ stream, position }) => {
      const jobId = stream.slice(JOB_STREAMS.length);
      if (!stream.startsWith(JOB_STREAMS) || this.#departed.has(jobId)) return [];
      const own = this.#entry(jobId).stream;
      return own.position < position ? [own] : [];
    });
    const readers = Array.from({ length: READ_TOGETHER }, async () => {
      for (let next = queue.pop(); next; next = queue.pop()) await read(next);
    });
    await Promise.all(readers);
  }

  /**
   * Takes every job over for a new term: an earlier leader's appends fail from here on. It can write to live jobs, and to
   * others where it has said so before, so these are what the term is opened for.
   *
   * @throws what the journal throws when it can't be read or written
   */
  async takeOver(): Promise<void> {
    await this.#departed.takeOver();
    await this.#intents.takeOver();
    await this.#dropRemoved();
    // What it reads is all that was stored until now, and nobody says anything more.
    await this.#readAll((stream) => stream.catchUp());
    const jobIds = new Set([...this.live().map(({ definition }) => definition.jobId), ...this.#intents.open()]);
    await Promise.all([...jobIds].map((jobId) => this.#openTerm(jobId)));
  }

  /** Keeps earlier leaders from appending to a job; once in a term is enough. */
  #openTerm(jobId: string): Promise<unknown> {
    const { stream } = this.#entry(jobId);
    return this.#append(jobId, () => {
      const { term } = this.#office;
      return stream.term < term ? [{ type: 'TermOpened', term }] : [];
    });
  }

  #heard(event: StoredEvent): void {
    if (event.stream === DepartedJobs.stream) this.#departed.heard(event);
    if (event.stream === WriteIntents.stream) this.#intents.heard(event);
    const jobId = event.stream.slice(JOB_STREAMS.length);
    if (!event.stream.startsWith(JOB_STREAMS) || this.#departed.has(jobId)) return;
    const { stream } = this.#entry(jobId);
    // A gap is closed by the next command or take-over at the latest; reading it here would race with them.
    if (!stream.take(event)) void stream.catchUp().catch(() => undefined);
  }

  #entry(jobId: string): Entry {
    const known = this.#entries.get(jobId);
    if (known) return known;
    const entry: Entry = {
      stream: new Stream<JobEvent>(this.#journal, JOB_STREAMS + jobId, (event, at) => this.#folded(entry, event, at), {
        pack: () => entry.state && packJob(entry.state),
        unpack: (data) => this.#unpack(entry, data),
        weight: () => (entry.state?.committed.size ?? 0) + (entry.state?.pastLeases.size ?? 0),
      }),
      mutex: new Mutex(),
      state: null,
    };
    this.#entries.set(jobId, entry);
    return entry;
  }

  #unpack(entry: Entry, data: unknown): boolean {
    entry.state = unpackJob(data);
    if (entry.state) this.#noteKey(entry.state.definition);
    return entry.state !== null;
  }

  #folded(entry: Entry, event: JobEvent, at: number): void {
    // An earlier leader was about to accept it, and the place is taken so that it can't.
    if (entry.state === null && event.type === 'TermOpened') return;
    entry.state = evolve(entry.state, event, at);
    if (event.type === 'JobSubmitted') {
      this.#noteKey(event.definition);
      this.#doubtful.settle(event);
    }
    for (const listener of this.#listeners) listener(entry.state, event, at);
    if (!this.#office.leads) return;
    // A job that is over has become small, and will be read at every start for as long as it is kept.
    if (entry.stream.snapshotDue || isOver(entry.state)) this.#snapshots.request(entry.stream);
  }

  #noteKey({ owner, idempotencyKey, jobId }: JobDefinition): void {
    if (idempotencyKey === undefined) return;
    const key = keyOf(owner, idempotencyKey);
    this.#byKey.set(key, (this.#byKey.get(key) ?? new Set()).add(jobId));
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
      const order = this.#doubtful.orderFor({ definition, priority }, this.#office.term);
      const { jobId } = order.definition;
      let alreadyExisted = false;
      try {
        await this.#append(jobId, () => {
          alreadyExisted = this.get(jobId) !== undefined;
          return alreadyExisted ? [] : [{ type: 'JobSubmitted', ...order }];
        });
      } catch (error) {
        // A refusal may follow an attempt that was left without an answer. What can't be an event was never sent.
        if (FarmError.from(error).code !== 'invalid_argument') this.#doubtful.doubt(order);
        // What was refused leaves nothing behind.
        if (!this.get(jobId)) this.#entries.delete(jobId);
        throw error;
      }
      this.#doubtful.settle(order);
      const job = this.get(jobId);
      if (!job) throw new FarmError('internal', `job ${jobId} vanished`);
      return { job, alreadyExisted };
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
        () => this.#meta(),
        (position) => this.#announce(jobId, position),
      );
      return decision;
    });
  }

  #append(jobId: string, events: () => readonly JobEvent[]): Promise<unknown> {
    const { mutex, stream } = this.#entry(jobId);
    return mutex.run(() =>
      stream.append(
        () => ({ events: events() }),
        () => this.#meta(),
        (position) => this.#announce(jobId, position),
      ),
    );
  }

  #meta() {
    return { at: this.#clock.now(), term: this.#office.term };
  }

  /** Says that events are to follow a job's position, unless it is live there: whoever takes over finds a live job by itself. */
  #announce(jobId: string, position: number): Promise<void> | undefined {
    const state = this.get(jobId);
    return state && !isOver(state) ? undefined : this.#intents.say({ jobId, position });
  }

  /**
   * Removes what the journal has of a job that expired. Its files must be gone already: nobody remembers them from here on.
   *
   * @throws FarmError `failed_precondition` for a job that has not expired; `unavailable` when this coordinator does not
   * lead; what the journal throws when it can't be written
   */
  async remove(jobId: string): Promise<void> {
    const entry = this.#entries.get(jobId);
    if (!entry) return;
    const { expiredAt, finishedAt } = entry.state ?? {};
    if (expiredAt == null || finishedAt == null) {
      throw new FarmError('failed_precondition', `job ${jobId} has not expired`, { field: 'job_id' });
    }
    // Another leader may have taken over since; only this append tells.
    await this.#departed.record({ jobId, finishedAt, expiredAt });
    // One that is saved after its stream was removed would stay for ever.
    await this.#snapshots.forget(entry.stream);
    await this.#journal.remove(JOB_STREAMS + jobId);
  }

  /** Records durably that inputs which no job needs are to be removed. @throws FarmError as {@link remove} does */
  recordInputsExpired(sha256s: readonly string[]): Promise<void> {
    return this.#departed.recordInputsExpired(sha256s);
  }

  /** Removes from the journal what a coordinator left that ended while it removed a job. */
  async removeRemains(): Promise<void> {
    this.#office.requireLead();
    for (const { stream } of await this.#journal.streams()) {
      const isJob = stream.startsWith(JOB_STREAMS);
      if (isJob && this.#departed.has(stream.slice(JOB_STREAMS.length))) await this.#journal.remove(stream);
    }
  }

  /** Forgets the jobs that were removed and that nobody remembers any more: the journal has nothing of them. */
  async #dropRemoved(): Promise<void> {
    if (!this.#mayHoldRemoved) return;
    // Before the list is asked for: of each of them the journal has had events.
    const known = this.#states().map(({ definition }) => definition.jobId);
    const left = new Set((await this.#journal.streams()).map(({ stream }) => stream));
    for (const jobId of known) if (!left.has(JOB_STREAMS + jobId)) this.#drop(jobId);
    this.#mayHoldRemoved = false;
  }

  #drop(jobId: string): void {
    const definition = this.#entries.get(jobId)?.state?.definition;
    this.#entries.delete(jobId);
    this.#intents.forget(jobId);
    if (definition?.idempotencyKey === undefined) return;
    const key = keyOf(definition.owner, definition.idempotencyKey);
    const jobs = this.#byKey.get(key);
    jobs?.delete(jobId);
    if (jobs?.size === 0) this.#byKey.delete(key);
  }

  /** A job by its identity, if there is one. */
  get(jobId: string): JobState | undefined {
    return this.#entries.get(jobId)?.state ?? undefined;
  }

  /** Position of the last event of a job that is known here; 0 for an unknown job. */
  positionOf(jobId: string): number {
    return this.#entries.get(jobId)?.stream.position ?? 0;
  }

  /** The job that an owner submitted under this key, if there is one that has not expired. */
  byIdempotencyKey(owner: string, key: string | undefined): JobState | undefined {
    if (key === undefined) return undefined;
    const jobs = [...(this.#byKey.get(keyOf(owner, key)) ?? [])].flatMap((jobId) => this.get(jobId) ?? []);
    return jobs.find((job) => job.expiredAt === null);
  }

  /**
   * A job by its identity or by a prefix that only one job has.
   *
   * @throws FarmError `not_found` or, when several fit, `invalid_argument`
   */
  find(idOrPrefix: string): JobState {
    const exact = this.get(idOrPrefix);
    if (exact) return present(exact);
    const found = idOrPrefix === '' ? [] : this.#states().filter((job) => job.definition.jobId.startsWith(idOrPrefix));
    if (found.length > 1) {
      const message = `job "${idOrPrefix}" could be any of ${found.length} jobs; give more of it`;
      throw new FarmError('invalid_argument', message, { field: 'job_id' });
    }
    const job = found[0];
    if (job) return present(job);
    const unknown = { field: 'job_id', hint: 'clipfarm jobs' };
    throw this.#departed.missing(idOrPrefix) ?? new FarmError('not_found', `there is no job "${idOrPrefix}"`, unknown);
  }

  /** All jobs that have not expired, in the order of their submission. */
  all(): JobState[] {
    return this.#states()
      .filter((job) => job.expiredAt === null)
      .sort(bySubmission);
  }

  /** Jobs that have expired and are not removed yet. */
  expired(): JobState[] {
    return this.#states().filter((job) => job.expiredAt !== null);
  }

  /** Jobs that are not over. */
  live(): JobState[] {
    return this.#states().filter((job) => !isOver(job));
  }

  #states(): JobState[] {
    return [...this.#entries.values()].flatMap((entry) => entry.state ?? []);
  }
}

/** @throws FarmError `not_found` for a job that has expired */
function present(job: JobState): JobState {
  const { expiredAt, finishedAt } = job;
  if (expiredAt === null || finishedAt === null) return job;
  throw expiredError({ jobId: job.definition.jobId, finishedAt, expiredAt });
}

/** In whatever order they were read. */
function bySubmission(a: JobState, b: JobState): number {
  return a.submittedAt - b.submittedAt || (a.definition.jobId < b.definition.jobId ? -1 : 1);
}

function keyOf(owner: string, key: string): string {
  return JSON.stringify([owner, key]);
}
