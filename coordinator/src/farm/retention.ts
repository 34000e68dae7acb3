import type { Clock, Timer } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import type { Logger } from '@clipfarm/shared/log';
import type { Metrics } from '../admin/metrics.ts';
import type { ArtifactStore } from '../artifacts/artifact-store.ts';
import { isOver } from '../core/decide.ts';
import type { JobState } from '../core/job-model.ts';
import type { AudioLibrary } from './audio-library.ts';
import { type BelievedTime, DOUBT_MILLIS, firstBelief, nextBelief } from './believed-time.ts';
import type { InputKeeper } from './input-keeper.ts';
import type { Jobs } from './jobs.ts';
import type { Nodes } from './nodes.ts';
import type { Office } from './office.ts';

/** How long things are kept; null for ever. */
export interface RetentionTimes {
  /** A job after it completed, failed or was cancelled. */
  readonly jobMillis: number | null;
  /** An input that no job needs, after it was stored. */
  readonly inputMillis: number | null;
}

/** What retention works with. */
export interface RetentionParts {
  readonly jobs: Jobs;
  readonly nodes: Pick<Nodes, 'forgetAway'>;
  readonly inputs: InputKeeper;
  readonly audio: Pick<AudioLibrary, 'drop'>;
  readonly store: Pick<ArtifactStore, 'removePrefix'>;
  readonly office: Pick<Office, 'leads'>;
  readonly retention: RetentionTimes;
  readonly metrics: Pick<Metrics, 'jobsExpired' | 'inputsExpired' | 'nodesForgotten'>;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Between two looks; more often only where things are kept for a short time. */
const MAX_INTERVAL_MILLIS = 10 * 60_000;
const MIN_INTERVAL_MILLIS = 1000;

/** A node that is away for longer is forgotten: a week. */
const NODE_MILLIS = 7 * 24 * 3_600_000;

/** Inputs that one event says are removed, so that it stays small and their removal is soon done. */
const INPUTS_TOGETHER = 100;

/**
 * Removes what was kept for as long as it is to be kept, while this coordinator leads: finished jobs with everything of
 * theirs, inputs that no job needs, and nodes that are away for long. What goes is decided by a durable event first; whoever leads next goes on from there.
 */
export class Retention {
  readonly #parts: RetentionParts;
  readonly #since: number;
  #timer: Timer | null = null;
  #running: Promise<void> = Promise.resolve();
  #stopped = false;
  #remainsRemoved = false;
  #time: BelievedTime;

  constructor(parts: RetentionParts) {
    const { clock, jobs } = parts;
    this.#parts = parts;
    this.#since = clock.monotonic();
    this.#time = firstBelief(clock.now(), this.#since, newestTime(jobs.all()));
  }

