import type { Clock } from '@clipfarm/shared/clock';
import type { SlotInfo } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { fitSlot, priorSecondsPerClip } from '@clipfarm/shared/model/profiles';
import { EMPTY_FORECAST, type ForecastTable, type Geometry, measured, secondsPerClip } from '../core/forecast.ts';
import { type JobDefinition, type JobState, type LeaseState, slotKey } from '../core/job-model.ts';
import type { LeaseProgress, ScheduledSlot, ScheduleInput, SchedulePolicy } from '../core/schedule-model.ts';
import type { Jobs } from './jobs.ts';
import type { NodeRecord, Nodes } from './nodes.ts';

/** Slot-seconds used long ago count half after this many milliseconds. */
const USAGE_HALF_LIFE_MILLIS = 10 * 60_000;

/** A lease's progress and when it last moved. */
export interface TimedProgress extends LeaseProgress {
  /** Monotonic milliseconds. */
  readonly at: number;
}

/** Whether one slot fits a picture, in words. */
export interface Fit {
  readonly node: NodeRecord;
  readonly slot: SlotInfo;
  readonly fits: boolean;
  readonly detail: string;
  readonly secondsPerClip: number;
}

/**
 * What the scheduler sees: jobs, slots, how far each lease is, how fast each slot proved to be, who used how much.
 * Progress and speeds are in memory only; a restart learns them anew within a clip.
 */
export class Fleet {
  readonly #jobs: Jobs;
  readonly #nodes: Nodes;
  readonly #clock: Clock;
  readonly #policy: SchedulePolicy;
  readonly #progress = new Map<string, TimedProgress>();
  readonly #usage = new Map<string, number>();
  #usageAt: number;
  #forecast: ForecastTable = EMPTY_FORECAST;

  constructor(jobs: Jobs, nodes: Nodes, clock: Clock, policy: SchedulePolicy) {
    this.#jobs = jobs;
    this.#nodes = nodes;
    this.#clock = clock;
    this.#policy = policy;
    this.#usageAt = clock.monotonic();
  }

  /** Notes how far a lease is. Going back is ignored: messages may be repeated. */
  noteProgress(leaseId: string, progress: LeaseProgress): void {
    const before = this.#progress.get(leaseId);
    if (before && before.clip + before.fraction >= progress.clip + progress.fraction) return;
    this.#progress.set(leaseId, { ...progress, at: this.#clock.monotonic() });
  }

  /** How far a lease is, if it said so. */
  progressOf(leaseId: string): TimedProgress | undefined {
    return this.#progress.get(leaseId);
  }

  /** Forgets a lease that is over. */
  forget(leaseId: string): void {
    this.#progress.delete(leaseId);
  }

  /** Notes how long a clip took on a slot. */
  noteClipSeconds(slot: ScheduledSlot, geometry: Geometry, seconds: number): void {
    if (seconds > 0) this.#forecast = measured(this.#forecast, this.#forecastSlot(slot), geometry, seconds);
  }

  /** Forecast of seconds per clip on a slot. */
  secondsPerClip(slot: ScheduledSlot, geometry: Geometry): number {
    const prior = priorSecondsPerClip(slot.profile, geometry);
    return secondsPerClip(this.#forecast, this.#forecastSlot(slot), geometry, prior);
  }

  #forecastSlot(slot: ScheduledSlot) {
    const info = this.#slotInfo(slot.nodeId, slot.slotId);
    return { key: slot.key, profile: slot.profile, declaredSecondsPerClip: info?.declaredSecondsPerClip ?? 0 };
  }

  #slotInfo(nodeId: string, slotId: string): SlotInfo | undefined {
    return this.#nodes.get(nodeId)?.slots.find((slot) => slot.slotId === slotId);
  }

  /** The lease in force and its job, if it is in force. */
  holder(leaseId: string): { readonly job: JobState; readonly lease: LeaseState } | null {
    for (const job of this.#jobs.live()) {
      const lease = job.leases.get(leaseId);
      if (lease) return { job, lease };
    }
    return null;
  }

  /** Every slot of every node that attached since the start. */
  slots(): ScheduledSlot[] {
    const held = new Map<string, string>();
    for (const job of this.#jobs.live()) {
      for (const lease of job.leases.values()) held.set(slotKey(lease.nodeId, lease.slotId), lease.leaseId);
    }
    return this.#nodes.all().flatMap((node) => {
      const online = this.#nodes.status(node) === 'online' && !node.handingIn;
      return node.slots.map((info): ScheduledSlot => {
        const key = slotKey(node.nodeId, info.slotId);
        const recovering = node.statuses.get(info.slotId)?.state === 'SLOT_STATE_RECOVERING';
        return {
          key,
          nodeId: node.nodeId,
          slotId: info.slotId,
          profile: info.profile,
          available: online && !recovering,
          leaseId: held.get(key) ?? null,
          warmUpSeconds: info.warmUpSeconds,
        };
      });
    });
  }

  /** Which of the known slots fit a job, with the numbers. */
  fits(definition: JobDefinition): Fit[] {
    return this.slots().flatMap((slot) => {
      const node = this.#nodes.get(slot.nodeId);
      const info = this.#slotInfo(slot.nodeId, slot.slotId);
      if (!node || !info) return [];
      return [
        { node, slot: info, ...fitSlot(info, definition), secondsPerClip: this.secondsPerClip(slot, definition) },
      ];
    });
  }

  /** Everything that the pure scheduler needs, for the jobs given. */
  scheduleInput(jobs: readonly JobState[] = this.#jobs.live()): ScheduleInput {
    return {
      now: this.#clock.now(),
      jobs,
      slots: this.slots(),
      progress: this.#progress,
      usage: this.#usage,
      secondsPerClip: (slot, geometry) => this.secondsPerClip(slot, geometry),
      fits: (slot, job) => {
        const info = this.#slotInfo(slot.nodeId, slot.slotId);
        return info !== undefined && fitSlot(info, job.definition).fits;
      },
      policy: this.#policy,
    };
  }

  /** Adds the slot-seconds since the last call to their owners and lets older ones fade. */
  tickUsage(): void {
    const now = this.#clock.monotonic();
    const elapsed = now - this.#usageAt;
    this.#usageAt = now;
    const fade = 0.5 ** (elapsed / USAGE_HALF_LIFE_MILLIS);
    for (const [owner, seconds] of this.#usage) this.#usage.set(owner, seconds * fade);
    for (const job of this.#jobs.live()) {
      if (job.leases.size === 0) continue;
      const { owner } = job.definition;
      this.#usage.set(owner, (this.#usage.get(owner) ?? 0) + (job.leases.size * elapsed) / 1000);
    }
  }
}
