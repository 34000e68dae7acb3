import assert from 'node:assert/strict';
import { test } from 'node:test';
import { noteOpenCall } from './open-calls.ts';
import { schedule } from './schedule.ts';
import type { OpenCall } from './schedule-model.ts';
import { type Farm, freeSlot, inWords, scheduleInput } from './test-farm.ts';
import { contentRef, execute, type LoggedJob, submitJob } from './test-jobs.ts';

const fast = { paces: { 'a/0': 1, 'b/0': 0.1 } };

function grant(job: LoggedJob, leaseId: string, start: number, end: number, continues?: string): void {
  const range = { start, end, preRoll: start === 0 ? 0 : 1, speculative: false };
  const lease = { leaseId, nodeId: 'a', slotId: '0', profile: 'p', ...range, ...(continues ? { continues } : {}) };
  assert.equal(execute(job, { type: 'grant', lease, reason: '' }).outcome, 'done');
}

function commit(job: LoggedJob, leaseId: string, clip: number, span?: number) {
  const chunk = { leaseId, clip, frames: 48, chunk: contentRef(`${leaseId}-${clip}`), headerHash: 'h' };
  return execute(job, { type: 'commit', chunk: span === undefined ? chunk : { ...chunk, span } });
}

/** Open calls after everything that happened to a job. */
function callsOf(job: LoggedJob): Map<string, OpenCall> {
  const calls = new Map<string, OpenCall>();
  for (const { event } of job.log) noteOpenCall(calls, job.state, event);
  return calls;
}

/** What a farm does whose slot a/0 has the call open; b/0 is ten times as fast and would be first otherwise. */
function planWith(job: LoggedJob, openCall: OpenCall | null, given: Partial<Farm> = {}): string[] {
  const slots = [freeSlot('a/0', { warmUpSeconds: 100, openCall }), freeSlot('b/0')];
  return schedule(scheduleInput({ jobs: [job], ...fast, slots, ...given })).map(inWords);
}

test('a lease that ended well leaves its call open at the last clip that it delivered', () => {
  const job = submitJob({ clips: 10 });
  grant(job, 'l1', 0, 4);
  assert.equal(callsOf(job).size, 0);
  for (const clip of [0, 1]) commit(job, 'l1', clip);
  execute(job, { type: 'endLease', leaseId: 'l1', cause: 'returned', reason: 'drained' });
  assert.deepEqual([...callsOf(job)], [['a/0', { jobId: 'job-1', leaseId: 'l1', begin: 0, end: 2 }]]);
  grant(job, 'l2', 2, 4, 'l1');
  assert.equal(callsOf(job).size, 0);
  for (const clip of [2, 3]) commit(job, 'l2', clip, 0);
  assert.deepEqual([...callsOf(job)], [['a/0', { jobId: 'job-1', leaseId: 'l2', begin: 0, end: 4 }]]);
});

test('a lease that failed, was revoked or delivered nothing leaves no call', () => {
  for (const end of [
    { type: 'failLease', leaseId: 'l1', failureClass: 'crash', message: '', clip: 1 },
    { type: 'endLease', leaseId: 'l1', cause: 'revoked', reason: '' },
  ] as const) {
    const job = submitJob({ clips: 10 });
    grant(job, 'l1', 0, 4);
    commit(job, 'l1', 0);
    execute(job, end);
    assert.equal(callsOf(job).size, 0);
  }
  const idle = submitJob({ clips: 10 });
  grant(idle, 'l1', 0, 4);
  execute(idle, { type: 'endLease', leaseId: 'l1', cause: 'returned', reason: '' });
  assert.equal(callsOf(idle).size, 0);
});

test('clips of a lease that went on belong to the span of the call, and there is no join', () => {
  const job = submitJob({ clips: 4 });
  grant(job, 'l1', 0, 2);
  for (const clip of [0, 1]) commit(job, 'l1', clip);
  grant(job, 'l2', 2, 4, 'l1');
  commit(job, 'l2', 2, 0);
  commit(job, 'l2', 3, 0);
  assert.deepEqual(
    [...job.state.committed.values()].map(({ span }) => span),
    [0, 0, 0, 0],
  );
});

