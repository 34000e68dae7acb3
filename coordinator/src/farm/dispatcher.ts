import { randomUUID } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Clock, Timer } from '@clipfarm/shared/clock';
import type { Logger } from '@clipfarm/shared/log';
import type { Metrics } from '../admin/metrics.ts';
import type { ArtifactStore } from '../artifacts/artifact-store.ts';
import { commandOf } from '../core/action-command.ts';
import { schedule } from '../core/schedule.ts';
import type { ScheduleAction } from '../core/schedule-model.ts';
import type { Fleet } from './fleet.ts';
import type { Jobs } from './jobs.ts';
import { LeaseWatch } from './lease-watch.ts';
import { LeftOutJobs } from './left-out-jobs.ts';
import type { Nodes } from './nodes.ts';
import type { StorageHealth } from './storage-health.ts';

/** Timings of the farm, in milliseconds where not said otherwise. */
export interface FarmTimings {
  /** Between heartbeats. */
  readonly heartbeatMillis: number;
  /** Without a sign of life after which a node's leases are given to others. */
  readonly leaseMillis: number;
  /** That an agent goes on rendering without contact. */
  readonly graceMillis: number;
  /** Seconds without progress that are a hang at least, however fast the slot is. */
  readonly hangFloorSeconds: number;
}

/** What a {@link Dispatcher} works with. */
export interface DispatcherParts {
  readonly jobs: Jobs;
  readonly nodes: Nodes;
  readonly fleet: Fleet;
  readonly store: Pick<ArtifactStore, 'freeBytes' | 'tempDir'>;
  readonly clock: Clock;
  readonly timings: FarmTimings;
  readonly metrics: Metrics;
  readonly storage: StorageHealth;
  readonly log: Logger;
}

const TICK_MILLIS = 250;

/** Between looks at a store that was full. */
const RECHECK_MILLIS = 3000;

/** After a decision nothing is decided for this many times as long: a busy farm's events come faster than it decides. */
const REST_FACTOR = 3;

/**
 * Runs the scheduler whenever something changed and every quarter of a second, one round at a time; and ends what is
 * stuck: leases of lost nodes, leases without progress.
 */
export class Dispatcher {
  readonly #parts: DispatcherParts;
  readonly #watch: LeaseWatch;
  readonly #leftOut: LeftOutJobs;
  #timer: Timer | null = null;
  #running: Promise<void> | null = null;
  #dirty = false;
  /** Time has passed since the leases were last looked at. */
  #ticked = true;
  #lastTick: number;
  #lastRecheck: number;
  /** Milliseconds that the last decision took. */
  #thought = 0;
  /** Between start and stop. */
  #open = false;

  constructor(parts: DispatcherParts) {
    this.#parts = parts;
    this.#leftOut = new LeftOutJobs(parts.clock, parts.log);
    this.#watch = new LeaseWatch({ ...parts, ...parts.timings, leftOut: this.#leftOut });
    const now = parts.clock.monotonic();
    this.#lastTick = now;
    this.#lastRecheck = now;
  }

  /** Begins. What was asked for before is done now. */
  start(): void {
    this.#open = true;
    this.#lastTick = this.#parts.clock.monotonic();
    this.#tickLater();
    this.wake();
  }

  /** Stops and waits for the round in hand. */
  async stop(): Promise<void> {
    this.#open = false;
    this.#timer?.cancel();
    await this.#running;
  }

  /** Asks for a round soon: something changed. */
  wake(): void {
    this.#dirty = true;
    if (this.#running || !this.#open) return;
    this.#running = this.#rounds().finally(() => {
      this.#running = null;
    });
  }

  #tickLater(): void {
    this.#timer = this.#parts.clock.setTimeout(() => this.#tick(), TICK_MILLIS);
  }

  #tick(): void {
    const { clock, nodes, fleet, timings } = this.#parts;
    const now = clock.monotonic();
    const late = now - this.#lastTick - TICK_MILLIS;
    this.#lastTick = now;
    this.#tickLater();
    if (late > timings.heartbeatMillis) {
      // A coordinator that stood still could not hear anybody; nobody is declared lost or stuck for that.
      nodes.forgive(late);
      this.#watch.excuse();
    }
    fleet.tickUsage();
    this.#watchStorage(now);
    this.#ticked = true;
    this.wake();
  }

  #watchStorage(now: number): void {
    const { storage, store } = this.#parts;
    if (storage.problem === null) return;
    // Renderers wait behind their spools then, and that is nobody's fault.
    this.#watch.excuse();
    if (now - this.#lastRecheck < RECHECK_MILLIS) return;
    this.#lastRecheck = now;
    void storage.recheck(store);
  }

  async #rounds(): Promise<void> {
    // Yields first, so that changes of one turn share one round.
    await nextTurn();
    while (this.#dirty && this.#open) {
      this.#dirty = false;
      try {
        if (this.#ticked) {
          this.#ticked = false;
          await this.#watch.check();
        }
        await this.#schedule();
      } catch (error) {
        this.#parts.log.error({ err: error }, 'a scheduling round failed; the next one tries again');
        return;
      }
      await this.#rest();
    }
  }

  /** Leaves the thread to everyone else, in proportion to what the decision took of it; small farms don't notice. */
  async #rest(): Promise<void> {
    const millis = Math.min(TICK_MILLIS, Math.floor(REST_FACTOR * this.#thought));
    if (millis > 0) await new Promise<void>((resolve) => void this.#parts.clock.setTimeout(resolve, millis));
  }

  async #schedule(): Promise<void> {
    const { jobs, fleet, metrics, clock } = this.#parts;
    const started = clock.monotonic();
    const stop = metrics.scheduleSeconds.startTimer();
    const actions = schedule(
      fleet.scheduleInput(jobs.live().filter(({ definition }) => !this.#leftOut.has(definition.jobId))),
    );
    stop();
    this.#thought = clock.monotonic() - started;
    // What concerns one job is done in order; jobs don't depend on each other, and the disk takes them together.
    const byJob = [...Map.groupBy(actions, (action) => action.jobId).values()];
    await Promise.all(byJob.map((own) => this.#carryOutAll(own)));
  }

  async #carryOutAll(actions: readonly ScheduleAction[]): Promise<void> {
    for (const action of actions) {
      const { jobId } = action;
      const record = () => this.#parts.jobs.execute(jobId, commandOf(action, randomUUID));
      const decision = await this.#leftOut.attempt(jobId, record);
      if (decision === null) return;
      if (decision.outcome === 'done') continue;
      const reason = decision.outcome === 'unchanged' ? 'nothing is left to do' : decision.reason;
      this.#parts.log.debug({ job_id: jobId, action: action.type, reason }, 'a scheduling action no longer fits');
      // The state had changed: the rest would build on sand.
      return;
    }
  }
}
