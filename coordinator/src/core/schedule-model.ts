import type { Geometry } from './forecast.ts';
import type { JobState, LeaseState } from './job-model.ts';

/** A slot of an online node, as the scheduler sees it. */
export interface ScheduledSlot {
  /** `node/slot`. */
  readonly key: string;
  readonly nodeId: string;
  readonly slotId: string;
  readonly profile: string;
  /** Takes new leases: its node is online, not draining, not quarantined. */
  readonly available: boolean;
  /** Lease that it holds, if any. */
  readonly leaseId: string | null;
  /** Seconds from a grant until its first clip begins. */
  readonly warmUpSeconds: number;
  /** A lease that it renders can't be shortened. */
  readonly fixedEnd: boolean;
  /** Model call that its runner keeps open after its last lease, as far as is known. */
  readonly openCall: OpenCall | null;
}

/** A model call that a runner keeps open: a range that starts where it ended goes on in it without pre-roll. */
export interface OpenCall {
  readonly jobId: string;
  /** Lease that it rendered last. */
  readonly leaseId: string;
  /** First clip that it rendered, pre-roll included. */
  readonly begin: number;
  /** One past the last clip that it rendered. */
  readonly end: number;
}

/** How far a lease is. */
export interface LeaseProgress {
  /** Clip in hand, pre-roll included. */
  readonly clip: number;
  /** Share of it that is done, 0 to 1. */
  readonly fraction: number;
}

/** Everything that a scheduling decision depends on. */
export interface ScheduleInput {
  /** Wall-clock milliseconds. */
  readonly now: number;
  /** Jobs that are not over. */
  readonly jobs: readonly JobState[];
  readonly slots: readonly ScheduledSlot[];
  readonly progress: ReadonlyMap<string, LeaseProgress>;
  /** Seconds since a lease last moved, or was granted where it has not said how far it is; never below 0. No wall clock moves them. */
  readonly stillSeconds: (lease: LeaseState) => number;
  /** Recent slot-seconds by owner, decayed. */
  readonly usage: ReadonlyMap<string, number>;
  /** Forecast of seconds per clip. */
  readonly secondsPerClip: (slot: ScheduledSlot, geometry: Geometry) => number;
  /** Whether the slot's memory and the model's limits allow the picture. */
  readonly fits: (slot: ScheduledSlot, job: JobState) => boolean;
  /** Most clips that one lease of the job may have on the slot, pre-roll included: what its host's memory holds. */
  readonly leaseLimit: (slot: ScheduledSlot, job: JobState) => number;
  readonly policy: SchedulePolicy;
}

/** Settings of the scheduler. */
export interface SchedulePolicy {
  /** Clips of pre-roll that a lease after clip 0 renders. */
  readonly preRoll: number;
  /** Clips that one model call may have at most, pre-roll included: the model's own limit. */
  readonly maxLeaseClips: number;
  /** Seconds that stealing must save at least. */
  readonly minStealSaving: number;
  /** A lease is duplicated when it needs this many times longer than the duplicate would. */
  readonly speculationFactor: number;
}

/** Upstream's position table ends after 3747 clips in one call; 3700 leaves room for the pre-roll. */
export const DEFAULT_POLICY: SchedulePolicy = {
  preRoll: 1,
  maxLeaseClips: 3700,
  minStealSaving: 1,
  speculationFactor: 1.5,
};

/** What is to be done, in order. */
export type ScheduleAction =
  | {
      readonly type: 'grant';
      readonly jobId: string;
      readonly nodeId: string;
      readonly slotId: string;
      readonly profile: string;
      readonly start: number;
      readonly end: number;
      readonly preRoll: number;
      readonly speculative: boolean;
      readonly continues?: string;
      readonly fixedEnd?: boolean;
      readonly reason: string;
    }
  | {
      readonly type: 'shrink';
      readonly jobId: string;
      readonly leaseId: string;
      readonly end: number;
      readonly reason: string;
    }
  | { readonly type: 'revoke'; readonly jobId: string; readonly leaseId: string; readonly reason: string };
