import { countClips } from './clip-ranges.ts';
import type { JobState } from './job-model.ts';
import { pendingClips } from './job-progress.ts';

/** A job within this many milliseconds of its deadline goes before its equals. */
const DEADLINE_PRESSURE_MILLIS = 30 * 60_000;

/**
 * The order in which jobs get free slots: priority, then the owner with the least use, then deadline pressure,
 * then age, then identity so that the order is total.
 *
 * @param usage slot-seconds by owner, had and expected; see `fair-shares.ts`
 */
export function byOrder(usage: ReadonlyMap<string, number>, now: number): (a: JobState, b: JobState) => number {
  const used = (job: JobState) => usage.get(job.definition.owner) ?? 0;
  const pressure = (job: JobState) => {
    const left = (job.definition.deadline ?? Number.POSITIVE_INFINITY) - now;
    return left < DEADLINE_PRESSURE_MILLIS ? left : Number.POSITIVE_INFINITY;
  };
  return (a, b) =>
    b.priority - a.priority ||
    used(a) - used(b) ||
    compare(pressure(a), pressure(b)) ||
    a.submittedAt - b.submittedAt ||
    (a.definition.jobId < b.definition.jobId ? -1 : 1);
}

/** Whether the job could use a slot now, were there one. */
export function wantsSlots(job: JobState): boolean {
  return job.status === 'active' && !job.paused && countClips(pendingClips(job)) > 0;
}

/** Infinities compare as equal, unlike their difference. */
function compare(a: number, b: number): number {
  return a === b ? 0 : a - b;
}
