import { bestSteal, finishTime, type Participant, secondsLeft, type Victim } from './carve.ts';
import { type ClipRange, clipSet, countClips, withoutSet } from './clip-ranges.ts';
import type { JobState, LeaseState } from './job-model.ts';
import { pendingClips } from './job-progress.ts';
import type { ScheduleAction, ScheduledSlot } from './schedule-model.ts';
import {
  awaitsAnchor,
  duplicatesOf,
  freeParticipant,
  grantAction,
  isFit,
  isTouched,
  overlap,
  type Round,
  slotOf,
  victimOf,
} from './schedule-round.ts';

/** How a slot would relieve a lease. */
export interface Relief {
  readonly lease: LeaseState;
  /** Where the lease would end. */
  readonly newEnd: number;
  /** Clips that the slot would render. Those of the tail that are committed already stay out. */
  readonly range: ClipRange;
  /** Seconds by which the lease's clips would be done earlier. */
  readonly saved: number;
}

/**
 * The lease of the job from which a slot can save most by taking over its tail, or null when that does not pay anywhere.
 * It keeps what it can do until the whole job could be done: one long span is better than two short ones.
 *
 * @param thief the slot, with what it takes until it could begin
 * @param planned actions of this round so far
 */
export function bestRelief(
  round: Round,
  job: JobState,
  slot: ScheduledSlot,
  thief: Participant,
  planned: readonly ScheduleAction[],
): Relief | null {
  if (!mayAssist(round, job, slot)) return null;
  const { work, workers } = workLeft(round, job);
  const together = finishTime(work, [...workers, thief]);
  let best: Relief | null = null;
  for (const lease of assistable(round, job, planned)) {
    const found = bestSteal(victimOf(round, job, lease), thief, round.policy.minStealSaving, together);
    if (!found || found.saved <= (best?.saved ?? 0)) continue;
    const range = withoutSet(clipSet(found.newEnd, lease.end), job.committedSet)[0];
    if (range && !isWorseFor(job, slot, lease, range)) best = { lease, range, ...found };
  }
  return best;
}

/** Clips of a job that are still to be rendered, parts of clips included, and the slots that are at it. */
export function workLeft(round: Round, job: JobState): { work: number; workers: Participant[] } {
  const duplicates = duplicatesOf(job);
  const originals = [...job.leases.values()].filter((lease) => !duplicates.includes(lease));
  const victims = originals.map((lease) => victimOf(round, job, lease));
  const leased = victims.reduce((sum, v) => sum + Math.max(0, v.end - v.current - v.fraction), 0);
  return { work: countClips(pendingClips(job)) + leased, workers: victims };
}

/** Takes over the tail of a lease where that pays; null when it pays nowhere. */
export function steal(
  round: Round,
  job: JobState,
  slot: ScheduledSlot,
  planned: readonly ScheduleAction[],
): readonly ScheduleAction[] | null {
  const best = bestRelief(round, job, slot, freeParticipant(round, job, slot, round.policy.preRoll), planned);
  if (!best) return null;
  const { range, newEnd, saved } = best;
  const { leaseId } = best.lease;
  const { jobId } = job.definition;
  const preRoll = Math.min(round.policy.preRoll, range.start);
  const reason = `taken over from lease ${leaseId}: done ${saved.toFixed(1)} s earlier`;
  return [
    { type: 'shrink', jobId, leaseId, end: newEnd, reason: `its tail is done earlier by ${slot.key}` },
    grantAction(job, slot, range, { preRoll, speculative: false, reason }),
  ];
}

/**
 * Duplicates what is left of a lease that needs much longer than a free slot would, because its slot is slow or because
 * it has stopped moving; null when there is none. The first commit of each clip wins.
 *
 * @param planned actions of this round so far
 */
export function speculate(
  round: Round,
  job: JobState,
  slot: ScheduledSlot,
  planned: readonly ScheduleAction[],
): readonly ScheduleAction[] | null {
  if (!mayAssist(round, job, slot) || planned.some((a) => a.type === 'grant' && a.speculative)) return null;
  for (const lease of assistable(round, job, planned)) {
    const victim = victimOf(round, job, lease);
    const range = withoutSet(clipSet(Math.max(lease.start, victim.current), lease.end), job.committedSet)[0];
    if (!range || isWorseFor(job, slot, lease, range)) continue;
    const preRoll = Math.min(round.policy.preRoll, range.start);
    const duplicate = freeParticipant(round, job, slot, preRoll);
    const needed = duplicate.readyIn + (range.end - range.start) * duplicate.secondsPerClip;
    const left = secondsLeft(victim) + secondsOverdue(round, lease, victim);
    if (left > round.policy.speculationFactor * needed && left - needed > round.policy.minStealSaving) {
      const reason = `duplicate of lease ${lease.leaseId}, which needs ${left.toFixed(1)} s more`;
      return [grantAction(job, slot, range, { preRoll, speculative: true, reason })];
    }
  }
  return null;
}

/**
 * How long a lease has not moved beyond what it should take for a clip, or for its warm-up. It may well take as long
 * again: whatever holds it up is not over yet.
 */
function secondsOverdue(round: Round, lease: LeaseState, victim: Victim): number {
  const at = round.progress.get(lease.leaseId);
  const warmUp = slotOf(round, lease)?.warmUpSeconds ?? 0;
  const since = at ? at.movedAt : lease.grantedAt + warmUp * 1000;
  return since === undefined ? 0 : Math.max(0, (round.now - since) / 1000 - victim.secondsPerClip);
}

/** Whether a free slot may join in on clips that are leased already. */
function mayAssist(round: Round, job: JobState, slot: ScheduledSlot): boolean {
  return job.status === 'active' && !job.paused && isFit(round, job, slot) && !awaitsAnchor(job);
}

/**
 * Leases that one more slot could help: not changed in this round, neither duplicates nor duplicated, and of nodes that
 * are known: after a restart nobody's clips are taken before he could report.
 */
function assistable(round: Round, job: JobState, planned: readonly ScheduleAction[]): LeaseState[] {
  const duplicates = duplicatesOf(job);
  return [...job.leases.values()].filter((lease) => {
    const doubled = duplicates.some((other) => overlap(other, lease));
    return !doubled && slotOf(round, lease) && !isTouched(planned, lease.leaseId);
  });
}

/** Whether the range has a clip that failed on the slot's node and not on the node that has it now. */
function isWorseFor(job: JobState, slot: ScheduledSlot, lease: LeaseState, range: ClipRange): boolean {
  return [...job.troubles].some(
    ([clip, { nodes }]) =>
      range.start <= clip && clip < range.end && nodes.includes(slot.nodeId) && !nodes.includes(lease.nodeId),
  );
}
