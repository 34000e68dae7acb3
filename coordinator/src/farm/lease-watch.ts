import type { Clock } from '@clipfarm/shared/clock';
import type { Logger } from '@clipfarm/shared/log';
import { secondsOf } from '@clipfarm/shared/log-number';
import { hangSeconds, stuckSeconds } from '../core/hang-limits.ts';
import type { Fleet } from './fleet.ts';
import type { Jobs } from './jobs.ts';
import type { HeldLease } from './lease-index.ts';
import type { LeftOutJobs } from './left-out-jobs.ts';
import type { Nodes } from './nodes.ts';

/** What a {@link LeaseWatch} works with. */
export interface LeaseWatchParts {
  readonly jobs: Jobs;
  readonly nodes: Nodes;
  readonly fleet: Fleet;
  readonly clock: Clock;
  readonly leftOut: LeftOutJobs;
  /** Milliseconds without a sign of life after which a node's leases are given to others. */
  readonly leaseMillis: number;
  /** Seconds without progress that are a hang at least, however fast the slot is. */
  readonly hangFloorSeconds: number;
  readonly log: Logger;
}

/**
 * Milliseconds of a lease for which it is the agent's to judge whether the model's loading stands still: a model that was
 * unloaded is loaded again for the next lease, from a cold disk for many minutes. Judged, not measured.
 */
const MOST_LOADING_MILLIS = 3_600_000;

/** Ends leases whose time has run out: those of lost nodes, and those that stand still and whose agents let them. */
export class LeaseWatch {
  readonly #parts: LeaseWatchParts;
  /** When this process first saw each lease in force, in monotonic milliseconds: loading gets its time too. */
  #firstSeen: ReadonlyMap<string, number> = new Map();
  /** When the agent of a lease was last known to load the model for it. */
  #loading: ReadonlyMap<string, number> = new Map();
  #excusedUntil: number;

  constructor(parts: LeaseWatchParts) {
    this.#parts = parts;
    this.#excusedUntil = parts.clock.monotonic();
  }

  /** Until now it was nobody's fault when nothing moved: every lease gets its whole time from here on. */
  excuse(): void {
    this.#excusedUntil = this.#parts.clock.monotonic();
  }

  /** Ends what is overdue. What can't be recorded for one job is tried again later and keeps none of the others. */
  async check(): Promise<void> {
    const { jobs, nodes, leaseMillis, log } = this.#parts;
    const leases = jobs.live().flatMap((job) => [...job.leases.values()].map((lease) => ({ job, lease })));
    for (const { nodeId, lastSeenAt } of nodes.expire(leaseMillis)) {
      const fields = nodes.fieldsOf(nodeId);
      if (lastSeenAt === 0) log.warn(fields, 'node lost: it did not attach after this coordinator took over');
      else {
        const silent_seconds = secondsOf(nodes.silence(nodeId));
        log.warn({ ...fields, silent_seconds }, 'node lost: no sign of life for a lease time');
      }
    }
    const { lost = [], left = [], there = [] } = Object.groupBy(leases, ({ lease }) => this.#holder(lease.nodeId));
    await this.#fail(lost, 'node_lost', `no sign of life from the node for ${leaseMillis / 1000} s`);
    await this.#endLeft(left);
    await this.#endStuck(there);
  }

  #holder(nodeId: string): 'lost' | 'left' | 'there' {
    const { nodes } = this.#parts;
    const node = nodes.get(nodeId);
    if (node?.left) return 'left';
    return node?.lost === false ? 'there' : 'lost';
  }

  /**
   * A lease that was granted while its agent said goodbye is nobody's. A lease time is waited all the same: a leader of a
   * version that knows no goodbye did not record that the agent came back.
   */
  async #endLeft(leases: readonly HeldLease[]): Promise<void> {
    const { jobs, nodes, leaseMillis } = this.#parts;
    for (const { job, lease } of leases) {
      if (nodes.silence(lease.nodeId) <= leaseMillis) continue;
      const command = {
        type: 'endLease',
        leaseId: lease.leaseId,
        cause: 'returned',
        reason: 'its agent left',
      } as const;
      await this.#end(job, () => jobs.execute(job.definition.jobId, command));
    }
  }

  async #endStuck(leases: readonly HeldLease[]): Promise<void> {
    const { clock, fleet, hangFloorSeconds } = this.#parts;
    const now = clock.monotonic();
    this.#firstSeen = new Map(leases.map(({ lease: { leaseId } }) => [leaseId, this.#firstSeen.get(leaseId) ?? now]));
    this.#loading = new Map(leases.map(({ lease }) => [lease.leaseId, this.#loadedUntil(lease, now)]));
    for (const held of leases) {
      const { leaseId, nodeId, slotId } = held.lease;
      const slot = fleet.slot(nodeId, slotId);
      if (!slot) continue;
      const known = fleet.progressOf(leaseId)?.at ?? this.#firstSeen.get(leaseId) ?? now;
      const moved = Math.max(known, this.#loading.get(leaseId) ?? 0);
      const expected = fleet.secondsPerClip(slot, held.job.definition);
      const limit = stuckSeconds(hangSeconds(expected, slot.warmUpSeconds, hangFloorSeconds));
      if (now - Math.max(moved, this.#excusedUntil) <= limit * 1000) continue;
      await this.#fail([held], 'hang', `no progress for ${limit.toFixed(0)} s, and the agent did not end it`);
    }
  }

  /** When the agent was last known to load the model for a lease; 0 where it never did. */
  #loadedUntil({ leaseId, nodeId, slotId }: HeldLease['lease'], now: number): number {
    const status = this.#parts.nodes.get(nodeId)?.statuses.get(slotId);
    const loads = status?.state === 'SLOT_STATE_LOADING' && status.leaseId === leaseId;
    const since = this.#firstSeen.get(leaseId) ?? now;
    return loads && now - since <= MOST_LOADING_MILLIS ? now : (this.#loading.get(leaseId) ?? 0);
  }

  async #fail(leases: readonly HeldLease[], failureClass: 'node_lost' | 'hang', message: string): Promise<void> {
    const { jobs, fleet } = this.#parts;
    const ends = leases.map(({ job, lease: { leaseId, start } }) => {
      const clip = fleet.progressOf(leaseId)?.clip ?? start;
      const command = { type: 'failLease', leaseId, failureClass, message, clip } as const;
      return this.#end(job, () => jobs.execute(job.definition.jobId, command));
    });
    await Promise.all(ends);
  }

  async #end({ definition: { jobId } }: HeldLease['job'], record: () => Promise<unknown>): Promise<void> {
    const { leftOut } = this.#parts;
    if (!leftOut.has(jobId)) await leftOut.attempt(jobId, record);
  }
}
