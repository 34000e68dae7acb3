import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Decision, JobCommand } from './decide.ts';
import type { FailureClass } from './job-model.ts';
import { pendingClips } from './job-progress.ts';
import { contentRef, execute, type LoggedJob, refold, submitJob } from './test-jobs.ts';

const result = {
  video: contentRef('v'),
  frames: 480,
  videoSeconds: 19.2,
  audioSeconds: 19.2,
  finishMillis: 1,
  checks: [],
};

interface Asked {
  readonly node?: string;
  readonly preRoll?: number;
  readonly speculative?: boolean;
  readonly fixedEnd?: boolean;
}

function grant(job: LoggedJob, leaseId: string, start: number, end: number, asked: Asked = {}): Decision {
  const { node = 'n1', preRoll = start === 0 ? 0 : 1, speculative = false, fixedEnd = false } = asked;
  const lease = { leaseId, nodeId: node, slotId: 's1', profile: 'p', start, end, preRoll, speculative, fixedEnd };
  return execute(job, { type: 'grant', lease, reason: 'pending clips' }, 50);
}

function commit(job: LoggedJob, leaseId: string, clip: number, given: { name?: string; hash?: string } = {}): Decision {
  const chunk = contentRef(given.name ?? `${leaseId}-${clip}`);
  return execute(job, { type: 'commit', chunk: { leaseId, clip, frames: 48, chunk, headerHash: given.hash ?? 'h' } });
}

function fail(job: LoggedJob, leaseId: string, failureClass: FailureClass, clip: number, at = 1000): Decision {
  return execute(job, { type: 'failLease', leaseId, failureClass, message: 'it broke', clip }, at);
}

function pause(job: LoggedJob, currentClips: Readonly<Record<string, number>>): Decision {
  return execute(job, { type: 'pause', reason: 'lunch', currentClips: new Map(Object.entries(currentClips)) });
}

function eventTypes(decision: Decision): string[] {
  return decision.outcome === 'unchanged' ? [] : decision.events.map((e) => e.type);
}

function assertRefused(decision: Decision, reason: RegExp): void {
  assert.equal(decision.outcome, 'refused');
  assert.match(decision.outcome === 'refused' ? decision.reason : '', reason);
}

test('a grant gives the lease the next span and the time, and starts the job', () => {
  const job = submitJob({ clips: 10 });
  grant(job, 'l1', 0, 4);
  grant(job, 'l2', 4, 10);
  assert.deepEqual(
    [...job.state.leases.values()].map((l) => [l.leaseId, l.span, l.grantedAt]),
    [
      ['l1', 0, 50],
      ['l2', 1, 50],
    ],
  );
  assert.equal(job.state.startedAt, 50);
});

test('a grant is refused when its clips are leased, committed or not there', () => {
  const job = submitJob({ clips: 10 });
  grant(job, 'l1', 0, 4);
  commit(job, 'l1', 0);
  assertRefused(grant(job, 'l2', 3, 6), /clip 3 is committed or leased/);
  assertRefused(grant(job, 'l2', 0, 1), /clip 0 is committed or leased/);
  assertRefused(grant(job, 'l2', 8, 11), /not within 0 to 10/);
  assertRefused(grant(job, 'l2', -1, 2), /not within 0 to 10/);
  assertRefused(grant(job, 'l2', 5, 5), /not within 0 to 10/);
  assertRefused(grant(job, 'l1', 5, 6), /the lease exists/);
});

test('a lease at clip 0 has no pre-roll, every other one has some that the job has clips for', () => {
  const job = submitJob({ clips: 10 });
  assertRefused(grant(job, 'l1', 0, 4, { preRoll: 1 }), /pre-roll of 1/);
  assertRefused(grant(job, 'l1', 4, 6, { preRoll: 0 }), /pre-roll of 0/);
  assertRefused(grant(job, 'l1', 4, 6, { preRoll: 5 }), /pre-roll of 5/);
  assert.equal(grant(job, 'l1', 4, 6, { preRoll: 4 }).outcome, 'done');
});

test('a duplicate may cover leased clips, but no committed one', () => {
  const job = submitJob({ clips: 10 });
  grant(job, 'l1', 0, 10);
  commit(job, 'l1', 0);
  assertRefused(grant(job, 'l2', 0, 10, { speculative: true, preRoll: 0 }), /clip 0/);
  assert.equal(grant(job, 'l2', 1, 10, { speculative: true }).outcome, 'done');
});

