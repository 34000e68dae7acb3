import { bestSteal, finishTime, type Participant, secondsLeft, type Victim } from './carve.ts';
import { type ClipRange, clipSet, countClips, withoutSet } from './clip-ranges.ts';
import type { JobState, LeaseState } from './job-model.ts';
import { pendingClips } from './job-progress.ts';
import type { ScheduleAction, ScheduledSlot } from './schedule-model.ts';
import {
  awaitsAnchor,
  duplicatesOf,
  failedOn,
  fastestFirst,
  freeParticipant,
  type Granted,
  grantAction,
  isFit,
  longestCall,
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

/** A lease that one more slot could help. */
interface Target {
  readonly lease: LeaseState;
  readonly victim: Victim;
}

/** What free slots find when they look at a job's leases: worked out once, however many slots look. */
export interface Targets extends WorkLeft {
  readonly leases: readonly Target[];
}

/**
 * Leases that one more slot could help: not changed in this round, neither duplicates nor duplicated, and of nodes that
 * are known: after a restart nobody's clips are taken before he could report.
 *
 * @param planned actions of this round so far
 */
export function targetsOf(round: Round, job: JobState, planned: readonly ScheduleAction[]): Targets {
  const duplicates = duplicatesOf(job);
  const shrunk = new Set(planned.flatMap((action) => (action.type === 'shrink' ? [action.leaseId] : [])));
  const leases = [...job.leases.values()].flatMap((lease): Target[] => {
    const doubled = duplicates.some((other) => overlap(other, lease));
    if (doubled || shrunk.has(lease.leaseId) || !slotOf(round, lease)) return [];
    return [{ lease, victim: victimOf(round, job, lease) }];
  });
  return { ...workLeft(round, job), leases };
}

/** What is left to be done of a job. */
export interface WorkLeft {
  /** Clips that are still to be rendered, parts of clips included. */
  readonly work: number;
  /** The slots that are at it. */
  readonly workers: readonly Participant[];
}

/** What is left to be done of a job; its duplicates don't count. */
export function workLeft(round: Round, job: JobState): WorkLeft {
  const duplicates = duplicatesOf(job);
  const originals = [...job.leases.values()].filter((lease) => !duplicates.includes(lease));
  const victims = originals.map((lease) => victimOf(round, job, lease));
  const leased = victims.reduce((sum, v) => sum + Math.max(0, v.end - v.current - v.fraction), 0);
  return { work: countClips(pendingClips(job)) + leased, workers: victims };
}

/**
 * The lease of the job from which a slot can save most by taking over its tail, or null when that does not pay anywhere.
 * It keeps what it can do until the whole job could be done: one long span is better than two short ones.
 *
 * @param slot one that fits the job
 * @param thief the slot, with what it takes until it could begin
 */
export function bestRelief(
  round: Round,
  job: JobState,
  slot: ScheduledSlot,
  thief: Participant,
  { work, workers, leases }: Targets,
): Relief | null {
  const together = finishTime(work, [...workers, thief]);
  const most = longestCall(round, job, slot) - round.policy.preRoll;
  let best: Relief | null = null;
  for (const { lease, victim } of leases) {
    if (lease.fixedEnd) continue;
    const found = bestSteal(victim, thief, round.policy.minStealSaving, together, most);
    if (!found || found.saved <= (best?.saved ?? 0)) continue;
    const range = withoutSet(clipSet(found.newEnd, lease.end), job.committedSet)[0];
    if (range && !isWorseFor(round, job, slot, lease, range)) best = { lease, range, ...found };
  }
  return best;
}

/** What a slot does for a lease of a job, as actions. */
export interface Assistance {
  readonly lease: LeaseState;
  readonly actions: readonly ScheduleAction[];
}

/** A way to assist: null when a slot that fits can't help any of the targets. */
export type Assist = (round: Round, job: JobState, slot: ScheduledSlot, targets: Targets) => Assistance | null;

/** Takes over the tail of a lease where that pays. */
export const steal: Assist = (round, job, slot, targets) => {
  const best = bestRelief(round, job, slot, freeParticipant(round, job, slot, round.policy.preRoll), targets);
  if (!best) return null;
  const { lease, range, newEnd, saved } = best;
  const { leaseId } = lease;
  const { jobId } = job.definition;
  const preRoll = Math.min(round.policy.preRoll, range.start);
  const reason = `taken over from lease ${leaseId}: done ${saved.toFixed(1)} s earlier`;
  return {
    lease,
    actions: [
      { type: 'shrink', jobId, leaseId, end: newEnd, reason: `its tail is done earlier by ${slot.key}` },
      grantAction(job, slot, range, { preRoll, speculative: false, reason }),
    ],
  };
};

/**
 * Duplicates what is left of a lease that needs much longer than a free slot would, because its slot is slow or because
 * it has stopped moving; of what is too long for one call of the slot, the end: the lease may well come to do the
 * beginning itself meanwhile, and then both are of use. The first commit of each clip wins.
 */
export const speculate: Assist = (round, job, slot, targets) => {
  for (const { lease, victim } of targets.leases) {
    const left = withoutSet(clipSet(Math.max(lease.start, victim.current), lease.end), job.committedSet)[0];
    const range = left && endThatFits(left, round.policy.preRoll, longestCall(round, job, slot));
    if (!left || !range || isWorseFor(round, job, slot, lease, range)) continue;
    const preRoll = Math.min(round.policy.preRoll, range.start);
    const duplicate = freeParticipant(round, job, slot, preRoll);
    const needed = duplicate.readyIn + (range.end - range.start) * duplicate.secondsPerClip;
    const own = secondsLeft(victim);
    const overdue = secondsOverdue(round, lease, victim);
    // Of an end only what that takes: a lease is neither slow nor stuck because it has many clips before.
    const alone = (range.start === left.start ? own : (range.end - range.start) * victim.secondsPerClip) + overdue;
    if (alone > round.policy.speculationFactor * needed && alone - needed > round.policy.minStealSaving) {
      const reason = `duplicate of lease ${lease.leaseId}, which needs ${(own + overdue).toFixed(1)} s more`;
      return { lease, actions: [grantAction(job, slot, range, { preRoll, speculative: true, reason })] };
    }
  }
  return null;
};

/** As much of the end of a range as one call can have with its pre-roll; undefined where that is nothing. */
function endThatFits({ start, end }: ClipRange, preRoll: number, longest: number): ClipRange | undefined {
  if (end - start + Math.min(preRoll, start) <= longest) return { start, end };
  return longest > preRoll ? { start: end - (longest - preRoll), end } : undefined;
}

/**
 * Has free slots assist a job, the fastest first, each where it helps most. A slot that would be ready no sooner and
 * render no faster than one that could not help is not even asked, unless clips have failed on the node of that one: then
 * it may have been for that.
 *
 * @param most assistances that are wanted
 * @param planned actions of this round so far
 */
export function assist(
  round: Round,
  job: JobState,
  free: readonly ScheduledSlot[],
  how: Assist,
  planned: readonly ScheduleAction[],
  most = Number.POSITIVE_INFINITY,
): Granted {
  const actions: ScheduleAction[] = [];
  const used = new Set<string>();
  if (!mayBeAssisted(job) || free.length === 0) return { actions, used };
  let targets = targetsOf(round, job, planned);
  let hopeless = Number.POSITIVE_INFINITY;
  for (const slot of fastestFirst(round, job, free)) {
    if (targets.leases.length === 0 || used.size >= most) break;
    if (slot.warmUpSeconds >= hopeless || !isFit(round, job, slot)) continue;
    const found = how(round, job, slot, targets);
    if (found) {
      actions.push(...found.actions);
      used.add(slot.key);
      targets = { ...targets, leases: targets.leases.filter(({ lease }) => lease !== found.lease) };
    } else if (failedOn(round, job, slot.nodeId).length === 0) {
      hopeless = slot.warmUpSeconds;
    }
  }
  return { actions, used };
}

/**
 * How long a lease has not moved beyond what it should take for a clip, or for its warm-up. It may well take as long
 * again: whatever holds it up is not over yet.
 */
function secondsOverdue(round: Round, lease: LeaseState, victim: Victim): number {
  const warmUp = round.progress.has(lease.leaseId) ? 0 : (slotOf(round, lease)?.warmUpSeconds ?? 0);
  return Math.max(0, round.stillSeconds(lease) - warmUp - victim.secondsPerClip);
}

/** Whether free slots may join in on clips of the job that are leased already. */
function mayBeAssisted(job: JobState): boolean {
  return job.status === 'active' && !job.paused && !awaitsAnchor(job);
}

/** Whether the range has a clip that failed on the slot's node and not on the node that has it now. */
function isWorseFor(round: Round, job: JobState, slot: ScheduledSlot, lease: LeaseState, range: ClipRange): boolean {
  const holders = failedOn(round, job, lease.nodeId);
  return failedOn(round, job, slot.nodeId).some((clip) => {
    return range.start <= clip && clip < range.end && !holders.includes(clip);
  });
}
