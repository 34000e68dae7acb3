import { carveCount, guidedCount, type Participant, secondsLeft } from './carve.ts';
import { type ClipRange, type ClipSet, countClips, withoutRange } from './clip-ranges.ts';
import type { JobState } from './job-model.ts';
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
  leasable,
  longestCall,
  once,
  pace,
  type Round,
  slotOf,
  victimOf,
} from './schedule-round.ts';

/** How long a clip that failed on a node waits for another node that is busy. */
const ELSEWHERE_PATIENCE_MILLIS = 60_000;

/** Grants a job's pending clips to free slots, the fastest first, sized so that all who work on the job finish together. */
export function grantPending(round: Round, job: JobState, free: readonly ScheduledSlot[]): Granted {
  const used = new Set<string>();
  const actions: ScheduleAction[] = [];
  let pending = leasable(round, job);
  if (pending.length === 0) return { actions, used };
  let left = pendingClips(job);
  const fits = free.filter((slot) => isFit(round, job, slot));
  const fit = fastestFirst(round, job, fits);
  const newcomers = new Map(fit.map((slot) => [slot, freeParticipant(round, job, slot, round.policy.preRoll)]));
  const busy = busyParticipants(round, job, left);
  const mayHaveAll = (slot: ScheduledSlot) => failedOn(round, job, slot.nodeId).length === 0;
  for (const slot of whoGoesOnFirst(round, job, fit, pending)) {
    newcomers.delete(slot);
    const call = goesOn(round, job, slot, pending);
    const gap = call?.gap ?? chooseGap(round, job, slot, pending);
    // What is left for nobody in particular is left for no slot after this one either.
    if (!gap && mayHaveAll(slot)) break;
    if (!gap) continue;
    const preRoll = Math.min(round.policy.preRoll, gap.start);
    const self = call
      ? { readyIn: 0, secondsPerClip: pace(round, job, slot) }
      : freeParticipant(round, job, slot, preRoll);
    // The others can't begin before the anchor is there, which is the first clip of this lease.
    const wait = awaitsAnchor(job) ? self.readyIn + self.secondsPerClip : 0;
    const others: Participant[] = [];
    for (const [other, newcomer] of newcomers) {
      if (!mayHaveAll(other) && !chooseGap(round, job, other, pending)) continue;
      others.push(wait === 0 ? newcomer : { ...newcomer, readyIn: newcomer.readyIn + wait });
    }
    const share = carveCount(countClips(left), self, [...busy, ...others]);
    if (share === 0) continue;
    const alone = busy.length + others.length === 0;
    const count = slot.fixedEnd ? fixedCount(share, self, awaitsAnchor(job) && !alone) : share;
    const most = call?.most ?? Math.max(1, longestCall(round, job, slot) - preRoll);
    const end = Math.min(gap.end, gap.start + Math.min(count, most));
    const range = { start: gap.start, end };
    const busySeconds = self.readyIn + (end - gap.start) * self.secondsPerClip;
    busy.push(freeParticipant(round, job, slot, round.policy.preRoll, busySeconds));
    const how = call
      ? { continues: call.leaseId, reason: `goes on after lease ${call.leaseId}` }
      : { reason: 'pending clips' };
    actions.push(grantAction(job, slot, range, { preRoll, speculative: false, ...how }));
    used.add(slot.key);
    pending = withoutRange(pending, range);
    left = withoutRange(left, range);
  }
  return { actions, used };
}

/** Clips for a slot whose lease can't be shortened; just one while everybody waits for the anchor that it brings. */
function fixedCount(share: number, self: Participant, isAwaited: boolean): number {
  return isAwaited ? 1 : guidedCount(share, self);
}

/** How a slot would go on in the model call that its runner keeps open. */
interface GoingOn {
  readonly leaseId: string;
  readonly gap: ClipRange;
  /** Clips that the call may still have. */
  readonly most: number;
}

/** Whether the slot's open call ended where pending clips begin that it may have. */
function goesOn(round: Round, job: JobState, slot: ScheduledSlot, pending: ClipSet): GoingOn | undefined {
  const call = slot.openCall;
  if (call === null || call.jobId !== job.definition.jobId) return undefined;
  const gap = gapsFor(round, job, slot, pending).find(({ start }) => start === call.end);
  const most = longestCall(round, job, slot) - (call.end - call.begin);
  return gap && most > 0 ? { leaseId: call.leaseId, gap, most } : undefined;
}

/** The slots that can go on in an open call ahead of the others, who would take the clips that follow on it. */
function whoGoesOnFirst(
  round: Round,
  job: JobState,
  slots: readonly ScheduledSlot[],
  pending: ClipSet,
): readonly ScheduledSlot[] {
  const [going, fresh] = [[] as ScheduledSlot[], [] as ScheduledSlot[]];
  for (const slot of slots) (goesOn(round, job, slot, pending) ? going : fresh).push(slot);
  return [...going, ...fresh];
}

/** The slots that work on the job and will take on pending clips after what they have in hand. */
export function busyParticipants(round: Round, job: JobState, pending: ClipSet): Participant[] {
  const duplicates = duplicatesOf(job);
  return [...job.leases.values()].flatMap((lease) => {
    const slot = slotOf(round, lease);
    if (duplicates.includes(lease) || !slot?.available || !chooseGap(round, job, slot, pending)) return [];
    return [freeParticipant(round, job, slot, round.policy.preRoll, secondsLeft(victimOf(round, job, lease)))];
  });
}

/** The earliest gap that a slot may have. */
export function chooseGap(round: Round, job: JobState, slot: ScheduledSlot, pending: ClipSet): ClipRange | undefined {
  const gap = gapsFor(round, job, slot, pending)[0];
  return awaitsAnchor(job) && gap?.start !== 0 ? undefined : gap;
}

/** The gaps, less the clips that failed on this node while another fitting node could try them. */
function gapsFor(round: Round, job: JobState, slot: ScheduledSlot, pending: ClipSet): ClipSet {
  let set = pending;
  for (const clip of failedOn(round, job, slot.nodeId)) {
    const trouble = job.troubles.get(clip);
    if (!trouble) continue;
    const waits = round.now < trouble.notBefore + ELSEWHERE_PATIENCE_MILLIS;
    const couldTry = (s: ScheduledSlot) =>
      s.available && !trouble.nodes.includes(s.nodeId) && (waits || s.leaseId === null) && isFit(round, job, s);
    if (once(round.answers.canGoElsewhere, trouble, () => round.slots.some(couldTry)))
      set = withoutRange(set, { start: clip, end: clip + 1 });
  }
  return set;
}