test('nothing is granted while a job is paused or over', () => {
  const job = submitJob({ clips: 10 });
  pause(job, {});
  assertRefused(grant(job, 'l1', 0, 4), /paused/);
  execute(job, { type: 'cancel', reason: 'enough' });
  assertRefused(grant(job, 'l1', 0, 4), /cancelled/);
});

test('the last wanted chunk ends a lease, the last one of the job makes it ready for stitching', () => {
  const job = submitJob({ clips: 2 });
  grant(job, 'l1', 0, 1);
  grant(job, 'l2', 1, 2, { node: 'n2' });
  assert.deepEqual(eventTypes(commit(job, 'l2', 1)), ['ClipCommitted', 'LeaseEnded']);
  assert.equal(job.state.status, 'active');
  assert.deepEqual(eventTypes(commit(job, 'l1', 0)), ['ClipCommitted', 'LeaseEnded']);
  assert.equal(job.state.status, 'stitching');
  assert.equal(execute(job, { type: 'complete', result }, 77).outcome, 'done');
  assert.deepEqual([job.state.status, job.state.finishedAt, job.state.result], ['completed', 77, result]);
});

test('the same chunk twice changes nothing, another lease’s for the clip is not wanted and is counted once', () => {
  const job = submitJob({ clips: 10 });
  grant(job, 'l1', 0, 10);
  grant(job, 'l2', 0, 10, { node: 'n2', speculative: true, preRoll: 0 });
  commit(job, 'l1', 0);
  assert.equal(commit(job, 'l1', 0).outcome, 'unchanged');
  assert.equal(commit(job, 'l2', 0).outcome, 'not_wanted');
  assert.equal(job.state.rerendered, 0);
  for (const leaseId of ['l2', 'l2', 'l1']) {
    assert.equal(execute(job, { type: 'superfluous', leaseId, clip: 0 }).outcome, 'not_wanted');
  }
  assert.equal(job.state.rerendered, 1);
  assert.equal(job.state.committed.get(0)?.chunk.sha256, 'l1-0');
});

test('a late chunk of a past lease is taken when it is still wanted, and relieves whoever has the clip now', () => {
  const job = submitJob({ clips: 10 });
  grant(job, 'l1', 0, 5);
  fail(job, 'l1', 'node_lost', 0);
  grant(job, 'l2', 0, 5, { node: 'n2' });
  assert.deepEqual(eventTypes(commit(job, 'l1', 4)), ['ClipCommitted', 'LeaseShrunk']);
  assert.equal(job.state.leases.get('l2')?.end, 4);
  for (const clip of [0, 1, 2]) commit(job, 'l2', clip);
  const last = commit(job, 'l1', 3);
  assert.deepEqual(eventTypes(last), ['ClipCommitted', 'LeaseEnded']);
  const ended = last.outcome === 'done' ? last.events[1] : undefined;
  assert.equal(ended?.type === 'LeaseEnded' && ended.cause, 'superseded');
  assert.equal(commit(job, 'l2', 3).outcome, 'not_wanted');
});

test('a chunk of a lease that was never granted, of a clip that is not there or with other headers is refused', () => {
  const job = submitJob({ clips: 10 });
  assertRefused(commit(job, 'l9', 0), /lease l9 is not known/);
  grant(job, 'l1', 0, 10);
  assertRefused(commit(job, 'l1', 10), /clip 10 is not of lease l1/);
  commit(job, 'l1', 0);
  assertRefused(commit(job, 'l1', 1, { hash: 'other' }), /codec headers/);
  assert.deepEqual([...job.state.committed.keys()], [0]);
});

/** Has a node render clips of its own and refuses its chunk as the coordinator does. */
function offerOther(job: LoggedJob, node: string, start: number, hash = 'other') {
  const leaseId = `${node}-${start}-${job.log.length}`;
  grant(job, leaseId, start, start + 1, { node });
  const decision = commit(job, leaseId, start, { hash });
  const failureClass = decision.outcome === 'refused' ? decision.failureClass : undefined;
  if (failureClass === undefined) return decision.outcome;
  execute(job, { type: 'failLease', leaseId, failureClass, message: '', clip: start, headerHash: hash }, 1000);
  return failureClass;
}

