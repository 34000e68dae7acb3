import { type NodeFailure, quarantineUntil } from '../../coordinator/src/core/failure-policy.ts';
import { type Geometry, newForecast, noteMeasured, secondsPerClip } from '../../coordinator/src/core/forecast.ts';
import { hangSeconds } from '../../coordinator/src/core/hang-limits.ts';
import type { JobEvent } from '../../coordinator/src/core/job-events.ts';
import { type AttemptFailure, type JobState, type LeaseState, slotKey } from '../../coordinator/src/core/job-model.ts';
import { noteOpenCall } from '../../coordinator/src/core/open-calls.ts';
import {
  DEFAULT_POLICY,
  type LeaseProgress,
  type OpenCall,
  type ScheduledSlot,
  type ScheduleInput,
} from '../../coordinator/src/core/schedule-model.ts';
import type { CoordinatorMessage, SlotFacts } from './messages.ts';

/** A node as the coordinator knows it. */
export interface SimNode {
  readonly nodeId: string;
  slots: readonly SlotFacts[];
  /** Milliseconds. */
  lastSeen: number;
  lost: boolean;
  /** Null while no stream is open. */
  send: ((message: CoordinatorMessage) => void) | null;
  quarantinedUntil: number;
  failures: readonly NodeFailure[];
  /** Leases in force that the agent no longer has, until its spool is handed in. */
  orphaned: readonly string[];
  /** Chunks that it attached with and that are not judged yet. */
  spoolLeft: number;
}

/** How far a lease is, and when it moved there, in milliseconds. */
interface SimProgress extends LeaseProgress {
  readonly movedAt: number;
}

const LEASE_MILLIS = 5000;
const USAGE_HALF_LIFE_MILLIS = 600_000;
const HANG_FLOOR_SECONDS = 15;
const PRIOR_SECONDS_PER_CLIP = 2;

/** What a coordinator knows of nodes, speeds, progress and use: in memory only, and gone when it dies. */
export class SimFleet {
  readonly #nodes = new Map<string, SimNode>();
  readonly #progress = new Map<string, SimProgress>();
  readonly #usage = new Map<string, number>();
  readonly #forecast = newForecast();
  readonly #openCalls = new Map<string, OpenCall>();

  /** A node by its identity; one that has not attached yet gets a lease time to do so. */
  node(nodeId: string, now: number): SimNode {
    const known = this.#nodes.get(nodeId);
    if (known) return known;
    const presence = { slots: [], lastSeen: now, lost: false, send: null };
    const node: SimNode = { nodeId, ...presence, quarantinedUntil: 0, failures: [], orphaned: [], spoolLeft: 0 };
    this.#nodes.set(nodeId, node);
    return node;
  }

  /** Sends to a node if it is attached. */
  send(nodeId: string, message: CoordinatorMessage): void {
    this.#nodes.get(nodeId)?.send?.(message);
  }

