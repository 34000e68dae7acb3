import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { JobEvent, JobEventType, JobState } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { startFakeFarm } from '../testing/fake-farm.ts';
import { job, node } from '../testing/farm-fixtures.ts';
import { cli } from '../testing/run-cli.ts';
import { historyLines } from './job-history.ts';
import { createStyle } from './style.ts';

const plain = createStyle(false);
const nodes = [node('node-a', 'fast'), node('node-b', 'slow')];

type Given = Partial<Omit<JobEvent, 'position' | 'at' | 'term'>>;

/** Events one second apart. */
function eventsOf(given: readonly (readonly [JobEventType, Given?])[]): JobEvent[] {
  return given.map(([type, rest], index) =>
    JobEvent.fromPartial({
      ...rest,
      type,
      position: index + 1,
      at: { seconds: 1_893_456_000 + index, nanos: 5_000_000 },
      term: 3,
    }),
  );
}

const on = (nodeId: string, start: number, end: number): Given => ({
  nodeId,
  slotId: 'gpu0',
  leaseId: `lease-${nodeId}`,
  start,
  end,
});
const done = (nodeId: string, clip: number) =>
  [JobEventType.JOB_EVENT_TYPE_CLIP_COMMITTED, on(nodeId, clip, clip + 1)] as const;

const story = eventsOf([
  [JobEventType.JOB_EVENT_TYPE_SUBMITTED, { priority: 7 }],
  [JobEventType.JOB_EVENT_TYPE_LEASE_GRANTED, { ...on('node-a', 0, 6), reason: 'its share' }],
  [JobEventType.JOB_EVENT_TYPE_LEASE_GRANTED, { ...on('node-b', 6, 9), reason: 'its share' }],
  [JobEventType.JOB_EVENT_TYPE_ANCHOR_COMMITTED, on('node-a', 0, 0)],
  done('node-a', 0),
  done('node-b', 6),
  done('node-a', 1),
  done('node-a', 3),
  [JobEventType.JOB_EVENT_TYPE_LEASE_SHRUNK, { ...on('node-a', 0, 4), reason: 'node-b is faster' }],
  done('node-a', 2),
  [
    JobEventType.JOB_EVENT_TYPE_LEASE_ENDED,
    { ...on('node-b', 7, 8), outcome: 'failed', failureClass: 'out_of_memory', reason: 'CUDA\u001b[31m says no' },
  ],
  [JobEventType.JOB_EVENT_TYPE_TERM_OPENED],
  [JobEventType.JOB_EVENT_TYPE_PRIORITY_CHANGED, { priority: -5 }],
  [JobEventType.JOB_EVENT_TYPE_CANCELLED, { reason: 'lunch' }],
  [99 as unknown as JobEventType],
]);

test('a history is the one in golden/job-history.txt', (t) => {
  t.assert.fileSnapshot(historyLines(story, nodes, plain), join(import.meta.dirname, 'golden', 'job-history.txt'), {
    serializers: [(lines: string[]) => `${lines.join('\n')}\n`],
  });
});

test('job history follows pages back to the limit, and says that there is more', async (t) => {
  const farm = await startFakeFarm(t);
  farm.state.jobs = [job(JobState.JOB_STATE_RENDERING)];
  farm.state.events = eventsOf(
    Array.from({ length: 1200 }, (_, clip) => [
      JobEventType.JOB_EVENT_TYPE_CLIP_LOST,
      { start: clip, end: clip + 1, reason: 'gone' },
    ]),
  );
  const all = await cli(farm, 'job', 'history', 'job', '--limit', '5000');
  assert.equal(all.err, '');
  const lines = all.out.trim().split('\n');
  assert.equal(lines.length, 1201);
  assert.match(lines[1] ?? '', /^2030-01-01T00:00:00Z {2}clip lost +0 +gone$/);
  const newest = await cli(farm, 'job', 'history', 'job', '--limit', '700');
  assert.equal(newest.out.trim().split('\n').length, 701);
  assert.match(newest.out, /clip lost +500 +gone\n[\s\S]*clip lost +1199 +gone\n$/);
  assert.equal(newest.err, 'the newest 700 events; for earlier ones add --limit 1400\n');
  const json = JSON.parse((await cli(farm, 'job', 'history', 'job', '--limit', '2', '-o', 'json')).out);
  assert.deepEqual(
    json.events.map(({ position }: { position: number }) => position),
    [1200, 1199],
  );
  assert.equal((await cli(farm, 'job', 'history', 'job', '--limit', '0')).code, 2);
  assert.equal((await cli(farm, 'job', 'history', 'nope')).code, 5);
});
