import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import { Hello } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { createLogger } from '@clipfarm/shared/log';
import { createMetrics } from '../admin/metrics.ts';
import type { JobEvent } from '../core/job-events.ts';
import type { AttemptFailure } from '../core/job-model.ts';
import { contentRef, jobDefinition } from '../core/test-jobs.ts';
import { announceJobEvent } from './announcer.ts';
import { attach, grant, memoryFarm, submit } from './farm-fixture.ts';
import { Links } from './links.ts';

const lease = {
  leaseId: 'l',
  nodeId: 'n',
  slotId: '0',
  profile: 'p',
  start: 0,
  end: 9,
  preRoll: 0,
  speculative: false,
};
const failure: AttemptFailure = {
  ...{ leaseId: 'l', nodeId: 'n', slotId: '0', profile: 'p', start: 0, end: 9, preRoll: 0, at: 0, clip: 3 },
  ...{ failureClass: 'crash' as const, message: 'it crashed' },
};
const record = { clip: 1, leaseId: 'l', nodeId: 'n', slotId: '0', span: 0, frames: 48, chunk: contentRef('c') };
const result = { video: contentRef('v'), frames: 1, videoSeconds: 1, audioSeconds: 1, finishMillis: 1, checks: [] };

/** One of each. */
const events: { readonly [T in JobEvent['type']]: Extract<JobEvent, { type: T }> } = {
  JobSubmitted: { type: 'JobSubmitted', definition: jobDefinition({ name: 'a talk' }), priority: 0 },
  LeaseGranted: {
    type: 'LeaseGranted',
    lease: { ...lease, span: 0, grantedAt: 0, grantedEnd: 9 },
    reason: 'pending clips',
  },
  LeaseShrunk: { type: 'LeaseShrunk', leaseId: 'l', end: 5, reason: 'another slot takes the tail' },
  LeaseEnded: { type: 'LeaseEnded', leaseId: 'l', cause: 'failed', reason: 'it crashed', failure },
  AnchorCommitted: { type: 'AnchorCommitted', anchor: contentRef('a'), leaseId: 'l' },
  ClipCommitted: { type: 'ClipCommitted', record, headerHash: 'h' },
  ClipLost: { type: 'ClipLost', clip: 1, reason: 'its chunk is gone' },
  ChunkSuperfluous: { type: 'ChunkSuperfluous', clip: 1, leaseId: 'l', reason: 'it was committed before' },
  TermOpened: { type: 'TermOpened', term: 2 },
  JobPaused: { type: 'JobPaused', reason: 'by the user' },
  JobResumed: { type: 'JobResumed' },
  PriorityChanged: { type: 'PriorityChanged', priority: 5 },
  JobCancelled: { type: 'JobCancelled', reason: 'by the user' },
  JobFailed: { type: 'JobFailed', reason: 'it fails everywhere' },
  JobRetried: { type: 'JobRetried', reason: '' },
  JobCompleted: { type: 'JobCompleted', result },
  JobExpired: { type: 'JobExpired' },
};

test('every event of a job is one line: a message in words, and fields with names of one form, each of them once', async () => {
  const farm = await memoryFarm(new ManualClock());
  await attach(farm, 'n');
  const job = await submit(farm);
  await grant(farm, job, { nodeId: 'n', slotId: '0', start: 0, end: 50 });
  const lines: string[] = [];
  const log = createLogger({
    name: 'coordinator',
    level: 'debug',
    destination: { write: (line) => void lines.push(line) },
  });
  const parts = { ...farm, links: new Links(), metrics: createMetrics(), log, term: 1, hangFloorSeconds: 30 };
  for (const event of Object.values(events)) announceJobEvent(parts, job, event);
  assert.equal(lines.length, Object.keys(events).length);
  for (const line of lines) {
    const { name, msg, job_id: jobId } = JSON.parse(line);
    assert.equal(name, 'coordinator', `another field took its place: ${line}`);
    assert.equal(jobId, 'job-1');
    assert.match(msg, /^[a-z][a-z,;: ]+$/, line);
    const keys = [...line.matchAll(/(?<=[{,])"([^"]+)":/g)].map(([, key]) => key ?? '');
    assert.deepEqual(keys, [...new Set(keys)], line);
    for (const key of keys) assert.match(key, /^[a-z][a-z0-9_]*$/, line);
    assert.doesNotMatch(line, /"reason":""/);
  }
});

test('each line about a lease names the node as operators know it, and the slot', async () => {
  const farm = await memoryFarm(new ManualClock());
  const lines: string[] = [];
  const log = createLogger({ name: 'test', level: 'info', destination: { write: (line) => lines.push(line) } });
  const metrics = createMetrics();
  const parts = { ...farm, links: new Links(), metrics, log, term: 1, hangFloorSeconds: 20 };
  farm.jobs.onEvent((job, event) => announceJobEvent(parts, job, event));
  const nodeId = 'node-1';
  await farm.nodes.register(Hello.fromPartial({ nodeId, name: 'host-3' }));
  const job = await submit(farm);
  lines.length = 0;
  const { jobId } = job.definition;
  const one = await grant(farm, job, { nodeId, slotId: '0', start: 0, end: 20 });
  await farm.jobs.execute(jobId, { type: 'shrink', leaseId: one, end: 10, reason: 'stolen' });
  const failed = { failureClass: 'hang', message: 'no progress', clip: 3 } as const;
  await farm.jobs.execute(jobId, { type: 'failLease', leaseId: one, ...failed });
  const other = await grant(farm, job, { nodeId, slotId: '1', start: 50, end: 60 });
  await farm.jobs.execute(jobId, { type: 'endLease', leaseId: other, cause: 'returned', reason: '' });
  const told = lines.map((line) => {
    const { msg, node_id, node, slot_id } = JSON.parse(line) as Record<string, unknown>;
    return [msg, node_id, node, slot_id];
  });
  assert.deepEqual(told, [
    ['lease granted', 'node-1', 'host-3', '0'],
    ['lease shrunk', 'node-1', 'host-3', '0'],
    ['lease failed', 'node-1', 'host-3', '0'],
    ['lease granted', 'node-1', 'host-3', '1'],
    ['lease ended', 'node-1', 'host-3', '1'],
  ]);
});
