import { carveCount, type Participant, secondsLeft } from './carve.ts';
import { type ClipRange, type ClipSet, countClips, NO_CLIPS, withoutRange } from './clip-ranges.ts';
import type { JobState } from './job-model.ts';
import { pendingClips } from './job-progress.ts';
import type { ScheduleAction, ScheduledSlot } from './schedule-model.ts';
import {
  awaitsAnchor,
  duplicatesOf,
  freeParticipant,
  grantAction,
  isFit,
  leasable,
  pace,
  type Round,
  slotOf,
  victimOf,
} from './schedule-round.ts';

/** How long a clip that failed on a node waits for another node that is busy. */
const ELSEWHERE_PATIENCE_MILLIS = 60_000;

/** Grants, and the slots that got them. */
export interface Granted {
  readonly actions: readonly ScheduleAction[];
  /** Keys. */
  readonly used: ReadonlySet<string>;
}

/** Grants a job's pending clips to free slots, the fastest first, sized so that all who work on the job finish together. */
export function grantPending(round: Round, job: JobState, free: readonly ScheduledSlot[]): Granted {
  const used = new Set<string>();
  const actions: ScheduleAction[] = [];
  let pending = leasable(round, job);
  if (pending.length === 0) return { actions, used };
  let left = pendingClips(job);
  const fit = free
    .filter((slot) => isFit(round, job, slot))
    .sort((a, b) => pace(round, job, a) - pace(round, job, b) || (a.key < b.key ? -1 : 1));
  const busy = busyParticipants(round, job, left);
  for (const [index, slot] of fit.entries()) {
    const gap = chooseGap(round, job, slot, pending);
    if (!gap) continue;
    const preRoll = Math.min(round.policy.preRoll, gap.start);
    const self = freeParticipant(round, job, slot, preRoll);
    // The others can't begin before the anchor is there, which is the first clip of this lease.
    const wait = awaitsAnchor(job) ? self.readyIn + self.secondsPerClip : 0;
    const others = fit
      .slice(index + 1)
      .filter((other) => chooseGap(round, job, other, pending))
      .map((other) => freeParticipant(round, job, other, round.policy.preRoll, wait));
    const count = carveCount(countClips(left), self, [...busy, ...others]);
    if (count === 0) continue;
    const end = Math.min(gap.end, gap.start + Math.min(count, round.policy.maxLeaseClips - preRoll));
    const range = { start: gap.start, end };
    const busySeconds = self.readyIn + (end - gap.start) * self.secondsPerClip;
    busy.push(freeParticipant(round, job, slot, round.policy.preRoll, busySeconds));
    actions.push(grantAction(job, slot, range, { preRoll, speculative: false, reason: 'pending clips' }));
    used.add(slot.key);
    pending = awaitsAnchor(job) ? NO_CLIPS : withoutRange(pending, range);
    left = withoutRange(left, range);
  }
  return { actions, used };
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

/** The earliest gap, passing over clips that failed on this node while another fitting node could try them. */
export function chooseGap(round: Round, job: JobState, slot: ScheduledSlot, pending: ClipSet): ClipRange | undefined {
  let set = pending;
  for (const [clip, trouble] of job.troubles) {
    if (!trouble.nodes.includes(slot.nodeId)) continue;
    const waits = round.now < trouble.notBefore + ELSEWHERE_PATIENCE_MILLIS;
    const elsewhere = round.slots.some(
      (s) => s.available && !trouble.nodes.includes(s.nodeId) && (waits || s.leaseId === null) && isFit(round, job, s),
    );
    if (elsewhere) set = withoutRange(set, { start: clip, end: clip + 1 });
  }
  const gap = set[0];
  return awaitsAnchor(job) && gap?.start !== 0 ? undefined : gap;
}