test('a chunk with other headers is a failure of its own kind, which names who committed and sends the job elsewhere', () => {
  const job = submitJob({ clips: 10 });
  grant(job, 'l1', 0, 5, { node: 'odd' });
  commit(job, 'l1', 0);
  assert.equal(offerOther(job, 'n2', 5), 'other_encoder');
  assert.deepEqual([...job.state.unfitSlots], ['n2/s1']);
  grant(job, 'l3', 5, 10, { node: 'n3' });
  const told =
    /its codec headers \(other\) differ from those of what node odd committed \(h\): .* same FFmpeg and x264/;
  assertRefused(commit(job, 'l3', 5, { hash: 'other' }), told);
});

test('whoever comes first once nothing is committed any more decides the headers', () => {
  const job = submitJob({ clips: 10 });
  grant(job, 'l1', 0, 5, { node: 'odd' });
  commit(job, 'l1', 0);
  execute(job, { type: 'loseClip', clip: 0, reason: 'deleted' });
  grant(job, 'l2', 5, 10, { node: 'n2' });
  assert.equal(commit(job, 'l2', 5, { hash: 'other' }).outcome, 'done');
});

test('a job that failed because one node encodes unlike all others is rendered anew when it is retried, by the others', () => {
  const job = submitJob({ clips: 10 });
  grant(job, 'l1', 0, 5, { node: 'odd' });
  commit(job, 'l1', 0);
  fail(job, 'l1', 'node_lost', 1);
  for (const node of ['n2', 'n3', 'n4']) assert.equal(offerOther(job, node, 1), 'other_encoder');
  assert.equal(job.state.status, 'failed');
  execute(job, { type: 'retry' });
  assert.match(job.state.reason, /rendered again/);
  assert.deepEqual(pendingClips(job.state), [{ start: 0, end: 10 }]);
  assert.deepEqual([...job.state.unfitSlots], ['odd/s1']);
  assert.equal(offerOther(job, 'n2', 0), 'done');
  assert.equal(offerOther(job, 'odd', 1, 'h'), 'other_encoder');
  assert.deepEqual(refold(job.log), job.state);
});

test('what is committed stays when a job is retried that others could add to, or that was stopped', () => {
  const oneOther = submitJob({ clips: 10 });
  grant(oneOther, 'l1', 0, 5, { node: 'odd' });
  commit(oneOther, 'l1', 0);
  for (let n = 0; n < 10; n++) offerOther(oneOther, 'n2', 7);
  assert.equal(oneOther.state.status, 'failed');
  const cancelled = submitJob({ clips: 10 });
  grant(cancelled, 'l1', 0, 5, { node: 'odd' });
  commit(cancelled, 'l1', 0);
  for (const node of ['n2', 'n3']) offerOther(cancelled, node, 7);
  execute(cancelled, { type: 'cancel', reason: '' });
  for (const job of [oneOther, cancelled]) {
    execute(job, { type: 'retry' });
    assert.deepEqual([...job.state.committed.keys()], [0]);
  }
});

test('a lease commits its own clips only, those that a shrink took from it included, but not its pre-roll', () => {
  const job = submitJob({ clips: 10 });
  grant(job, 'l1', 4, 8);
  execute(job, { type: 'shrink', leaseId: 'l1', end: 6, reason: 'stolen' });
  assertRefused(commit(job, 'l1', 3), /clip 3 is not of lease l1/);
  assertRefused(commit(job, 'l1', 8), /clip 8 is not of lease l1/);
  assert.equal(commit(job, 'l1', 7).outcome, 'done');
});

test('a committed clip whose chunk is gone is pending again, also when the job was being stitched', () => {
  const job = submitJob({ clips: 2 });
  grant(job, 'l1', 0, 2);
  commit(job, 'l1', 0);
  commit(job, 'l1', 1);
  assert.equal(job.state.status, 'stitching');
  assert.equal(execute(job, { type: 'loseClip', clip: 1, reason: 'deleted' }).outcome, 'done');
  assert.equal(job.state.status, 'active');
  assert.deepEqual(pendingClips(job.state), [{ start: 1, end: 2 }]);
  grant(job, 'l2', 1, 2);
  commit(job, 'l2', 1);
  assert.equal(job.state.status, 'stitching');
});

