import { randomUUID } from 'node:crypto';
import type { Clock } from '@clipfarm/shared/clock';
import type { Logger } from '@clipfarm/shared/log';
import type { Metrics } from '../admin/metrics.ts';
import { commandOf } from '../core/action-command.ts';
import type { JobState, LeaseState } from '../core/job-model.ts';
import { schedule } from '../core/schedule.ts';
import type { ScheduleAction } from '../core/schedule-model.ts';
import type { Fleet } from './fleet.ts';
import type { Jobs } from './jobs.ts';
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

/** A clip may take this many times its forecast before it counts as hung. */
const HANG_FACTOR = 8;

/** The coordinator gives agents this many times their own hang limit before it steps in itself. */
const STUCK_FACTOR = 3;

const TICK_MILLIS = 250;

/** Seconds without progress after which the agent ends an attempt as hung. */
export function hangSeconds(secondsPerClip: number, warmUpSeconds: number, floor: number): number {
  return Math.max(floor, HANG_FACTOR * secondsPerClip + 2 * warmUpSeconds);
}

/**
 * Runs the scheduler whenever something changed and every quarter of a second, one round at a time; and ends what is
 * stuck: leases of lost nodes, leases without progress.
 */
export class Dispatcher {
  readonly #jobs: Jobs;
  readonly #nodes: Nodes;
  readonly #fleet: Fleet;
  readonly #clock: Clock;
  readonly #timings: FarmTimings;
  readonly #metrics: Metrics;
  readonly #storage: StorageHealth;
  readonly #log: Logger;
  #timer: NodeJS.Timeout | null = null;
  #running: Promise<void> | null = null;
  #dirty = false;
  #lastTick: number;
  /** When this process first saw each lease in force, in monotonic milliseconds: loading gets its time too. */
  #firstSeen: ReadonlyMap<string, number> = new Map();
  #stopped = false;

  constructor(parts: {
    jobs: Jobs;
    nodes: Nodes;
    fleet: Fleet;
    clock: Clock;
    timings: FarmTimings;
    metrics: Metrics;
    storage: StorageHealth;
    log: Logger;
  }) {
    this.#jobs = parts.jobs;
    this.#nodes = parts.nodes;
    this.#fleet = parts.fleet;
    this.#clock = parts.clock;
    this.#timings = parts.timings;
    this.#metrics = parts.metrics;
    this.#storage = parts.storage;
    this.#log = parts.log;
    this.#lastTick = parts.clock.monotonic();
  }

  /** Begins. */
  start(): void {
    this.#lastTick = this.#clock.monotonic();
    this.#timer = setInterval(() => this.#tick(), TICK_MILLIS);
    this.wake();
  }

  /** Stops and waits for the round in hand. */
  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#timer) clearInterval(this.#timer);
    await this.#running;
  }

  /** Asks for a round soon: something changed. */
  wake(): void {
    this.#dirty = true;
    if (this.#running || this.#stopped) return;
    this.#running = this.#rounds().finally(() => {
      this.#running = null;
    });
  }

  #tick(): void {
    const now = this.#clock.monotonic();
    const late = now - this.#lastTick - TICK_MILLIS;
    this.#lastTick = now;
    // A coordinator that stood still could not hear heartbeats; nobody is declared lost for that.
    if (late > this.#timings.heartbeatMillis) this.#nodes.forgive(late);
    this.#fleet.tickUsage();
    this.wake();
  }

  async #rounds(): Promise<void> {
    // Yields first, so that changes of one turn share one round.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.#dirty && !this.#stopped) {
      this.#dirty = false;
      try {
        await this.#endLost();
        await this.#endStuck();
        await this.#schedule();
      } catch (error) {
        this.#log.error({ err: error }, 'a scheduling round failed; the next one tries again');
        return;
      }
    }
  }

  async #schedule(): Promise<void> {
    const stop = this.#metrics.scheduleSeconds.startTimer();
    const actions = schedule(this.#fleet.scheduleInput());
    stop();
    for (const action of actions) {
      if (!(await this.#carryOut(action))) return;
    }
  }

  /** False when the state had changed: the rest of the round would build on sand. */
  async #carryOut(action: ScheduleAction): Promise<boolean> {
    const decision = await this.#jobs.execute(action.jobId, commandOf(action, randomUUID));
    if (decision.outcome === 'done') return true;
    const why = decision.outcome === 'refused' ? decision.reason : decision.outcome;
    this.#log.warn({ job_id: action.jobId, action, why }, 'a scheduling action no longer fits');
    return false;
  }

  async #endLost(): Promise<void> {
    const lost = new Set(this.#nodes.expire(this.#timings.leaseMillis).map((node) => node.nodeId));
    for (const nodeId of lost) this.#log.warn({ node_id: nodeId }, 'node lost: no sign of life for a lease time');
    for (const { job, lease } of this.#leases()) {
      const node = this.#nodes.get(lease.nodeId);
      if (node && !node.lost) continue;
      const seconds = this.#timings.leaseMillis / 1000;
      await this.#fail(job, lease, 'node_lost', `no sign of life from the node for ${seconds} s`);
    }
  }

  async #endStuck(): Promise<void> {
    const now = this.#clock.monotonic();
    const leases = this.#leases();
    this.#firstSeen = new Map(leases.map(({ lease: { leaseId } }) => [leaseId, this.#firstSeen.get(leaseId) ?? now]));
    // Renderers wait behind their spools then, and that is nobody's fault.
    if (this.#storage.problem !== null) return;
    for (const { job, lease } of leases) {
      const since = this.#fleet.progressOf(lease.leaseId)?.at ?? this.#firstSeen.get(lease.leaseId) ?? now;
      const slot = this.#fleet.slots().find((s) => s.nodeId === lease.nodeId && s.slotId === lease.slotId);
      if (!slot) continue;
      const expected = this.#fleet.secondsPerClip(slot, job.definition);
      const limit = STUCK_FACTOR * hangSeconds(expected, slot.warmUpSeconds, this.#timings.hangFloorSeconds);
      if (now - since > limit * 1000) {
        await this.#fail(job, lease, 'hang', `no progress for ${limit.toFixed(0)} s, and the agent did not end it`);
      }
    }
  }

  #fail(job: JobState, lease: LeaseState, failureClass: 'node_lost' | 'hang', message: string) {
    const clip = this.#fleet.progressOf(lease.leaseId)?.clip ?? lease.start;
    const { leaseId } = lease;
    return this.#jobs.execute(job.definition.jobId, { type: 'failLease', leaseId, failureClass, message, clip });
  }

  #leases(): { job: JobState; lease: LeaseState }[] {
    return this.#jobs.live().flatMap((job) => [...job.leases.values()].map((lease) => ({ job, lease })));
  }
}
