import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import { commit, grant, memoryFarm, submit } from '../farm/farm-fixture.ts';
import { HistoryReader } from '../farm/job-history.ts';
import { historyEntry } from './history-entry.ts';

/** A job on which two nodes worked, and how its history is shown, oldest first, in pages of a size. */
async function workedJob() {
  const clock = new ManualClock();
  const farm = await memoryFarm(clock);
  const job = await submit(farm, { clips: 6 }, 7);
  const { jobId } = job.definition;
  const a = await grant(farm, job, { nodeId: 'a', slotId: '0', start: 0, end: 4 });
  const b = await grant(farm, job, { nodeId: 'b', slotId: '1', start: 4, end: 6 });
  clock.advance(5000);
  await commit(farm, job, a, 0, 2);
  await farm.jobs.execute(jobId, { type: 'shrink', leaseId: a, end: 3, reason: 'b is faster' });
  const failure = { leaseId: b, failureClass: 'out_of_memory', message: 'no memory', clip: 5 } as const;
  await farm.jobs.execute(jobId, { type: 'failLease', ...failure });
  await farm.jobs.execute(jobId, { type: 'setPriority', priority: -3 });
  await farm.jobs.execute(jobId, { type: 'cancel', reason: 'lunch' });
  const reader = new HistoryReader(farm);
  const page = async (size: number, before?: number) => {
    const { events, holders } = await reader.page(job, size, before);
    return events.map((past) => historyEntry(past, holders));
  };
  return { farm, job, page };
}

test('the history of a job says what happened when, to which clips, where and why', async () => {
  const { page } = await workedJob();
  const events = (await page(100)).reverse();
  assert.deepEqual(
    events.map(({ position }) => position),
    events.map((_, index) => index + 1),
  );
  const shown = events.map(({ type, nodeId, slotId, start, end, outcome, reason }) =>
    [type.slice('JOB_EVENT_TYPE_'.length), nodeId + slotId, `${start}-${end}`, outcome, reason].join(' '),
  );
  assert.deepEqual(shown, [
    'SUBMITTED  0-0  ',
    'LEASE_GRANTED a0 0-4  fixture',
    'LEASE_GRANTED b1 4-6  fixture',
    'CLIP_COMMITTED a0 0-1  ',
    'CLIP_COMMITTED a0 1-2  ',
    'LEASE_SHRUNK a0 0-3  b is faster',
    'LEASE_ENDED b1 5-6 failed no memory',
    'PRIORITY_CHANGED  0-0  ',
    'LEASE_ENDED a0 0-0 revoked the job is cancelled',
    'CANCELLED  0-0  lunch',
  ]);
  assert.deepEqual([events[0]?.priority, events[7]?.priority, events[6]?.failureClass], [7, -3, 'out_of_memory']);
  assert.deepEqual(
    [events[0]?.at, events[9]?.at].map((at) => at?.seconds),
    [1_893_456_000, 1_893_456_005],
  );
  assert.ok(events.every(({ term }) => term === 1));
});

test('pages begin with the newest event, and every event is on one of them', async () => {
  const { page } = await workedJob();
  const all = await page(100);
  const pages = [await page(4), await page(4, 7), await page(4, 3)];
  assert.deepEqual(pages.flat(), all);
  assert.deepEqual(
    pages.map(({ length }) => length),
    [4, 4, 2],
  );
  assert.deepEqual(await page(4, 1), []);
});

test('a completed job has forgotten its leases; its history still says whose they were', async () => {
  const { farm, job, page } = await workedJob();
  const { jobId } = job.definition;
  await farm.jobs.execute(jobId, { type: 'retry' });
  const c = await grant(farm, job, { nodeId: 'c', slotId: '0', start: 2, end: 6 });
  await commit(farm, job, c, 2, 6);
  const result = { video: { sha256: 'v', bytes: 1 }, frames: 288, videoSeconds: 11.52, audioSeconds: 11.52 };
  await farm.jobs.execute(jobId, { type: 'complete', result: { ...result, finishMillis: 1, checks: [] } });
  assert.equal(job.status, 'completed');
  assert.equal(job.pastLeases.size, 0);
  const [completed, ended] = await page(2);
  assert.equal(completed?.type, 'JOB_EVENT_TYPE_COMPLETED');
  assert.deepEqual([ended?.type, ended?.outcome, ended?.nodeId], ['JOB_EVENT_TYPE_LEASE_ENDED', 'completed', 'c']);
});