test('a lease that has passed a clip whose chunk is gone ends, because it will not come by again', () => {
  const job = submitJob({ clips: 20 });
  grant(job, 'l1', 0, 10);
  grant(job, 'l2', 10, 20, { node: 'n2' });
  for (const clip of [0, 1, 2]) commit(job, 'l1', clip);
  const decision = execute(job, { type: 'loseClip', clip: 1, reason: 'deleted' });
  assert.deepEqual(eventTypes(decision), ['LeaseEnded', 'ClipLost']);
  assert.deepEqual([...job.state.leases.keys()], ['l2']);
  assert.deepEqual(pendingClips(job.state), [
    { start: 1, end: 2 },
    { start: 3, end: 10 },
  ]);
});

test('a lease that still has a clip before it whose chunk is gone goes on', () => {
  const job = submitJob({ clips: 10 });
  grant(job, 'l1', 0, 10);
  fail(job, 'l1', 'node_lost', 0);
  grant(job, 'l2', 0, 10, { node: 'n2' });
  commit(job, 'l1', 5);
  assert.deepEqual(eventTypes(execute(job, { type: 'loseClip', clip: 5, reason: 'deleted' })), ['ClipLost']);
  assert.deepEqual([...job.state.leases.keys()], ['l2']);
});

test('a completed job wants nothing more, whoever offers it', () => {
  const job = submitJob({ clips: 1 });
  grant(job, 'l1', 0, 1);
  commit(job, 'l1', 0);
  execute(job, { type: 'complete', result });
  assert.equal(commit(job, 'l1', 0).outcome, 'not_wanted');
  assert.equal(execute(job, { type: 'superfluous', leaseId: 'l1', clip: 0 }).outcome, 'not_wanted');
  assert.equal(execute(job, { type: 'loseClip', clip: 0, reason: 'deleted' }).outcome, 'unchanged');
});

test('a shrunk lease keeps what is left of it and the tail is pending again', () => {
  const job = submitJob({ clips: 10 });
  grant(job, 'l1', 0, 10);
  commit(job, 'l1', 0);
  execute(job, { type: 'shrink', leaseId: 'l1', end: 4, reason: 'stolen' });
  assert.deepEqual(pendingClips(job.state), [{ start: 4, end: 10 }]);
  assert.equal(execute(job, { type: 'shrink', leaseId: 'l1', end: 6, reason: 'late' }).outcome, 'unchanged');
  const ended = execute(job, { type: 'shrink', leaseId: 'l1', end: 1, reason: 'stolen' });
  assert.deepEqual(eventTypes(ended), ['LeaseEnded']);
  assert.equal(job.state.leases.size, 0);
});

test('a lease shrunk to where its last clips came from a spool already ends before them', () => {
  const job = submitJob({ clips: 10 });
  grant(job, 'l1', 0, 10);
  fail(job, 'l1', 'node_lost', 0);
  grant(job, 'l2', 0, 10, { node: 'n2' });
  commit(job, 'l1', 5);
  execute(job, { type: 'shrink', leaseId: 'l2', end: 6, reason: 'stolen' });
  assert.equal(job.state.leases.get('l2')?.end, 5);
});

test('a pause lets each lease finish the clip in hand, and ends those that are still in their pre-roll', () => {
  const job = submitJob({ clips: 30 });
  grant(job, 'l1', 0, 10);
  grant(job, 'l2', 10, 20, { node: 'n2' });
  grant(job, 'l3', 20, 30, { node: 'n3' });
  pause(job, { l1: 3, l2: 9, l3: 29 });
  assert.deepEqual(
    [...job.state.leases.values()].map((l) => [l.leaseId, l.end]),
    [
      ['l1', 4],
      ['l3', 30],
    ],
  );
  assert.equal(commit(job, 'l1', 3).outcome, 'done');
  assert.equal(pause(job, {}).outcome, 'unchanged');
});

test('a pause just after a restart, when no progress is known, spares leases that have begun', () => {
  const job = submitJob({ clips: 20 });
  grant(job, 'l1', 0, 10);
  grant(job, 'l2', 10, 20, { node: 'n2' });
  commit(job, 'l1', 0);
  pause(job, {});
  assert.deepEqual([...job.state.leases.keys()], ['l1']);
  assert.equal(job.state.leases.get('l1')?.end, 2);
});

