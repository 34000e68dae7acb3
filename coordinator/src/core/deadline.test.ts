import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DeadlineOutlook, deadlineOutlook, outlookByForecast } from './deadline.ts';
import { jobDefinition } from './test-jobs.ts';

const DEADLINE = 100_000;

/** Outlook and margin of a job that is due at 100 s. */
function outlookOf(
  { status = 'active', end = null }: { status?: 'active' | 'completed' | 'cancelled' | 'failed'; end?: number | null },
  etaSeconds: number,
  now: number,
): [DeadlineOutlook['outlook'], number] {
  const job = { definition: jobDefinition({ deadline: DEADLINE }), status, finishedAt: end };
  const { outlook, marginSeconds } = deadlineOutlook(job, etaSeconds, now);
  return [outlook, marginSeconds];
}

test('a live job is in time or late by its forecast, and nothing is said without one', () => {
  assert.deepEqual(outlookOf({}, 30, 60_000), ['in_time', 10]);
  assert.deepEqual(outlookOf({}, 40, 60_000), ['in_time', 0]);
  assert.deepEqual(outlookOf({}, 45, 60_000), ['late', -5]);
  assert.deepEqual(outlookOf({}, -1, 60_000), ['unknown', 0]);
});

test('a live job has missed a deadline that is over, by what it will be late, or is late now', () => {
  assert.deepEqual(outlookOf({}, 10, 101_000), ['missed', -11]);
  assert.deepEqual(outlookOf({}, -1, 101_000), ['missed', -1]);
});

test('of a job that is over, its end counts, however late it is now', () => {
  assert.deepEqual(outlookOf({ status: 'completed', end: 90_000 }, 0, 500_000), ['met', 10]);
  assert.deepEqual(outlookOf({ status: 'completed', end: 130_000 }, 0, 500_000), ['missed', -30]);
  assert.deepEqual(outlookOf({ status: 'failed', end: 130_000 }, -1, 500_000), ['missed', -30]);
  assert.deepEqual(outlookOf({ status: 'cancelled', end: 90_000 }, -1, 500_000), ['unknown', 0]);
});

test('without a deadline there is nothing to say', () => {
  const job = { definition: jobDefinition(), status: 'active' as const, finishedAt: null };
  assert.equal(deadlineOutlook(job, 5, 0).outlook, 'unknown');
});

test('a plan is judged by its forecast, also where the deadline is over', () => {
  assert.deepEqual(outlookByForecast(DEADLINE, 50, 40_000), { outlook: 'in_time', marginSeconds: 10 });
  assert.deepEqual(outlookByForecast(DEADLINE, 50, 120_000), { outlook: 'late', marginSeconds: -70 });
});
