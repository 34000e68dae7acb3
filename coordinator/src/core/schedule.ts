import { bestSteal, carveCount, finishTime, type Participant, secondsLeft, type Victim } from './carve.ts';
import { type ClipRange, type ClipSet, countClips, hasClip, withoutRange } from './clip-ranges.ts';
import type { JobState, LeaseState } from './job-model.ts';
import { byOrder, wantsSlots } from './job-order.ts';
import { pendingClips } from './job-progress.ts';
import type { ScheduleAction, ScheduledSlot, ScheduleInput } from './schedule-model.ts';

/**
 * What the farm should do now: grants of pending clips to free slots, sized so that all slots finish together; then
 * steals for slots that found nothing; then duplicates of leases that are far behind; then preemption for jobs that
 * found no slot. Pure. The actions are meant to be carried out in order; the next call sees what became of them.
 */
export function schedule(input: ScheduleInput): ScheduleAction[] {
  const actions: ScheduleAction[] = [];
  const jobs = [...input.jobs].sort(byOrder(input.usage, input.now));
  let free = input.slots.filter((slot) => slot.available && slot.leaseId === null);
  for (const job of jobs) {
    if (free.length === 0) break;
    if (!wantsSlots(job)) continue;
    const granted = grantPending(input, job, free);
    actions.push(...granted.actions);
    free = free.filter((slot) => !granted.used.has(slot.key));
  }
  for (const slot of free) {
    const action = firstOf(jobs, (job) => steal(input, job, slot, actions) ?? speculate(input, job, slot, actions));
    actions.push(...action);
  }
  if (free.length === 0) actions.push(...preempt(input, jobs, actions));
  return actions;
}

/** Forecast of seconds until every clip of the job is committed, with the slots that work on it and those that are free. */
export function forecastFinish(input: ScheduleInput, job: JobState): number {
  const free = input.slots.filter((slot) => slot.available && slot.leaseId === null && isFit(input, job, slot));
  const participants = [...leaseParticipants(input, job), ...free.map((slot) => freeParticipant(input, job, slot, 1))];
  const leases = [...job.leases.values()].map((lease) => secondsLeft(victimOf(input, job, lease)));
  return Math.max(0, ...leases, finishTime(countClips(pendingClips(job)), participants));
}

/** Forecast of seconds until this lease is done. */
export function forecastLease(input: ScheduleInput, job: JobState, lease: LeaseState): number {
  return secondsLeft(victimOf(input, job, lease));
}

function isFit(input: ScheduleInput, job: JobState, slot: ScheduledSlot): boolean {
  return !job.unfitSlots.has(slot.key) && input.fits(slot, job);
}

function grantPending(input: ScheduleInput, job: JobState, free: readonly ScheduledSlot[]) {
  const used = new Set<string>();
  const actions: ScheduleAction[] = [];
  const fit = free
    .filter((slot) => isFit(input, job, slot))
    .sort((a, b) => speed(input, job, a) - speed(input, job, b) || (a.key < b.key ? -1 : 1));
  let pending = leasable(input, job);
  let left = pendingClips(job);
  const busy = leaseParticipants(input, job);
  for (const [index, slot] of fit.entries()) {
    const gap = chooseGap(input, job, slot, pending);
    if (!gap) continue;
    const others = fit.slice(index + 1).map((other) => freeParticipant(input, job, other, 1));
    const preRoll = gap.start === 0 ? 0 : Math.min(input.policy.preRoll, gap.start);
    const self = freeParticipant(input, job, slot, preRoll);
    const count = carveCount(countClips(left), self, [...busy, ...others]);
    if (count === 0) continue;
    const end = Math.min(gap.end, gap.start + Math.min(count, input.policy.maxLeaseClips - preRoll));
    busy.push({ readyIn: self.readyIn + (end - gap.start) * self.secondsPerClip, secondsPerClip: self.secondsPerClip });
    actions.push(grantAction(job, slot, { start: gap.start, end }, preRoll, false, 'pending clips'));
    used.add(slot.key);
    pending = withoutRange(pending, { start: gap.start, end });
    left = withoutRange(left, { start: gap.start, end });
  }
  return { actions, used };
}

