import assert from 'node:assert/strict';
import { test } from 'node:test';
import { begunClip, committedPrefix, committedSpans, pendingClips, uncommittedClips } from './job-progress.ts';
import { contentRef, execute, type LoggedJob, submitJob } from './test-jobs.ts';

function grant(job: LoggedJob, leaseId: string, nodeId: string, start: number, end: number): void {
  const lease = { leaseId, nodeId, slotId: 's1', profile: 'p', start, end, preRoll: start === 0 ? 0 : 1 };
  execute(job, { type: 'grant', lease: { ...lease, speculative: false }, reason: '' });
}

function commit(job: LoggedJob, leaseId: string, ...clips: readonly number[]): void {
  for (const clip of clips) {
    const chunk = { leaseId, clip, frames: 48, chunk: contentRef(`${leaseId}-${clip}`), headerHash: 'h' };
    assert.equal(execute(job, { type: 'commit', chunk }).outcome, 'done');
  }
}

test('every clip is pending, leased or committed', () => {
  const job = submitJob({ clips: 10 });
  grant(job, 'l1', 'n1', 0, 4);
  grant(job, 'l2', 'n2', 6, 8);
  commit(job, 'l1', 0, 1);
  commit(job, 'l2', 6);
  assert.deepEqual(uncommittedClips(job.state), [
    { start: 2, end: 6 },
    { start: 7, end: 10 },
  ]);
  assert.deepEqual(pendingClips(job.state), [
    { start: 4, end: 6 },
    { start: 8, end: 10 },
  ]);
  assert.equal(committedPrefix(job.state), 2);
});

test('spans are runs of one model call, in the order of the clips, and a gap divides them', () => {
  const job = submitJob({ clips: 8 });
  grant(job, 'l1', 'n1', 0, 4);
  grant(job, 'l2', 'n2', 4, 8);
  commit(job, 'l2', 4, 5, 7);
  commit(job, 'l1', 0, 1, 2, 3);
  const at = (nodeId: string, start: number, end: number) => ({ nodeId, slotId: 's1', start, end });
  assert.deepEqual(committedSpans(job.state), [at('n1', 0, 4), at('n2', 4, 6), at('n2', 7, 8)]);
});

test('two leases of one slot are two spans', () => {
  const job = submitJob({ clips: 4 });
  grant(job, 'l1', 'n1', 0, 2);
  commit(job, 'l1', 0, 1);
  grant(job, 'l2', 'n1', 2, 4);
  commit(job, 'l2', 2, 3);
  assert.equal(committedSpans(job.state).length, 2);
});

test('a lease has reached the clip after its own last commit, whatever others committed', () => {
  const job = submitJob({ clips: 10 });
  grant(job, 'l1', 'n1', 2, 8);
  execute(job, { type: 'endLease', leaseId: 'l1', cause: 'returned', reason: '' });
  grant(job, 'l2', 'n2', 2, 8);
  const reached = () => [...job.state.leases.values()].map((lease) => begunClip(job.state, lease));
  assert.deepEqual(reached(), [1]);
  commit(job, 'l1', 2, 3);
  assert.deepEqual(reached(), [1]);
  commit(job, 'l2', 4);
  assert.deepEqual(reached(), [5]);
  commit(job, 'l1', 5);
  assert.deepEqual(reached(), [5]);
});
