import { commandOf } from './action-command.ts';
import type { JobState } from './job-model.ts';
import {
  DEFAULT_POLICY,
  type LeaseProgress,
  type ScheduleAction,
  type ScheduledSlot,
  type ScheduleInput,
} from './schedule-model.ts';
import { execute, type LoggedJob } from './test-jobs.ts';

/** A farm at one instant, for tests of the scheduler; nothing of the product uses this file. */

/** A free slot of a node; its key is `node/slot`. */
export function freeSlot(key: string, given: Partial<ScheduledSlot> = {}): ScheduledSlot {
  const [nodeId = key, slotId = '0'] = key.split('/');
  return {
    key,
    nodeId,
    slotId,
    profile: 'p',
    available: true,
    leaseId: null,
    warmUpSeconds: 0,
    fixedEnd: false,
    openCall: null,
    ...given,
  };
}

/** How far a lease is, and the milliseconds at which it moved there. */
export interface FarmProgress extends LeaseProgress {
  readonly movedAt?: number;
}

/** What a test says about a farm. */
export interface Farm {
  readonly jobs: readonly LoggedJob[];
  /** Seconds per clip by slot key. */
  readonly paces: Readonly<Record<string, number>>;
  readonly slots?: readonly ScheduledSlot[];
  /** By lease; where nothing else is said it has just moved. */
  readonly progress?: Readonly<Record<string, FarmProgress>>;
  readonly usage?: Readonly<Record<string, number>>;
  readonly fits?: (slot: ScheduledSlot, job: JobState) => boolean;
  /** Wall-clock milliseconds. */
  readonly now?: number;
  readonly preRoll?: number;
  readonly maxLeaseClips?: number;
}

/** The scheduler's view of a farm; slots hold the leases that the jobs say they do. */
export function scheduleInput(farm: Farm): ScheduleInput {
  const held = new Map<string, string>();
  for (const { state } of farm.jobs) {
    for (const lease of state.leases.values()) held.set(`${lease.nodeId}/${lease.slotId}`, lease.leaseId);
  }
  const slots = farm.slots ?? Object.keys(farm.paces).map((key) => freeSlot(key));
  const { preRoll = DEFAULT_POLICY.preRoll, maxLeaseClips = DEFAULT_POLICY.maxLeaseClips } = farm;
  const now = farm.now ?? 0;
  return {
    now,
    jobs: farm.jobs.map((job) => job.state),
    slots: slots.map((slot) => ({ ...slot, leaseId: held.get(slot.key) ?? null })),
    progress: new Map(Object.entries(farm.progress ?? {})),
    stillSeconds: ({ leaseId, grantedAt }) => {
      const at = farm.progress?.[leaseId];
      return (now - (at ? (at.movedAt ?? now) : grantedAt)) / 1000;
    },
    usage: new Map(Object.entries(farm.usage ?? {})),
    secondsPerClip: (slot) => farm.paces[slot.key] ?? 1,
    fits: farm.fits ?? (() => true),
    leaseLimit: () => Number.POSITIVE_INFINITY,
    policy: { ...DEFAULT_POLICY, preRoll, maxLeaseClips },
  };
}

/** A grant or a shrink in few words: `node/slot: 3-7` or `lease -> 5`, a duplicate with `again` behind it. */
export function inWords(action: ScheduleAction): string {
  if (action.type === 'revoke') return `${action.leaseId} over`;
  if (action.type === 'shrink') return `${action.leaseId} -> ${action.end}`;
  const { nodeId, slotId, start, end, speculative } = action;
  return `${nodeId}/${slotId}: ${start}-${end}${speculative ? ' again' : ''}`;
}

/** Carries actions out as the coordinator does; throws when a decision does not take one. Leases are named `job:start@slot`. */
export function carryOut(jobs: readonly LoggedJob[], actions: readonly ScheduleAction[], now = 0): void {
  for (const action of actions) {
    const job = jobs.find((j) => j.state.definition.jobId === action.jobId);
    if (!job) throw new Error(`there is no job ${action.jobId}`);
    const decision = execute(
      job,
      commandOf(action, () => leaseIdOf(job, action)),
      now,
    );
    if (decision.outcome !== 'done') throw new Error(`${inWords(action)}: ${JSON.stringify(decision)}`);
  }
}

function leaseIdOf(job: LoggedJob, action: ScheduleAction): string {
  if (action.type !== 'grant') return '';
  return `${action.jobId}:${action.start}@${action.nodeId}/${action.slotId}#${job.log.length}`;
}
