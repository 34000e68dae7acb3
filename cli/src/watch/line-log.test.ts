import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Job, JobState } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { progressView } from '../render/progress-view.ts';
import { job, lease } from '../testing/farm-fixtures.ts';
import { createLineLog } from './line-log.ts';

const view = (next: Job) => progressView(next, []);
const rendering = (clipsCommitted: number, end = 50) =>
  view(job(JobState.JOB_STATE_RENDERING, { clipsCommitted, leases: [lease('node-a', 0, end, clipsCommitted)] }));

test('a change of state or lease is told at once, counting only every two seconds', () => {
  const log = createLineLog(0);
  assert.match(log.job(view(job(JobState.JOB_STATE_QUEUED)), 0) ?? '', /queued/);
  assert.match(log.job(rendering(0), 100) ?? '', /rendering {2}0\/50/);
  assert.equal(log.job(rendering(1), 200), undefined);
  assert.match(log.job(rendering(1, 40), 300) ?? '', /node-a\/gpu0 0-39/);
  assert.equal(log.job(rendering(5, 40), 2200), undefined);
  assert.match(log.job(rendering(6, 40), 2300) ?? '', /^ 0:03 {2}rendering {2}6\/50/);
});

test('the end is told however soon it comes', () => {
  const log = createLineLog(0);
  log.job(rendering(49), 0);
  assert.match(
    log.job(view(job(JobState.JOB_STATE_COMPLETED, { clipsCommitted: 50 })), 1) ?? '',
    /completed {2}50\/50/,
  );
});

test('an outage is told once, and again after the coordinator was there', () => {
  const log = createLineLog(0);
  assert.match(log.outage('the coordinator is away', 0) ?? '', /away/);
  assert.equal(log.outage('the coordinator is away', 10), undefined);
  log.job(rendering(1), 20);
  assert.match(log.outage('the coordinator is away', 30) ?? '', /away/);
});