test('a chunk can not claim the span of a call that its lease had nothing to do with', () => {
  const job = submitJob({ clips: 10 });
  grant(job, 'l1', 0, 2);
  for (const clip of [0, 1]) commit(job, 'l1', clip);
  grant(job, 'l2', 4, 6);
  assert.equal(commit(job, 'l2', 4, 0).outcome, 'refused');
  grant(job, 'l3', 2, 4, 'l1');
  assert.equal(commit(job, 'l3', 2, 3).outcome, 'refused');
  assert.equal(commit(job, 'l3', 2, 2).outcome, 'done');
});

test('the slot that has the call open gets the clips that follow, without warm-up and however slow it is', () => {
  const job = submitJob({ clips: 30 });
  grant(job, 'l1', 0, 10);
  for (let clip = 0; clip < 10; clip += 1) commit(job, 'l1', clip);
  const call = callsOf(job).get('a/0') ?? assert.fail('no call is open');
  assert.deepEqual(planWith(job, call), ['a/0: 10-12', 'b/0: 12-30']);
  assert.deepEqual(planWith(job, null), ['b/0: 10-30']);
});

test('a call is gone on with only in its job, at its end and while the model allows', () => {
  const job = submitJob({ clips: 30 });
  grant(job, 'l1', 0, 10);
  for (let clip = 0; clip < 10; clip += 1) commit(job, 'l1', clip);
  const call = callsOf(job).get('a/0') ?? assert.fail('no call is open');
  for (const other of [{ jobId: 'job-2' }, { end: 9 }]) {
    assert.deepEqual(planWith(job, { ...call, ...other }), ['b/0: 10-30']);
  }
  const alone = (maxLeaseClips: number) => planWith(job, call, { paces: { 'a/0': 0.1, 'b/0': 100 }, maxLeaseClips });
  assert.equal(alone(15)[0], 'a/0: 10-15');
  // Nine clips and one of pre-roll, in a call of its own.
  assert.equal(alone(10)[0], 'a/0: 10-19');
});

test('leases whose end is fixed get smaller towards the end, are neither shrunk for others nor for a pause', () => {
  const job = submitJob({ clips: 100 });
  const slots = [freeSlot('a/0', { fixedEnd: true, warmUpSeconds: 4 }), freeSlot('b/0')];
  const paces = { 'a/0': 1, 'b/0': 1000 };
  const sizes: number[] = [];
  for (let n = 0; n < 20 && job.state.status === 'active'; n += 1) {
    const input = scheduleInput({ jobs: [job], slots: slots.slice(0, 1), paces });
    const [action] = schedule(input);
    if (action?.type !== 'grant') assert.fail('a free slot gets a lease');
    assert.equal(action.fixedEnd, true);
    sizes.push(action.end - action.start);
    const { start, end, preRoll, fixedEnd = false } = action;
    const lease = { leaseId: `l${n}`, nodeId: 'a', slotId: '0', profile: 'p', start, end, preRoll, fixedEnd };
    execute(job, { type: 'grant', lease: { ...lease, speculative: false }, reason: '' });
    assert.deepEqual(
      schedule(scheduleInput({ jobs: [job], slots, paces })).filter(({ type }) => type === 'shrink'),
      [],
    );
    const paused = execute(job, { type: 'pause', reason: '', currentClips: new Map() });
    assert.equal(paused.outcome === 'done' && paused.events.length, 1);
    execute(job, { type: 'resume' });
    for (let clip = start; clip < end; clip += 1) commit(job, `l${n}`, clip);
  }
  assert.deepEqual(sizes, [50, 25, 13, 6, 6]);
});

test('while everybody waits for the anchor, a lease whose end is fixed is one clip', () => {
  const job = submitJob({ clips: 100, anchorMode: 'first_frame' });
  const fixed = (key: string) => freeSlot(key, { fixedEnd: true });
  const plan = (...keys: readonly string[]) =>
    schedule(scheduleInput({ jobs: [job], slots: keys.map(fixed), paces: { 'a/0': 1, 'b/0': 1 } })).map(inWords);
  assert.deepEqual(plan('a/0', 'b/0'), ['a/0: 0-1']);
  assert.deepEqual(plan('a/0'), ['a/0: 0-50']);
});
