import assert from 'node:assert/strict';
import { test } from 'node:test';
import { schedule } from './schedule.ts';
import type { ScheduledSlot } from './schedule-model.ts';
import { freeSlot, inWords, scheduleInput } from './test-farm.ts';
import { execute, submitJob } from './test-jobs.ts';

test('a slot whose host holds only short calls takes as much of a long lease as it can, and does not stand idle', () => {
  const job = submitJob({ clips: 100 });
  const lease = { leaseId: 'long', nodeId: 'a', slotId: '0', profile: 'p', start: 0, end: 100, preRoll: 0 };
  execute(job, { type: 'grant', lease: { ...lease, speculative: false }, reason: '' });
  const progress = { long: { clip: 0, fraction: 0 } };
  const actions = schedule(scheduleInput({ jobs: [job], paces: { 'a/0': 1, 'b/0': 1 }, progress, maxLeaseClips: 20 }));
  assert.deepEqual(actions.map(inWords), ['long -> 81', 'b/0: 81-100']);
});

/** What a free slot does beside a lease of 100 clips that can't be shortened and has stood still for an hour at clip 30. */
function besideStuck(clipsOfCall: number) {
  const job = submitJob({ clips: 100 });
  const lease = { leaseId: 'stuck', nodeId: 'a', slotId: '0', profile: 'p', start: 0, end: 100, preRoll: 0 };
  execute(job, { type: 'grant', lease: { ...lease, speculative: false, fixedEnd: true }, reason: '' });
  const input = scheduleInput({
    jobs: [job],
    paces: { 'a/0': 1, 'b/0': 1 },
    slots: [freeSlot('a/0', { fixedEnd: true }), freeSlot('b/0')],
    progress: { stuck: { clip: 30, fraction: 0, movedAt: 0 } },
    now: 3_600_000,
  });
  const leaseLimit = (slot: ScheduledSlot) => (slot.key === 'b/0' ? clipsOfCall : Number.POSITIVE_INFINITY);
  return schedule({ ...input, leaseLimit }).map(inWords);
}

test('of a stuck lease that is too long for one call of a free slot, the end that fits is duplicated', () => {
  assert.deepEqual(besideStuck(71), ['b/0: 30-100 again'], 'all that is left, with its pre-roll');
  assert.deepEqual(besideStuck(70), ['b/0: 31-100 again']);
  assert.deepEqual(besideStuck(20), ['b/0: 81-100 again']);
  assert.deepEqual(besideStuck(2), ['b/0: 99-100 again']);
  assert.deepEqual(besideStuck(1), [], 'a call of pre-roll alone renders nothing');
});
