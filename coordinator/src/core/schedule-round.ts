import type { Participant, Victim } from './carve.ts';
import { type ClipRange, type ClipSet, withoutRange } from './clip-ranges.ts';
import { avoidedNodes, backsOff } from './failure-policy.ts';
import { type ClipTrouble, type JobState, type LeaseState, slotKey } from './job-model.ts';
import { begunClip, pendingClips, reachedClip } from './job-progress.ts';
import type { ScheduleAction, ScheduledSlot, ScheduleInput } from './schedule-model.ts';

/** One round of scheduling: its input, an index of what every step looks up, and answers that many steps ask for. */
export interface Round extends ScheduleInput {
  readonly slotsByKey: ReadonlyMap<string, ScheduledSlot>;
  readonly answers: {
    /** By job: whether a slot that did not run out of memory on it could take it. */
    readonly hasRoomElsewhere: Map<JobState, boolean>;
    /** By trouble: whether another fitting node could try the clip. */
    readonly canGoElsewhere: Map<ClipTrouble, boolean>;
    /** By job and node: the clips that failed there. */
    readonly failedOn: Map<JobState, ReadonlyMap<string, readonly number[]>>;
  };
}

/** Prepares a round. One that is prepared already is taken as it is, so that many questions share the work. */
export function newRound(input: ScheduleInput | Round): Round {
  if ('slotsByKey' in input) return input;
  const slotsByKey = new Map(input.slots.map((slot) => [slot.key, slot]));
  return {
    ...input,
    slotsByKey,
    answers: { hasRoomElsewhere: new Map(), canGoElsewhere: new Map(), failedOn: new Map() },
  };
}

/** The answer to a question that was asked before in this round, or else what `find` says. */
export function once<K, V>(answers: Map<K, V>, key: K, find: () => V): V {
  const known = answers.get(key);
  if (known !== undefined) return known;
  const found = find();
  answers.set(key, found);
  return found;
}

const NONE: readonly number[] = [];

/** Clips of a job that failed on a node, or at which it was lost again and again: few on any, though there may be many on all nodes together. */
export function failedOn(round: Round, job: JobState, nodeId: string): readonly number[] {
  if (job.troubles.size === 0) return NONE;
  const byNode = once(round.answers.failedOn, job, () => {
    const found = new Map<string, number[]>();
    for (const [clip, trouble] of job.troubles) {
      for (const node of avoidedNodes(trouble)) {
        const clips = found.get(node);
        if (clips) clips.push(clip);
        else found.set(node, [clip]);
      }
    }
    return found;
  });
  return byNode.get(nodeId) ?? NONE;
}

/** The slot that a lease was given to; undefined when its node has not attached since the coordinator started. */
export function slotOf(round: Round, lease: LeaseState): ScheduledSlot | undefined {
  return round.slotsByKey.get(slotKey(lease.nodeId, lease.slotId));
}

/**
 * Whether a slot can render a job's picture. One that ran out of memory on it is tried again only when no other slot is
 * left that could: the attempts at a clip are counted, so the job ends with the evidence and does not wait for ever.
 */
export function isFit(round: Round, job: JobState, slot: ScheduledSlot): boolean {
  if (!round.fits(slot, job)) return false;
  if (!job.unfitSlots.has(slot.key)) return true;
  const hasRoom = (s: ScheduledSlot) => s.available && !job.unfitSlots.has(s.key) && round.fits(s, job);
  return !once(round.answers.hasRoomElsewhere, job, () => round.slots.some(hasRoom));
}

/** Forecast of seconds per clip. */
export function pace(round: Round, job: JobState, slot: ScheduledSlot): number {
  return round.secondsPerClip(slot, job.definition);
}

/** Most clips of one model call of the job on a slot, pre-roll included. */
export function longestCall(round: Round, job: JobState, slot: ScheduledSlot): number {
  return Math.min(round.policy.maxLeaseClips, round.leaseLimit(slot, job));
}

/** The slots, those that render the job fastest first. */
export function fastestFirst(round: Round, job: JobState, slots: readonly ScheduledSlot[]): ScheduledSlot[] {
  const paced = slots.map((slot) => ({ slot, seconds: pace(round, job, slot) }));
  return paced.sort((a, b) => a.seconds - b.seconds || compareKeys(a.slot, b.slot)).map(({ slot }) => slot);
}

