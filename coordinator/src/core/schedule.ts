import { assist, speculate, steal } from './assist.ts';
import { finishTime, secondsLeft } from './carve.ts';
import { countClips } from './clip-ranges.ts';
import { fairShares } from './fair-shares.ts';
import { busyParticipants, grantPending } from './grant-pending.ts';
import type { JobState, LeaseState } from './job-model.ts';
import { byOrder, wantsSlots } from './job-order.ts';
import { pendingClips } from './job-progress.ts';
import { preempt } from './preempt.ts';
import { revokeOvertaken } from './release.ts';
import type { ScheduleAction, ScheduledSlot, ScheduleInput } from './schedule-model.ts';
import { freeParticipant, type Granted, isFit, newRound, type Round, slotOf, victimOf } from './schedule-round.ts';

/**
 * What the farm should do now. Each job in turn gets, of the slots that are free, grants of its pending clips, sized so
 * that all slots finish together, and then steals from its own leases where that pays; slots that found nothing
 * duplicate leases that are far behind; and jobs that could use more slots preempt those that come after them. Pure.
 * The actions are meant to be carried out in order; the next call sees what became of them.
 */
export function schedule(input: ScheduleInput): ScheduleAction[] {
  const round = newRound(input);
  const shares = fairShares(input.usage, input.jobs);
  const jobs = [...input.jobs].sort(byOrder(shares.expected, input.now));
  const actions: ScheduleAction[] = jobs.flatMap((job) => revokeOvertaken(input, job));
  // What this frees is given away in the next round.
  if (actions.length > 0) return actions;
  let free = input.slots.filter((slot) => slot.available && slot.leaseId === null);
  const take = (granted: Granted) => {
    actions.push(...granted.actions);
    free = free.filter((slot) => !granted.used.has(slot.key));
  };
  for (const job of jobs) {
    if (free.length === 0) break;
    if (wantsSlots(job)) take(grantPending(round, job, free));
    take(assist(round, job, free, steal, actions));
  }
  // One duplicate a round: what it changes shows in the next one.
  let duplicates = 0;
  for (const job of jobs) {
    const duplicated = assist(round, job, free, speculate, actions, 1 - duplicates);
    duplicates += duplicated.used.size;
    take(duplicated);
  }
  actions.push(...preempt(round, jobs, shares, actions));
  return actions;
}

/**
 * Forecast of seconds until every clip of the job is committed, with the slots that work on it and those that are free.
 * Infinite where nobody works on it, or where a slot is not known that does.
 */
export function forecastFinish(input: ScheduleInput | Round, job: JobState): number {
  const round = newRound(input);
  const pending = pendingClips(job);
  const isFree = (slot: ScheduledSlot) => slot.available && slot.leaseId === null && isFit(round, job, slot);
  const free = round.slots.filter(isFree).map((slot) => freeParticipant(round, job, slot, round.policy.preRoll));
  const leases = [...job.leases.values()].map((lease) => forecastLease(round, job, lease));
  const participants = [...busyParticipants(round, job, pending), ...free];
  return Math.max(0, ...leases, finishTime(countClips(pending), participants));
}

/** Forecast of seconds until this lease is done; infinite while its slot is not known, as where another coordinator leads. */
export function forecastLease(input: ScheduleInput | Round, job: JobState, lease: LeaseState): number {
  const round = newRound(input);
  return slotOf(round, lease) ? secondsLeft(victimOf(round, job, lease)) : Number.POSITIVE_INFINITY;
}
