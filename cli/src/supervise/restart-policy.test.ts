import assert from 'node:assert/strict';
import { test } from 'node:test';
import { afterEnd, type Decision, endText } from './restart-policy.ts';

const crash = { code: 1, signal: null, ranMillis: 100 } as const;

test('a process that ends again and again is started later and later, and at last no more', () => {
  const delays: number[] = [];
  let decision: Decision = afterEnd(crash, 0);
  while (decision.kind === 'restart') {
    delays.push(decision.delayMillis);
    decision = afterEnd(crash, decision.failures);
  }
  assert.deepEqual(delays, [500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
  assert.match(decision.reason, /9 times in a row/);
});

test('a process that worked for a while starts anew with its first failure', () => {
  assert.deepEqual(afterEnd({ ...crash, ranMillis: 60_000 }, 7), { kind: 'restart', delayMillis: 500, failures: 1 });
});

test('wrong options never get better, so there is no second start', () => {
  assert.equal(afterEnd({ ...crash, code: 2 }, 0).kind, 'give-up');
});

test('a process that leaves in order never counts as failed', () => {
  assert.deepEqual(afterEnd({ ...crash, code: 0 }, 7), { kind: 'restart', delayMillis: 5000, failures: 0 });
});

test('the end of a process is told in words', () => {
  assert.equal(endText({ code: null, signal: 'SIGKILL', ranMillis: 1 }), 'was ended by SIGKILL');
  assert.equal(endText(crash), 'ended with status 1');
});
