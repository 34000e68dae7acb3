import { type Capacity, carveBeside, guidedCount, type Participant, secondsLeft } from './carve.ts';
import { type ClipRange, type ClipSet, countClips, withoutRange } from './clip-ranges.ts';
import { avoidedNodes, waitsElsewhere } from './failure-policy.ts';
import type { JobState } from './job-model.ts';
import { pendingClips } from './job-progress.ts';
import { ParticipantSet } from './participant-set.ts';
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

/** Grants a job's pending clips to free slots, the fastest first, sized so that all who work on the job finish together. */
export function grantPending(round: Round, job: JobState, free: readonly ScheduledSlot[]): Granted {
  const used = new Set<string>();
  const actions: ScheduleAction[] = [];
  let pending = leasable(round, job);
  if (pending.length === 0) return { actions, used };
  const all = pendingClips(job);
  let left = countClips(all);
  const fits = free.filter((slot) => isFit(round, job, slot));
  const fit = fastestFirst(round, job, fits);
  const newcomers = new Newcomers(round, job, fit, pending);
  const busy = new ParticipantSet(busyParticipants(round, job, all));
  for (const slot of whoGoesOnFirst(round, job, fit, pending)) {
    newcomers.leave(slot);
    const call = goesOn(round, job, slot, pending);
    const gap = call?.gap ?? chooseGap(round, job, slot, pending);
    // What is left for nobody in particular is left for no slot after this one either.
    if (!gap && failedOn(round, job, slot.nodeId).length === 0) break;
    if (!gap) continue;
    const preRoll = Math.min(round.policy.preRoll, gap.start);
    const self = call
      ? { readyIn: 0, secondsPerClip: pace(round, job, slot) }
      : freeParticipant(round, job, slot, preRoll);
    // The others can't begin before the anchor is there, which is the first clip of this lease.
    const wait = awaitsAnchor(job) ? self.readyIn + self.secondsPerClip : 0;
    const share = carveBeside(left, self, (time) => {
      const atWork = busy.readyBefore(time);
      const later = newcomers.readyBefore(time, wait);
      return { rate: atWork.rate + later.rate, offset: atWork.offset + later.offset };
    });
    if (share === 0) continue;
    const alone = busy.size + newcomers.size === 0;
    const count = slot.fixedEnd ? fixedCount(share, self, awaitsAnchor(job) && !alone) : share;
    const most = call?.most ?? Math.max(1, longestCall(round, job, slot) - preRoll);
    const end = Math.min(gap.end, gap.start + Math.min(count, most));
    const range = { start: gap.start, end };
    const busySeconds = self.readyIn + (end - gap.start) * self.secondsPerClip;
    busy.add(freeParticipant(round, job, slot, round.policy.preRoll, busySeconds));
    const how = call
      ? { continues: call.leaseId, reason: `goes on after lease ${call.leaseId}` }
      : { reason: 'pending clips' };
    actions.push(grantAction(job, slot, range, { preRoll, speculative: false, ...how }));
    used.add(slot.key);
    pending = withoutRange(pending, range);
    newcomers.forgetIdle(pending);
    left -= end - gap.start;
  }
  return { actions, used };
}

/** Free slots that will join in after the one whose turn it is. */
class Newcomers {
  readonly #round: Round;
  readonly #job: JobState;
  readonly #participants: ReadonlyMap<ScheduledSlot, Participant>;
  readonly #set: ParticipantSet;
  /** Those that may not have every clip, and how many clips failed on their nodes; most first. */
  readonly #choosy: readonly { readonly slot: ScheduledSlot; readonly failed: number }[];

  constructor(round: Round, job: JobState, slots: readonly ScheduledSlot[], pending: ClipSet) {
    this.#round = round;
    this.#job = job;
    this.#participants = new Map(
      slots.map((slot) => [slot, freeParticipant(round, job, slot, round.policy.preRoll)] as const),
    );
    this.#set = new ParticipantSet(this.#participants.values());
    this.#choosy = slots
      .map((slot) => ({ slot, failed: failedOn(round, job, slot.nodeId).length }))
      .filter(({ failed }) => failed > 0)
      .sort((a, b) => b.failed - a.failed);
    this.forgetIdle(pending);
  }

  get size(): number {
    return this.#set.size;
  }

  /** It is this one's own turn, or nothing is left that it may have. */
  leave(slot: ScheduledSlot): void {
    const participant = this.#participants.get(slot);
    if (participant) this.#set.remove(participant);
  }

  /** Leaves out who may have none of the pending clips. Only those are looked at on whose nodes that many have failed. */
  forgetIdle(pending: ClipSet): void {
    const clips = awaitsAnchor(this.#job) ? 0 : countClips(pending);
    for (const { slot, failed } of this.#choosy) {
      if (failed < clips) return;
      if (!chooseGap(this.#round, this.#job, slot, pending)) this.leave(slot);
    }
  }

  /** What those can do who are ready before a time, none of them sooner than after `wait` seconds more than it needs. */
  readyBefore(time: number, wait: number): Capacity {
    const { rate, offset } = this.#set.readyBefore(time - wait);
    return { rate, offset: offset + wait * rate };
  }
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
    const waits = waitsElsewhere(trouble, round.now);
    const avoided = avoidedNodes(trouble);
    const couldTry = (s: ScheduledSlot) =>
      s.available && !avoided.has(s.nodeId) && (waits || s.leaseId === null) && isFit(round, job, s);
    if (once(round.answers.canGoElsewhere, trouble, () => round.slots.some(couldTry)))
      set = withoutRange(set, { start: clip, end: clip + 1 });
  }
  return set;
}