/** Pending clips that may be leased now: the anchor is there or begins here, and no back-off is running. */
function leasable(input: ScheduleInput, job: JobState): ClipSet {
  let set = pendingClips(job);
  for (const [clip, trouble] of job.troubles) {
    if (trouble.notBefore > input.now) set = withoutRange(set, { start: clip, end: clip + 1 });
  }
  const needsAnchor = job.definition.anchorMode === 'first_frame' && job.anchor === null;
  if (!needsAnchor) return set;
  const first = set[0];
  return first?.start === 0 ? [first] : [];
}

/** The earliest gap, passing over clips that failed on this node while another fitting node could try them. */
function chooseGap(input: ScheduleInput, job: JobState, slot: ScheduledSlot, pending: ClipSet): ClipRange | undefined {
  let set = pending;
  for (const [clip, trouble] of job.troubles) {
    if (!trouble.nodes.includes(slot.nodeId)) continue;
    const elsewhere = input.slots.some((s) => s.available && !trouble.nodes.includes(s.nodeId) && isFit(input, job, s));
    if (elsewhere) set = withoutRange(set, { start: clip, end: clip + 1 });
  }
  return set[0];
}

function steal(
  input: ScheduleInput,
  job: JobState,
  slot: ScheduledSlot,
  planned: readonly ScheduleAction[],
): ScheduleAction[] | null {
  if (!mayAssist(input, job, slot)) return null;
  const thief = freeParticipant(input, job, slot, input.policy.preRoll);
  let best: { lease: LeaseState; newEnd: number; saved: number } | null = null;
  for (const lease of job.leases.values()) {
    if (lease.speculative || isTouched(planned, lease.leaseId) || hasDuplicate(job, lease)) continue;
    const found = bestSteal(victimOf(input, job, lease), thief, input.policy.minStealSaving);
    if (found && found.saved > (best?.saved ?? 0)) best = { lease, ...found };
  }
  if (!best) return null;
  const { lease, newEnd, saved } = best;
  const range = { start: newEnd, end: lease.end };
  const why = `taken over from lease ${lease.leaseId}: done ${saved.toFixed(1)} s earlier`;
  return [
    {
      type: 'shrink',
      jobId: job.definition.jobId,
      leaseId: lease.leaseId,
      end: newEnd,
      reason: `its tail is done earlier by ${slot.key}`,
    },
    grantAction(job, slot, range, Math.min(input.policy.preRoll, newEnd), false, why),
  ];
}

function speculate(
  input: ScheduleInput,
  job: JobState,
  slot: ScheduledSlot,
  planned: readonly ScheduleAction[],
): ScheduleAction[] | null {
  if (!mayAssist(input, job, slot) || planned.some((a) => a.type === 'grant' && a.speculative)) return null;
  for (const lease of job.leases.values()) {
    if (lease.speculative || isTouched(planned, lease.leaseId) || hasDuplicate(job, lease)) continue;
    const victim = victimOf(input, job, lease);
    const start = Math.max(lease.start, victim.current);
    if (start >= lease.end || hasClip(job.committedSet, start)) continue;
    const preRoll = Math.min(input.policy.preRoll, start);
    const duplicate = freeParticipant(input, job, slot, preRoll);
    const needed = duplicate.readyIn + (lease.end - start) * duplicate.secondsPerClip;
    const left = secondsLeft(victim);
    if (left > input.policy.speculationFactor * needed && left - needed > input.policy.minStealSaving) {
      const why = `duplicate of lease ${lease.leaseId}, which needs ${left.toFixed(1)} s more`;
      return [grantAction(job, slot, { start, end: lease.end }, preRoll, true, why)];
    }
  }
  return null;
}

/** Lets jobs that found no slot in by ending leases of lesser jobs after the clip in hand. */
function preempt(
  input: ScheduleInput,
  jobs: readonly JobState[],
  planned: readonly ScheduleAction[],
): ScheduleAction[] {
  const actions: ScheduleAction[] = [];
  const held = slotsByOwner(jobs);
  let coming = jobs.flatMap((job) => [...job.leases.values()]).filter((lease) => endsSoon(input, lease)).length;
  for (const waiting of jobs) {
    if (!wantsSlots(waiting)) continue;
    const wanted = countClips(leasable(input, waiting));
    for (const victim of [...jobs].reverse()) {
      if (victim === waiting || !mayPreempt(waiting, victim, held)) continue;
      for (const lease of victim.leases.values()) {
        if (coming >= wanted || (coming > 0 && waiting.priority === victim.priority)) break;
        const slot = input.slots.find((s) => s.leaseId === lease.leaseId);
        if (!slot || !isFit(input, waiting, slot) || endsSoon(input, lease) || isTouched(planned, lease.leaseId))
          continue;
        const end = Math.max(lease.start, clipInHand(input, lease) + 1);
        const reason = `job ${waiting.definition.jobId} goes first`;
        actions.push({ type: 'shrink', jobId: victim.definition.jobId, leaseId: lease.leaseId, end, reason });
        coming += 1;
      }
    }
  }
  return actions;
}

