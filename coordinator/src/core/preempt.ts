import { bestRelief, targetsOf } from './assist.ts';
import { carveCount, finishTime, type Participant } from './carve.ts';
import { countClips } from './clip-ranges.ts';
import type { FairShares } from './fair-shares.ts';
import { busyParticipants, chooseGap } from './grant-pending.ts';
import type { JobState, LeaseState } from './job-model.ts';
import { pendingClips } from './job-progress.ts';
import type { ScheduleAction, ScheduledSlot } from './schedule-model.ts';
import {
  awaitsAnchor,
  clipInHand,
  endsSoon,
  freeParticipant,
  isFit,
  isTouched,
  leasable,
  type Round,
  slotOf,
  victimOf,
} from './schedule-round.ts';

/** A slot that is free once the clip in hand is done. */
interface Held {
  readonly job: JobState;
  readonly lease: LeaseState;
  readonly slot: ScheduledSlot;
  /** Until then. */
  readonly secondsInHand: number;
}

/**
 * Lets jobs in that could use more slots than they have, by ending leases of jobs that come after them once the clip in
 * hand is done. A higher priority may take every slot that helps it; an equal one only evens out between owners, one
 * slot at a time. A slot is taken only from a job that comes later in the order of grants, and only if the job would
 * really use it: otherwise it would go straight back.
 *
 * @param jobs in the order of grants
 * @param shares brought up to date with what is taken
 * @param planned actions of this round so far
 */
export function preempt(
  round: Round,
  jobs: readonly JobState[],
  shares: FairShares,
  planned: readonly ScheduleAction[],
): readonly ScheduleAction[] {
  const actions: ScheduleAction[] = [];
  const held = new Map(jobs.map((job) => [job, heldSlots(round, job, planned)]));
  let coming = [...held.values()].flat().filter(({ job, lease }) => endsSoon(round, job, lease));
  for (const [index, waiting] of jobs.entries()) {
    // What it gets in this round is not known to its leases yet; the next round sees whether more would help.
    if (planned.some((action) => action.jobId === waiting.definition.jobId)) continue;
    const demand = newDemand(round, waiting);
    if (!demand) continue;
    const claimed = coming.filter((h) => demand.take(h));
    coming = coming.filter((h) => !claimed.includes(h));
    for (const { job } of claimed) shares.move(job, waiting);
    const lesser = jobs.slice(index + 1).reverse();
    const mayTakeFrom = (victim: JobState) =>
      waiting.priority !== victim.priority || (claimed.length === 0 && shares.evensOut(waiting, victim));
    for (const victim of lesser) {
      if (!mayTakeFrom(victim)) continue;
      for (const h of held.get(victim) ?? []) {
        // A lease whose end is fixed is waited for.
        if (h.lease.fixedEnd || endsSoon(round, victim, h.lease) || isTouched(actions, h.lease.leaseId)) continue;
        if (!mayTakeFrom(victim)) break;
        if (!demand.take(h)) continue;
        claimed.push(h);
        shares.move(victim, waiting);
        actions.push(stopAfterClipInHand(round, h, `job ${waiting.definition.jobId} goes first`));
      }
    }
  }
  return actions;
}

/** The job's slots that could serve another job, and whose leases this round has not changed. */
function heldSlots(round: Round, job: JobState, planned: readonly ScheduleAction[]): Held[] {
  return [...job.leases.values()].flatMap((lease) => {
    const slot = slotOf(round, lease);
    if (!slot?.available || isTouched(planned, lease.leaseId)) return [];
    return [{ job, lease, slot, secondsInHand: secondsInHand(round, job, lease) }];
  });
}

function stopAfterClipInHand(round: Round, { job, lease }: Held, reason: string): ScheduleAction {
  const end = Math.max(lease.start, clipInHand(round, job, lease) + 1);
  return { type: 'shrink', jobId: job.definition.jobId, leaseId: lease.leaseId, end, reason };
}

/** What a job could still use. */
interface Demand {
  /** Whether the slot would help; if so it counts as the job's from now on. */
  take(held: Held): boolean;
}

function newDemand(round: Round, job: JobState): Demand | null {
  if (job.status !== 'active' || job.paused) return null;
  if (awaitsAnchor(job)) return anchorDemand(round, job);
  const ready = leasable(round, job);
  const pending = pendingClips(job);
  const busy = busyParticipants(round, job, pending);
  const targets = targetsOf(round, job, []);
  const { work } = targets;
  const workers = [...targets.workers];
  const { minStealSaving, preRoll } = round.policy;
  let alone = finishTime(work, workers);
  // One that would not have saved enough: who comes no sooner and is no faster would not either, and need not be asked.
  let tooSlow: Participant | null = null;
  return {
    take(held) {
      if (held.job === job || !isFit(round, job, held.slot)) return false;
      const newcomer = freeParticipant(round, job, held.slot, preRoll, held.secondsInHand);
      if (tooSlow && isNoBetter(newcomer, tooSlow)) return false;
      const together = finishTime(work, [...workers, newcomer]);
      const saved = alone - together;
      if (saved <= Math.max(minStealSaving, newcomer.readyIn)) {
        if (!tooSlow || isNoBetter(tooSlow, newcomer)) tooSlow = newcomer;
        return false;
      }
      // The very questions that will be asked when the slot is free.
      const wouldCarve = chooseGap(round, job, held.slot, ready) && carveCount(countClips(pending), newcomer, busy) > 0;
      if (!wouldCarve && !bestRelief(round, job, held.slot, newcomer, targets)) return false;
      workers.push(newcomer);
      alone = together;
      tooSlow = null;
      return true;
    },
  };
}

/** Until the anchor is there, one slot is all that a job can use. */
function anchorDemand(round: Round, job: JobState): Demand {
  const ready = leasable(round, job);
  let served = ready.length === 0;
  return {
    take({ job: holder, slot }) {
      if (served || holder === job || !isFit(round, job, slot) || !chooseGap(round, job, slot, ready)) return false;
      served = true;
      return true;
    },
  };
}

function isNoBetter(one: Participant, other: Participant): boolean {
  return one.readyIn >= other.readyIn && one.secondsPerClip >= other.secondsPerClip;
}

/** Seconds until the clip in hand is done; nothing in the pre-roll, which is not waited for. */
function secondsInHand(round: Round, job: JobState, lease: LeaseState): number {
  const { current, fraction, secondsPerClip } = victimOf(round, job, lease);
  return current < lease.start ? 0 : (1 - fraction) * secondsPerClip;
}
