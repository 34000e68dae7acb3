import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { JobState } from './job-model.ts';
import { byOrder, wantsSlots } from './job-order.ts';
import { execute, submitJob } from './test-jobs.ts';

const MINUTE = 60_000;

interface Asked {
  readonly owner?: string;
  readonly priority?: number;
  readonly at?: number;
  readonly deadline?: number;
}

function job(jobId: string, { owner = 'ann', priority = 0, at = 0, deadline }: Asked = {}): JobState {
  return submitJob({ jobId, owner, ...(deadline === undefined ? {} : { deadline }) }, priority, at).state;
}

function order(jobs: readonly JobState[], usage: Readonly<Record<string, number>> = {}, now = 0): string[] {
  return [...jobs].sort(byOrder(new Map(Object.entries(usage)), now)).map((j) => j.definition.jobId);
}

test('the higher priority goes first, whatever else is said', () => {
  const jobs = [job('old', { deadline: MINUTE }), job('urgent', { priority: 1, at: 999, owner: 'bob' })];
  assert.deepEqual(order(jobs, { bob: 1e9 }), ['urgent', 'old']);
});

test('among equals the owner that used least goes first', () => {
  const jobs = [job('a', { owner: 'ann' }), job('b', { owner: 'bob', at: 5 }), job('c', { owner: 'cy', at: 9 })];
  assert.deepEqual(order(jobs, { ann: 10, bob: 5 }), ['c', 'b', 'a']);
});

test('a job near its deadline goes before its equals, one far from it does not', () => {
  const near = job('near', { at: 9, deadline: 20 * MINUTE });
  const nearer = job('nearer', { at: 10, deadline: 10 * MINUTE });
  const far = job('far', { at: 11, deadline: 300 * MINUTE });
  assert.deepEqual(order([job('none'), far, near, nearer]), ['nearer', 'near', 'none', 'far']);
});

test('otherwise the older one goes first, and equal ones keep the order of their identities', () => {
  assert.deepEqual(order([job('b'), job('a'), job('late', { at: 1 })]), ['a', 'b', 'late']);
});

test('the order is total and does not depend on how the jobs were listed', () => {
  const asked = fc.record({
    owner: fc.constantFrom('ann', 'bob'),
    priority: fc.integer({ min: -1, max: 1 }),
    at: fc.integer({ min: 0, max: 2 }),
    deadline: fc.integer({ min: 0, max: 60 * MINUTE }),
  });
  fc.assert(
    fc.property(fc.array(asked, { maxLength: 8 }), fc.integer(), (all, shift) => {
      const jobs = all.map((a, index) => job(`job-${index}`, a));
      const turned = [...jobs.slice(shift % jobs.length), ...jobs.slice(0, shift % jobs.length)];
      assert.deepEqual(order(turned, { ann: 3 }), order(jobs, { ann: 3 }));
    }),
  );
});

test('only an active job with pending clips wants slots', () => {
  const one = submitJob({ clips: 2 });
  assert.equal(wantsSlots(one.state), true);
  execute(one, { type: 'pause', reason: 'by the operator', currentClips: new Map() });
  assert.equal(wantsSlots(one.state), false);
  execute(one, { type: 'resume' });
  const lease = { leaseId: 'l1', nodeId: 'n1', slotId: 's1', profile: 'p', preRoll: 0, speculative: false };
  execute(one, { type: 'grant', lease: { ...lease, start: 0, end: 2 }, reason: '' });
  assert.equal(wantsSlots(one.state), false);
  execute(one, { type: 'endLease', leaseId: 'l1', cause: 'returned', reason: 'drained' });
  assert.equal(wantsSlots(one.state), true);
  execute(one, { type: 'cancel', reason: 'by the operator' });
  assert.equal(wantsSlots(one.state), false);
});