/** A higher priority may take every slot; an equal one only evens out between owners. */
function mayPreempt(waiting: JobState, victim: JobState, held: ReadonlyMap<string, number>): boolean {
  if (waiting.priority !== victim.priority) return waiting.priority > victim.priority;
  const of = (job: JobState) => held.get(job.definition.owner) ?? 0;
  return of(victim) - of(waiting) >= 2;
}

/** Slots held by each owner's jobs. */
function slotsByOwner(jobs: readonly JobState[]): Map<string, number> {
  const held = new Map<string, number>();
  for (const job of jobs) held.set(job.definition.owner, (held.get(job.definition.owner) ?? 0) + job.leases.size);
  return held;
}

/** The last clip that a lease can't be relieved of; the one before its start while it is in its pre-roll. */
function clipInHand(input: ScheduleInput, lease: LeaseState): number {
  return Math.max(lease.start - 1, input.progress.get(lease.leaseId)?.clip ?? lease.start - 1);
}

/** Whether the slot comes free after the clip in hand. */
function endsSoon(input: ScheduleInput, lease: LeaseState): boolean {
  return clipInHand(input, lease) + 1 >= lease.end;
}

/** Whether a free slot may join in on clips that are leased already. */
function mayAssist(input: ScheduleInput, job: JobState, slot: ScheduledSlot): boolean {
  if (job.status !== 'active' || job.paused || !isFit(input, job, slot)) return false;
  return job.definition.anchorMode === 'image' || job.anchor !== null;
}

function hasDuplicate(job: JobState, lease: LeaseState): boolean {
  return [...job.leases.values()].some((l) => l.speculative && l.start < lease.end && lease.start < l.end);
}

function isTouched(actions: readonly ScheduleAction[], leaseId: string): boolean {
  return actions.some((a) => a.type === 'shrink' && a.leaseId === leaseId);
}

function speed(input: ScheduleInput, job: JobState, slot: ScheduledSlot): number {
  return input.secondsPerClip(slot, job.definition);
}

function freeParticipant(input: ScheduleInput, job: JobState, slot: ScheduledSlot, preRoll: number): Participant {
  const secondsPerClip = speed(input, job, slot);
  return { readyIn: slot.warmUpSeconds + preRoll * secondsPerClip, secondsPerClip };
}

function leaseParticipants(input: ScheduleInput, job: JobState): Participant[] {
  return [...job.leases.values()]
    .filter((lease) => !lease.speculative)
    .map((lease) => {
      const victim = victimOf(input, job, lease);
      return { readyIn: secondsLeft(victim), secondsPerClip: victim.secondsPerClip };
    });
}

function victimOf(input: ScheduleInput, job: JobState, lease: LeaseState): Victim {
  const slot = input.slots.find((s) => s.nodeId === lease.nodeId && s.slotId === lease.slotId);
  const at = input.progress.get(lease.leaseId);
  return {
    current: at?.clip ?? lease.start - lease.preRoll,
    fraction: at?.fraction ?? 0,
    start: lease.start,
    end: lease.end,
    secondsPerClip: slot ? speed(input, job, slot) : 1,
    readyIn: at || !slot ? 0 : slot.warmUpSeconds,
  };
}

function grantAction(
  job: JobState,
  slot: ScheduledSlot,
  range: ClipRange,
  preRoll: number,
  speculative: boolean,
  reason: string,
): ScheduleAction {
  const { nodeId, slotId, profile } = slot;
  return {
    type: 'grant',
    jobId: job.definition.jobId,
    nodeId,
    slotId,
    profile,
    ...range,
    preRoll,
    speculative,
    reason,
  };
}

function firstOf<A, B>(items: readonly A[], find: (item: A) => readonly B[] | null): readonly B[] {
  for (const item of items) {
    const found = find(item);
    if (found) return found;
  }
  return [];
}