function compareKeys(a: ScheduledSlot, b: ScheduledSlot): number {
  return a.key < b.key ? -1 : 1;
}

/** Whether only clip 0 may be rendered, because every other span needs its anchor. */
export function awaitsAnchor(job: JobState): boolean {
  return job.definition.anchorMode === 'first_frame' && job.anchor === null;
}

/** Pending clips that may be leased now: the anchor is there or begins here, and no back-off is running. */
export function leasable(round: Round, job: JobState): ClipSet {
  let set = pendingClips(job);
  for (const [clip, trouble] of job.troubles) {
    if (backsOff(trouble.notBefore, round.now)) set = withoutRange(set, { start: clip, end: clip + 1 });
  }
  if (!awaitsAnchor(job)) return set;
  const first = set[0];
  return first?.start === 0 ? [first] : [];
}

/** A slot that is free, or will be after `busySeconds`, as someone who could work on a job. */
export function freeParticipant(
  round: Round,
  job: JobState,
  slot: ScheduledSlot,
  preRoll: number,
  busySeconds = 0,
): Participant {
  const secondsPerClip = pace(round, job, slot);
  return { readyIn: busySeconds + slot.warmUpSeconds + preRoll * secondsPerClip, secondsPerClip };
}

/** The last clip that a lease can't be relieved of; the one before its start while it is in its pre-roll. */
export function clipInHand(round: Round, job: JobState, lease: LeaseState): number {
  const begun = begunClip(job, lease);
  return Math.max(begun, round.progress.get(lease.leaseId)?.clip ?? begun);
}

/** Whether the lease has nothing after the clip in hand. */
export function endsSoon(round: Round, job: JobState, lease: LeaseState): boolean {
  return clipInHand(round, job, lease) + 1 >= lease.end;
}

/** A lease as someone who could be relieved. */
export function victimOf(round: Round, job: JobState, lease: LeaseState): Victim {
  const slot = slotOf(round, lease);
  const at = round.progress.get(lease.leaseId);
  const begun = begunClip(job, lease);
  const current = reachedClip(job, lease, at?.clip);
  const renders = at !== undefined || begun >= lease.start;
  const warmUp = (slot?.warmUpSeconds ?? 0) - round.stillSeconds(lease);
  return {
    current,
    fraction: at?.clip === current ? at.fraction : 0,
    start: lease.start,
    end: lease.end,
    secondsPerClip: slot ? pace(round, job, slot) : 1,
    readyIn: renders ? 0 : Math.max(0, warmUp),
  };
}

/** Leases that render again what another one in force has. One whose original is gone is a lease like any other. */
export function duplicatesOf(job: JobState): readonly LeaseState[] {
  const leases = [...job.leases.values()];
  return leases.filter(
    (lease) => lease.speculative && leases.some((other) => other !== lease && overlap(other, lease)),
  );
}

/** Whether two ranges have a clip in common. */
export function overlap(a: ClipRange, b: ClipRange): boolean {
  return a.start < b.end && b.start < a.end;
}

/** Whether an earlier action of this round has changed the lease. */
export function isTouched(actions: readonly ScheduleAction[], leaseId: string): boolean {
  return actions.some((a) => a.type === 'shrink' && a.leaseId === leaseId);
}

/** Actions, and the slots that they give leases to. */
export interface Granted {
  readonly actions: readonly ScheduleAction[];
  /** Keys. */
  readonly used: ReadonlySet<string>;
}

/** A grant of `range` to a slot. */
export function grantAction(
  job: JobState,
  slot: ScheduledSlot,
  range: ClipRange,
  how: {
    readonly preRoll: number;
    readonly speculative: boolean;
    readonly continues?: string;
    readonly reason: string;
  },
): ScheduleAction {
  const { nodeId, slotId, profile } = slot;
  const fixed = slot.fixedEnd ? { fixedEnd: true } : {};
  return { type: 'grant', jobId: job.definition.jobId, nodeId, slotId, profile, ...range, ...fixed, ...how };
}