  /** Looks now, and then again and again. */
  start(): void {
    if (this.#stopped) return;
    this.#running = this.sweep()
      .catch((error: unknown) => this.#parts.log.warn({ err: FarmError.from(error) }, 'expired things stay for now'))
      .then(() => {
        if (!this.#stopped) this.#timer = this.#parts.clock.setTimeout(() => this.start(), this.#interval());
      });
  }

  /** Stops after the removal in hand. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#running;
  }

  /** Decides what has expired, and removes it and what an earlier look or leader has decided. */
  async sweep(): Promise<void> {
    const { jobs, inputs, clock, retention } = this.#parts;
    const { jobMillis, inputMillis } = retention;
    const now = this.#believedNow();
    let failure: unknown;
    // What keeps one job where it is keeps nothing else.
    const note = (error: unknown) => {
      failure = error;
    };
    if (jobMillis !== null) {
      for (const job of jobs.all().filter((one) => isDue(one, now - jobMillis))) {
        if (this.#stopped) return;
        await jobs.execute(job.definition.jobId, { type: 'expire', keepMillis: jobMillis }).catch(note);
      }
    }
    await this.#forgetNodes();
    for (const job of jobs.expired()) {
      if (this.#stopped) return;
      await this.#removeJob(job).catch(note);
    }
    if (failure !== undefined) this.#parts.log.warn({ err: failure }, 'an expired job stays for now');
    if (!this.#remainsRemoved) await jobs.removeRemains();
    this.#remainsRemoved = true;
    // Another leader's clients may be in the middle of submitting, and only it knew of what they asked for.
    const knowsUses = clock.monotonic() - this.#since >= inputs.inUseMillis;
    if (inputMillis !== null && knowsUses) await this.#removeInputs(now - inputMillis);
  }

  /** The time by which things expire: what is removed is gone, so a clock that was set wrongly must not decide it. */
  #believedNow(): number {
    const { clock, log } = this.#parts;
    const before = this.#time;
    this.#time = nextBelief(before, clock.now(), clock.monotonic());
    if (this.#time.steadySince !== before.steadySince) {
      const fields = { believed: new Date(this.#time.at).toISOString(), doubt_hours: DOUBT_MILLIS / 3_600_000 };
      log.warn(
        fields,
        'the clock was set: until it has gone steadily for a while, nothing expires by time that did not pass',
      );
    }
    return this.#time.at;
  }

  async #forgetNodes(): Promise<void> {
    for (const { nodeId, name, left } of await this.#parts.nodes.forgetAway(NODE_MILLIS)) {
      this.#parts.metrics.nodesForgotten.inc();
      this.#parts.log.info(
        { node_id: nodeId, node: name, state: left === null ? 'lost' : 'left' },
        'node forgotten: it was away for a week',
      );
    }
  }

  async #removeJob({ definition: { jobId, name }, finishedAt }: JobState): Promise<void> {
    const { jobs, store, metrics, log } = this.#parts;
    await store.removePrefix(`jobs/${jobId}`);
    // It is forgotten before its history is removed; should that fail, only this remembers that something remains.
    const before = this.#remainsRemoved;
    this.#remainsRemoved = false;
    await jobs.remove(jobId);
    this.#remainsRemoved = before;
    metrics.jobsExpired.inc();
    const finished = finishedAt === null ? null : new Date(finishedAt).toISOString();
    log.info({ job_id: jobId, job: name, finished_at: finished }, 'job expired: its files and its history are removed');
  }

  async #removeInputs(before: number): Promise<void> {
    const { jobs, inputs, audio, office, clock, metrics, log } = this.#parts;
    const definitions = () => jobs.all().map(({ definition }) => definition);
    const unused = await inputs.unused(definitions(), before);
    for (let at = 0; at < unused.length && !this.#stopped; at += INPUTS_TOGETHER) {
      const some = unused.slice(at, at + INPUTS_TOGETHER);
      // Before it is asked for: this process may stand still between the answer and the next look at the clock.
      const decidedAt = clock.monotonic();
      await jobs.recordInputsExpired(some);
      const removed = await inputs.remove(some, { decidedAt, mayGoOn: () => office.leads });
      for (const sha256 of removed) await audio.drop(sha256);
      metrics.inputsExpired.inc(removed.length);
      log.info({ inputs: removed.length, of: unused.length }, 'inputs that no job needs are removed');
    }
  }

  #interval(): number {
    const { jobMillis, inputMillis } = this.#parts.retention;
    const shortest = Math.min(jobMillis ?? Number.POSITIVE_INFINITY, inputMillis ?? Number.POSITIVE_INFINITY);
    return Math.max(MIN_INTERVAL_MILLIS, Math.min(MAX_INTERVAL_MILLIS, shortest / 4));
  }
}

/** The newest time that is recorded of any job, in wall-clock milliseconds; null where there is none. */
function newestTime(jobs: readonly JobState[]): number | null {
  const times = jobs.map((job) => Math.max(job.submittedAt, job.lastCommitAt ?? 0, job.finishedAt ?? 0));
  return times.length === 0 ? null : times.reduce((a, b) => Math.max(a, b));
}

function isDue(job: JobState, finishedBefore: number): boolean {
  return isOver(job) && job.finishedAt !== null && job.finishedAt <= finishedBefore;
}
