import assert from 'node:assert/strict';
import { test } from 'node:test';
import { evolve } from './evolve.ts';
import type { AttemptFailure, LeaseState } from './job-model.ts';
import { jobDefinition, submitJob } from './test-jobs.ts';

const lease: LeaseState = {
  leaseId: 'l1',
  nodeId: 'n1',
  slotId: 's1',
  profile: 'p',
  span: 6,
  start: 0,
  end: 4,
  grantedEnd: 4,
  preRoll: 0,
  speculative: false,
  grantedAt: 5,
};

function failure(n: number): AttemptFailure {
  return { nodeId: `n${n}`, slotId: 's1', clip: n, failureClass: 'crash', message: `${n}`, at: n };
}

test('a damaged log is refused: it must begin with JobSubmitted, once', () => {
  assert.throws(() => evolve(null, { type: 'JobResumed' }, 0), /JobResumed before JobSubmitted/);
  const { state } = submitJob();
  const again = { type: 'JobSubmitted' as const, definition: jobDefinition(), priority: 0 };
  assert.throws(() => evolve(state, again, 0), /job job-1 was submitted twice/);
});

test('spans are numbered on from the highest', () => {
  const { state } = submitJob();
  evolve(state, { type: 'LeaseGranted', lease, reason: '' }, 5);
  assert.equal(state.nextSpan, 7);
});

test('a job starts with its first grant and no later one', () => {
  const { state } = submitJob();
  evolve(state, { type: 'LeaseGranted', lease, reason: '' }, 5);
  evolve(state, { type: 'LeaseGranted', lease: { ...lease, leaseId: 'l2' }, reason: '' }, 9);
  assert.equal(state.startedAt, 5);
});

test('a past lease is remembered with what judges its late chunks', () => {
  const { state } = submitJob();
  evolve(state, { type: 'LeaseGranted', lease, reason: '' }, 5);
  evolve(state, { type: 'LeaseEnded', leaseId: 'l1', cause: 'returned', reason: 'drained' }, 6);
  const past = { start: 0, grantedEnd: 4, span: 6, nodeId: 'n1', slotId: 's1', preRoll: lease.preRoll };
  assert.deepEqual([...state.pastLeases], [['l1', past]]);
});

test('the newest twenty failures are kept', () => {
  const { state } = submitJob();
  for (let n = 0; n < 25; n++) {
    evolve(state, { type: 'LeaseGranted', lease: { ...lease, leaseId: `l${n}` }, reason: '' }, n);
    const ended = { type: 'LeaseEnded', leaseId: `l${n}`, cause: 'failed', reason: '' } as const;
    evolve(state, { ...ended, failure: failure(n), retryAt: n + 500 }, n);
  }
  assert.deepEqual(
    state.failures.map((f) => f.clip),
    Array.from({ length: 20 }, (_, i) => i + 5),
  );
});

test('several attempts at a clip add up, a node counts once', () => {
  const { state } = submitJob();
  for (const [n, nodeId] of ['n1', 'n2', 'n1'].entries()) {
    evolve(state, { type: 'LeaseGranted', lease: { ...lease, leaseId: `l${n}` }, reason: '' }, n);
    const ended = { type: 'LeaseEnded', leaseId: `l${n}`, cause: 'failed', reason: '' } as const;
    evolve(state, { ...ended, failure: { ...failure(3), nodeId }, retryAt: 100 * n }, n);
  }
  assert.deepEqual(state.troubles.get(3), {
    nodes: ['n1', 'n2'],
    attempts: 3,
    lostOn: [],
    shortages: 0,
    notBefore: 200,
  });
});
