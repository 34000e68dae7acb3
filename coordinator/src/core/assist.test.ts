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

/**
 * What a free slot does beside a lease of 100 clips that can't be shortened and is at clip 30.
 *
 * @param pace of the lease in seconds per clip; the free slot needs one
 * @param still seconds that it has stood there
 */
function besideLong(clipsOfCall: number, pace: number, still: number) {
  const job = submitJob({ clips: 100 });
  const lease = { leaseId: 'long', nodeId: 'a', slotId: '0', profile: 'p', start: 0, end: 100, preRoll: 0 };
  execute(job, { type: 'grant', lease: { ...lease, speculative: false, fixedEnd: true }, reason: '' });
  const input = scheduleInput({
    jobs: [job],
    paces: { 'a/0': pace, 'b/0': 1 },
    slots: [freeSlot('a/0', { fixedEnd: true }), freeSlot('b/0')],
    progress: { long: { clip: 30, fraction: 0, movedAt: 0 } },
    now: 1000 * still,
  });
  const leaseLimit = (slot: ScheduledSlot) => (slot.key === 'b/0' ? clipsOfCall : Number.POSITIVE_INFINITY);
  return schedule({ ...input, leaseLimit }).map(inWords);
}

test('of a stuck lease that is too long for one call of a free slot, the end that fits is duplicated', () => {
  const besideStuck = (clipsOfCall: number) => besideLong(clipsOfCall, 1, 3600);
  assert.deepEqual(besideStuck(71), ['b/0: 30-100 again'], 'all that is left, with its pre-roll');
  assert.deepEqual(besideStuck(70), ['b/0: 31-100 again']);
  assert.deepEqual(besideStuck(20), ['b/0: 81-100 again']);
  assert.deepEqual(besideStuck(2), ['b/0: 99-100 again']);
  assert.deepEqual(besideStuck(1), [], 'a call of pre-roll alone renders nothing');
});

test('a lease that is too long for one call of a free slot is duplicated because it is slow, not because it is long', () => {
  assert.deepEqual(besideLong(20, 1, 0), []);
  assert.deepEqual(besideLong(20, 10, 0), ['b/0: 81-100 again']);
});
