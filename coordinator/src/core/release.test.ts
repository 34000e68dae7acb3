import assert from 'node:assert/strict';
import { test } from 'node:test';
import { revokeOvertaken } from './release.ts';
import { scheduleInput } from './test-farm.ts';
import { contentRef, execute, type LoggedJob, submitJob } from './test-jobs.ts';

/** A job of ten clips whose first lease was lost, and whose second one has them all. */
function overtaken(fixedEnd: boolean): LoggedJob {
  const job = submitJob({ clips: 10 });
  const lease = { slotId: '0', profile: 'p', start: 0, end: 10, preRoll: 0, speculative: false };
  execute(job, { type: 'grant', lease: { ...lease, leaseId: 'old', nodeId: 'a' }, reason: '' });
  execute(job, { type: 'failLease', leaseId: 'old', failureClass: 'node_lost', message: '', clip: 0 });
  execute(job, { type: 'grant', lease: { ...lease, leaseId: 'new', nodeId: 'b', fixedEnd }, reason: '' });
  for (const clip of [5, 6, 7]) {
    const chunk = { leaseId: 'old', clip, frames: 48, chunk: contentRef(`${clip}`), headerHash: 'h' };
    execute(job, { type: 'commit', chunk });
  }
  return job;
}

test('a lease that hands everything over at its end is not revoked for what others committed meanwhile', () => {
  for (const fixedEnd of [false, true]) {
    const job = overtaken(fixedEnd);
    const input = scheduleInput({ jobs: [job], paces: { 'b/0': 1 }, progress: { new: { clip: 5, fraction: 0.5 } } });
    assert.equal(revokeOvertaken(input, job.state).length, fixedEnd ? 0 : 1);
  }
});