test('a node that is drained keeps its clips in hand, and what comes only at the end of a lease; others go on', () => {
  const job = submitJob({ clips: 40 });
  grant(job, 'l1', 0, 10);
  grant(job, 'l2', 10, 20);
  grant(job, 'l3', 20, 30, { fixedEnd: true });
  grant(job, 'l4', 30, 40, { node: 'n2' });
  commit(job, 'l2', 10);
  const drain = { type: 'leaveNode', nodeId: 'n1', reason: 'drained', currentClips: new Map([['l1', 3]]) } as const;
  assert.deepEqual(eventTypes(execute(job, drain)), ['LeaseShrunk', 'LeaseShrunk']);
  assert.deepEqual(
    [...job.state.leases.values()].map((l) => [l.leaseId, l.end]),
    [
      ['l1', 4],
      ['l2', 12],
      ['l3', 30],
      ['l4', 40],
    ],
  );
  assert.equal(execute(job, drain).outcome, 'unchanged');
});

test('a paused job goes on where it was when it is resumed', () => {
  const job = submitJob({ clips: 10 });
  assert.equal(execute(job, { type: 'resume' }).outcome, 'unchanged');
  pause(job, {});
  assert.equal(job.state.reason, 'lunch');
  execute(job, { type: 'resume' });
  assert.deepEqual([job.state.paused, job.state.reason], [false, '']);
  assert.equal(grant(job, 'l1', 0, 10).outcome, 'done');
});

test('cancelling ends every lease by an event of its own, and late chunks are not wanted any more', () => {
  const job = submitJob({ clips: 10 });
  grant(job, 'l1', 0, 5);
  grant(job, 'l2', 5, 10, { node: 'n2' });
  const cancelled = execute(job, { type: 'cancel', reason: 'enough' });
  assert.deepEqual(eventTypes(cancelled), ['LeaseEnded', 'LeaseEnded', 'JobCancelled']);
  assert.equal(execute(job, { type: 'cancel', reason: 'enough' }).outcome, 'unchanged');
  assert.equal(commit(job, 'l1', 0).outcome, 'not_wanted');
  assertRefused(execute(job, { type: 'setPriority', priority: 4 }), /cancelled already/);
});

test('a retried job keeps its committed clips and forgets what was held against clips and slots', () => {
  const job = submitJob({ clips: 4 });
  grant(job, 'l1', 0, 4);
  commit(job, 'l1', 0);
  fail(job, 'l1', 'out_of_memory', 1);
  assert.deepEqual([...job.state.unfitSlots], ['n1/s1']);
  execute(job, { type: 'cancel', reason: 'enough' });
  execute(job, { type: 'retry' });
  assert.deepEqual([job.state.status, job.state.finishedAt], ['active', null]);
  assert.deepEqual([...job.state.committed.keys()], [0]);
  assert.equal(job.state.troubles.size + job.state.unfitSlots.size, 0);
  assert.equal(commit(job, 'l1', 1).outcome, 'done', 'a chunk that came late is wanted again');
  assertRefused(execute(job, { type: 'retry' }), /failed or cancelled job can be retried; it is rendering$/);
});

