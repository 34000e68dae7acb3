import { countClips } from './clip-ranges.ts';
import type { JobState } from './job-model.ts';
import { pendingClips } from './job-progress.ts';

/** A job within this many milliseconds of its deadline goes before its equals. */
const DEADLINE_PRESSURE_MILLIS = 30 * 60_000;

/**
 * The order in which jobs get free slots: priority, then the owner with the least use, then deadline pressure,
 * then age, then identity so that the order is total.
 *
 * @param usage slot-seconds by owner, see {@link expectedUsage}
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

/** Seconds for which a slot that is held now counts as used already. */
const HOLDING_SECONDS = 300;

/**
 * Recent use by owner, plus what the slots held now will come to. Without the second part the owner who is a little
 * behind would get every slot that comes free until he is ahead, and then the other one, and so on.
 *
 * @param usage recent slot-seconds by owner
 */
export function expectedUsage(usage: ReadonlyMap<string, number>, jobs: readonly JobState[]): Map<string, number> {
  const expected = new Map(usage);
  for (const { definition, leases } of jobs) {
    expected.set(definition.owner, (expected.get(definition.owner) ?? 0) + HOLDING_SECONDS * leases.size);
  }
  return expected;
}

/** Whether `waiting` would still go before `other`, of the same priority, if a slot of the other's owner came free. */
export function staysAhead(expected: ReadonlyMap<string, number>, waiting: JobState, other: JobState): boolean {
  const of = (job: JobState) => expected.get(job.definition.owner) ?? 0;
  return of(waiting) + HOLDING_SECONDS < of(other);
}

/** Whether the job could use a slot now, were there one. */
export function wantsSlots(job: JobState): boolean {
  return job.status === 'active' && !job.paused && countClips(pendingClips(job)) > 0;
}

/** Infinities compare as equal, unlike their difference. */
function compare(a: number, b: number): number {
  return a === b ? 0 : a - b;
}