  /** Marks nodes without a sign of life for a lease time as lost. */
  expire(now: number): void {
    for (const node of this.#nodes.values()) if (now - node.lastSeen > LEASE_MILLIS) node.lost = true;
  }

  /** How far a lease is, if it said so. */
  progressOf(leaseId: string): SimProgress | undefined {
    return this.#progress.get(leaseId);
  }

  /** Notes how far a lease is; going back is ignored. */
  noteProgress(leaseId: string, clip: number, fraction: number, now: number): void {
    const before = this.#progress.get(leaseId);
    if (before && before.clip + before.fraction >= clip + fraction) return;
    this.#progress.set(leaseId, { clip, fraction, movedAt: now });
  }

  /** Forgets a lease that is over. */
  forget(leaseId: string): void {
    this.#progress.delete(leaseId);
  }

  /** Clip in hand of every lease that said so. */
  currentClips(): Map<string, number> {
    return new Map([...this.#progress].map(([leaseId, at]) => [leaseId, at.clip]));
  }

  /** Notes a committed clip: the node works, and so fast. */
  noteSuccess(node: SimNode, slotId: string, geometry: Geometry, seconds: number): void {
    node.failures = [];
    noteMeasured(this.#forecast, this.#forecastSlot(node.nodeId, slotId), geometry, seconds);
  }

  /** Notes what an event means for the model calls that runners keep open. */
  noteEvent(job: JobState, event: JobEvent): void {
    noteOpenCall(this.#openCalls, job, event);
  }

  /** Notes a failed attempt, and quarantines its node when the policy says so. */
  noteFailure(jobId: string, failure: AttemptFailure, now: number): void {
    const node = this.node(failure.nodeId, now);
    node.failures = [...node.failures, { ...failure, jobId }].slice(-200);
    const until = quarantineUntil(node.failures, now);
    if (until === null) return;
    node.quarantinedUntil = until;
    node.failures = [];
  }

  /** Counts `millis` of every lease as used by its owner, and lets older use fade. */
  noteUsage(jobs: readonly JobState[], millis: number): void {
    const fade = 0.5 ** (millis / USAGE_HALF_LIFE_MILLIS);
    for (const [owner, seconds] of this.#usage) this.#usage.set(owner, seconds * fade);
    for (const { definition, leases } of jobs) {
      const { owner } = definition;
      this.#usage.set(owner, (this.#usage.get(owner) ?? 0) + (leases.size * millis) / 1000);
    }
  }

  /** Seconds without progress after which an attempt counts as hung. */
  hangSeconds({ nodeId, slotId }: LeaseState, geometry: Geometry): number {
    const facts = this.#slotFacts(nodeId, slotId);
    if (!facts) return HANG_FLOOR_SECONDS;
    return hangSeconds(this.#secondsPerClip(nodeId, slotId, geometry), facts.warmUpSeconds, HANG_FLOOR_SECONDS);
  }

  /** Everything that the scheduler needs. */
  scheduleInput(jobs: readonly JobState[], now: number): ScheduleInput {
    return {
      now,
      jobs,
      slots: this.#slots(jobs, now),
      progress: this.#progress,
      stillSeconds: ({ leaseId, grantedAt }) => (now - (this.#progress.get(leaseId)?.movedAt ?? grantedAt)) / 1000,
      usage: this.#usage,
      secondsPerClip: (slot, geometry) => this.#secondsPerClip(slot.nodeId, slot.slotId, geometry),
      fits: ({ nodeId, slotId }, job) => (this.#slotFacts(nodeId, slotId)?.maxHeight ?? 0) >= job.definition.height,
      leaseLimit: () => Number.POSITIVE_INFINITY,
      policy: DEFAULT_POLICY,
    };
  }

  #slots(jobs: readonly JobState[], now: number): ScheduledSlot[] {
    const leases = jobs.flatMap((job) => [...job.leases.values()]);
    const held = new Map(leases.map((lease) => [slotKey(lease.nodeId, lease.slotId), lease.leaseId]));
    return [...this.#nodes.values()].flatMap((node) => {
      const { nodeId } = node;
      const available = node.send !== null && !node.lost && node.quarantinedUntil <= now && node.spoolLeft === 0;
      return node.slots.map(({ slotId, warmUpSeconds }) => {
        const key = slotKey(nodeId, slotId);
        const slot = { key, nodeId, slotId, profile: 'p', available, warmUpSeconds, fixedEnd: false };
        return { ...slot, leaseId: held.get(key) ?? null, openCall: this.#openCalls.get(key) ?? null };
      });
    });
  }

  #secondsPerClip(nodeId: string, slotId: string, geometry: Geometry): number {
    return secondsPerClip(this.#forecast, this.#forecastSlot(nodeId, slotId), geometry, PRIOR_SECONDS_PER_CLIP);
  }

  #forecastSlot(nodeId: string, slotId: string) {
    const declaredSecondsPerClip = this.#slotFacts(nodeId, slotId)?.declaredSecondsPerClip ?? 0;
    return { key: slotKey(nodeId, slotId), profile: 'p', declaredSecondsPerClip };
  }

  #slotFacts(nodeId: string, slotId: string): SlotFacts | undefined {
    return this.#nodes.get(nodeId)?.slots.find((slot) => slot.slotId === slotId);
  }
}