test('what a job can not do is told in the words of its state', () => {
  const job = submitJob({ clips: 1 });
  const refusals = (...types: ('retry' | 'resume' | 'cancel')[]) =>
    types.map((type) => {
      const decision = execute(job, type === 'cancel' ? { type, reason: 'no' } : { type });
      return decision.outcome === 'refused' ? decision.reason.replace(/^.*; /, '') : decision.outcome;
    });
  const pause = { type: 'pause', reason: 'wait', currentClips: new Map() } as const;
  assert.deepEqual(refusals('retry', 'resume'), ['it is queued', 'unchanged']);
  execute(job, pause);
  assert.deepEqual(refusals('retry', 'resume', 'retry'), ['it is paused', 'done', 'it is queued']);
  grant(job, 'l1', 0, 1);
  assert.deepEqual(refusals('retry'), ['it is rendering']);
  commit(job, 'l1', 0);
  assertRefused(execute(job, pause), /^it can't be paused; it is stitching$/);
  execute(job, { type: 'fail', reason: 'the disk is full' });
  assert.deepEqual(refusals('resume', 'cancel'), ['it is failed', 'it is failed already']);
});

test('a job that failed while stitching is stitched again when it is retried', () => {
  const job = submitJob({ clips: 1 });
  grant(job, 'l1', 0, 1);
  commit(job, 'l1', 0);
  execute(job, { type: 'fail', reason: 'the disk is full' });
  execute(job, { type: 'retry' });
  assert.equal(job.state.status, 'stitching');
});

test('a failed attempt ends its lease, is held against the clip and puts off only that clip', () => {
  const job = submitJob({ clips: 10 });
  grant(job, 'l1', 0, 10);
  commit(job, 'l1', 0);
  fail(job, 'l1', 'crash', 3, 9000);
  assert.deepEqual(
    [...job.state.troubles],
    [[3, { nodes: ['n1'], attempts: 1, lostOn: [], shortages: 0, notBefore: 9500 }]],
  );
  assert.deepEqual(pendingClips(job.state), [{ start: 1, end: 10 }]);
  assert.equal(job.state.failures[0]?.failureClass, 'crash');
  assert.equal(fail(job, 'l1', 'crash', 3).outcome, 'unchanged', 'said twice it counts once');
});

test('a failure in the pre-roll, or at a clip that is committed, is held against the first clip still wanted', () => {
  const job = submitJob({ clips: 10 });
  grant(job, 'l1', 4, 10);
  fail(job, 'l1', 'hang', 3);
  assert.deepEqual([...job.state.troubles.keys()], [4]);
  grant(job, 'l2', 4, 10, { node: 'n2' });
  commit(job, 'l2', 4);
  assert.deepEqual([...job.state.troubles.keys()], [], 'a clip that is committed is no trouble any more');
  fail(job, 'l2', 'hang', 4);
  assert.deepEqual([...job.state.troubles.keys()], [5]);
});

test('a lost node is not held against the clip as one of three nodes', () => {
  const job = submitJob({ clips: 10 });
  for (const n of [1, 2, 3, 4]) {
    grant(job, `l${n}`, 0, 10, { node: `n${n}`, preRoll: 0 });
    fail(job, `l${n}`, 'node_lost', 0);
  }
  assert.deepEqual(job.state.troubles.get(0), {
    nodes: [],
    attempts: 0,
    lostOn: ['n1', 'n2', 'n3', 'n4'],
    shortages: 0,
    notBefore: 1000,
  });
  assert.equal(job.state.status, 'active');
});

test('a clip that fails on three nodes fails the job and ends its other leases', () => {
  const job = submitJob({ clips: 20 });
  grant(job, 'other', 10, 20, { node: 'n9' });
  for (const n of [1, 2]) {
    grant(job, `l${n}`, 0, 10, { node: `n${n}` });
    fail(job, `l${n}`, 'crash', 0);
  }
  grant(job, 'l3', 0, 10, { node: 'n3' });
  const decision = fail(job, 'l3', 'crash', 0);
  assert.deepEqual(eventTypes(decision), ['LeaseEnded', 'LeaseEnded', 'JobFailed']);
  assert.match(job.state.reason, /clip 0 failed on 3 different nodes; last: crash at clip 0 on node n3: it broke/);
  assert.equal(job.state.leases.size, 0);
  assert.equal(job.state.failures.length, 3);
});

test('what a runner says about a failure is kept up to 2000 characters', () => {
  const job = submitJob({ clips: 10 });
  grant(job, 'l1', 0, 10);
  const message = 'x'.repeat(5000);
  execute(job, { type: 'failLease', leaseId: 'l1', failureClass: 'crash', message, clip: 0 });
  assert.equal(job.state.failures[0]?.message.length, 2000);
});

test('the first anchor counts, and only leases of the job bring one', () => {
  const job = submitJob({ clips: 10, anchorMode: 'first_frame' });
  const bring = (leaseId: string, name: string): JobCommand => ({
    type: 'commitAnchor',
    leaseId,
    anchor: contentRef(name),
  });
  assertRefused(execute(job, bring('l1', 'a')), /not known/);
  grant(job, 'l1', 0, 10);
  assert.equal(execute(job, bring('l1', 'a')).outcome, 'done');
  assert.equal(execute(job, bring('l1', 'b')).outcome, 'unchanged');
  assert.equal(job.state.anchor?.sha256, 'a');
  const plain = submitJob({ clips: 10, anchorMode: 'image' });
  assertRefused(execute(plain, bring('l1', 'a')), /uses the image/);
});

test('a job is completed only when every clip is committed, and only once', () => {
  const job = submitJob({ clips: 1 });
  assertRefused(execute(job, { type: 'complete', result }), /active, not stitching/);
  grant(job, 'l1', 0, 1);
  commit(job, 'l1', 0);
  execute(job, { type: 'complete', result });
  assertRefused(execute(job, { type: 'complete', result }), /completed, not stitching/);
  assertRefused(execute(job, { type: 'cancel', reason: 'late' }), /completed already/);
});
