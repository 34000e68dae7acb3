import assert from 'node:assert/strict';
import { test } from 'node:test';
import { schedule } from './schedule.ts';
import { inWords, scheduleInput } from './test-farm.ts';
import { execute, submitJob } from './test-jobs.ts';

test('a slot whose host holds only short calls takes as much of a long lease as it can, and does not stand idle', () => {
  const job = submitJob({ clips: 100 });
  const lease = { leaseId: 'long', nodeId: 'a', slotId: '0', profile: 'p', start: 0, end: 100, preRoll: 0 };
  execute(job, { type: 'grant', lease: { ...lease, speculative: false }, reason: '' });
  const progress = { long: { clip: 0, fraction: 0 } };
  const actions = schedule(scheduleInput({ jobs: [job], paces: { 'a/0': 1, 'b/0': 1 }, progress, maxLeaseClips: 20 }));
  assert.deepEqual(actions.map(inWords), ['long -> 81', 'b/0: 81-100']);
});
