import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ManualClock } from '@clipfarm/shared/clock';
import { type AttachResponse, Heartbeat, Hello, LeaseEnded } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { createLogger } from '@clipfarm/shared/log';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { createMetrics } from '../admin/metrics.ts';
import { openDirectoryStore } from '../artifacts/directory-store.ts';
import type { JobEvent } from '../core/job-events.ts';
import { DEFAULT_POLICY } from '../core/schedule-model.ts';
import { AnchorKeeper } from '../farm/anchor-keeper.ts';
import { ChunkCommitter } from '../farm/chunk-committer.ts';
import { attach, grant, type MemoryFarm, memoryFarm, quietSnapshots, submit } from '../farm/farm-fixture.ts';
import { Fleet } from '../farm/fleet.ts';
import { Jobs } from '../farm/jobs.ts';
import { Nodes } from '../farm/nodes.ts';
import { Office } from '../farm/office.ts';
import { StorageHealth } from '../farm/storage-health.ts';
import { readAll } from '../journal/journal-contract.ts';
import { AgentSession } from './agent-session.ts';

const log = createLogger({ name: 'test', level: 'silent' });
const timings = { heartbeatMillis: 1000, leaseMillis: 5000, graceMillis: 60_000, hangFloorSeconds: 20 };

/** Another coordinator of the same farm, which hears nothing of what the leader appends. */
async function follower({ journal, clock }: MemoryFarm): Promise<MemoryFarm> {
  const office = new Office(() => null);
  const kept = { journal, clock, office, snapshots: quietSnapshots() };
  const [jobs, nodes] = [await Jobs.load(kept), await Nodes.load(kept)];
  return { ...kept, jobs, nodes, fleet: new Fleet(jobs, nodes, clock, DEFAULT_POLICY) };
}

/** What an agent is sent that attaches to a coordinator. */
async function attached(t: TestContext, farm: MemoryFarm, hello: Hello) {
  const store = await openDirectoryStore(join(temporaryDirectory(t), 'artifacts'));
  const ffmpeg = { ffmpeg: 'ffmpeg', ffprobe: 'ffprobe', version: '' };
  const anchors = new AnchorKeeper({ ...farm, store, ffmpeg, log });
  const storage = new StorageHealth(log);
  const committer = new ChunkCommitter({ ...farm, store, anchors, metrics: createMetrics(), storage, log });
  const sent: NonNullable<AttachResponse['message']>[] = [];
  const parts = { ...farm, committer, anchors, timings, wake: () => {}, log };
  const refusals: string[] = [];
  const session = new AgentSession(
    hello,
    parts,
    (message) => sent.push(message),
    (reason) => refusals.push(reason),
  );
  t.after(() => session.close());
  return { session, sent, refusals, welcomed: session.welcome(hello) };
}

test('an agent is welcomed once the farm is taken over, with the leases that the leader before had granted last', async (t) => {
  const before = await memoryFarm(new ManualClock());
  await attach(before, 'n');
  const after = await follower(before);
  const leaseId = await grant(before, await submit(before), { nodeId: 'n', slotId: '0', start: 0, end: 10 });
  after.office.enter(2);
  const leases = [{ leaseId, jobId: 'job-1', slotId: '0', currentClip: 4 }];
  const { sent, welcomed } = await attached(t, after, Hello.fromPartial({ nodeId: 'n', name: 'n', leases }));
  for (let turn = 0; turn < 20; turn++) await nextTurn();
  assert.equal(sent.length, 0);
  await after.jobs.takeOver();
  await after.nodes.takeOver();
  after.office.taken();
  await welcomed;
  const valid = sent.flatMap((message) => (message.$case === 'welcome' ? message.value.validLeaseIds : []));
  assert.deepEqual(valid, [leaseId]);
});

test('an agent that waits to be welcomed is turned away when the coordinator does not get to lead', async (t) => {
  const farm = await follower(await memoryFarm(new ManualClock()));
  farm.office.enter(2);
  const { welcomed } = await attached(t, farm, Hello.fromPartial({ nodeId: 'n', name: 'n' }));
  farm.office.leave();
  await assert.rejects(welcomed, { code: 'unavailable' });
});

test('an agent that comes from another farm is given time to hand in what it has not counted', async (t) => {
  const farm = await memoryFarm(new ManualClock());
  await farm.nodes.takeOver();
  await attach(farm, 'n');
  const job = await submit(farm);
  await grant(farm, job, { nodeId: 'n', slotId: '0', start: 0, end: 10 });
  const hello = Hello.fromPartial({ nodeId: 'n', name: 'n', farmId: 'another', spooledChunks: 0 });
  const { welcomed } = await attached(t, farm, hello);
  await welcomed;
  for (let turn = 0; turn < 20; turn++) await nextTurn();
  assert.deepEqual([job.leases.size, farm.nodes.get('n')?.handingIn], [1, true]);
  farm.clock.advance(3000);
  while (farm.nodes.get('n')?.handingIn) await nextTurn();
  assert.equal(job.leases.size, 0);
});

test('a lease that its agent is done with, and the farm is not, ends with a reason', async (t) => {
  const farm = await memoryFarm(new ManualClock());
  await farm.nodes.takeOver();
  await attach(farm, 'n');
  const job = await submit(farm);
  const leaseId = await grant(farm, job, { nodeId: 'n', slotId: '0', start: 0, end: 10 });
  const leases = [{ leaseId, jobId: job.definition.jobId, slotId: '0', currentClip: 9 }];
  const { session, welcomed } = await attached(t, farm, Hello.fromPartial({ nodeId: 'n', name: 'n', leases }));
  await welcomed;
  const ended = { leaseId, jobId: job.definition.jobId, reason: 'LEASE_END_REASON_COMPLETED' as const, clip: 10 };
  session.handle({ $case: 'leaseEnded', value: LeaseEnded.fromPartial(ended) });
  while (job.leases.size > 0) await nextTurn();
  const events = await readAll(farm.journal, `jobs/${job.definition.jobId}`);
  const last = events.at(-1)?.data as JobEvent;
  assert.ok(last.type === 'LeaseEnded' && last.cause === 'returned');
  assert.equal(last.reason, 'the agent is done with it, and not every clip of it is committed');
});

test('an agent that says goodbye gives back what it holds, once all that it said before is dealt with', async (t) => {
  const farm = await memoryFarm(new ManualClock());
  await farm.nodes.takeOver();
  await attach(farm, 'n', [{}, {}]);
  const job = await submit(farm);
  const { jobId } = job.definition;
  const failed = await grant(farm, job, { nodeId: 'n', slotId: '0', start: 0, end: 10 });
  const crossed = await grant(farm, job, { nodeId: 'n', slotId: '1', start: 50, end: 60 });
  const leases = [failed, crossed].map((leaseId) => ({ leaseId, jobId, currentClip: 0 }));
  const { session, welcomed } = await attached(t, farm, Hello.fromPartial({ nodeId: 'n', name: 'n', leases }));
  await welcomed;
  const ended = { leaseId: failed, jobId, reason: 'LEASE_END_REASON_FAILED' as const, message: 'no disk', clip: 3 };
  session.handle({ $case: 'leaseEnded', value: LeaseEnded.fromPartial(ended) });
  session.handle({ $case: 'goodbye', value: { reason: 'the agent got SIGTERM' } });
  assert.equal(session.farewell, 'the agent got SIGTERM');
  await session.settled();
  assert.equal(job.leases.size, 0);
  const events = await readAll(farm.journal, `jobs/${jobId}`);
  const ends = events.map(({ data }) => data as JobEvent).filter(({ type }) => type === 'LeaseEnded');
  assert.partialDeepStrictEqual(ends, [
    { leaseId: failed, cause: 'failed' },
    { leaseId: crossed, cause: 'returned', reason: 'its agent left: the agent got SIGTERM' },
  ]);
  const node = farm.nodes.get('n') ?? assert.fail('no node');
  assert.equal(farm.nodes.status(node), 'left');
});

test('a heartbeat tells of the slots and GPUs of its node, and of nothing beyond what a host can have', async (t) => {
  const farm = await memoryFarm(new ManualClock());
  const hello = Hello.fromPartial({ nodeId: 'n', name: 'n', slots: [{ slotId: '0' }] });
  const { session, refusals, welcomed } = await attached(t, farm, hello);
  await welcomed;
  const beat = (given: Parameters<typeof Heartbeat.fromPartial>[0]) =>
    session.handle({ $case: 'heartbeat', value: Heartbeat.fromPartial(given) });
  beat({ slots: [{ slotId: '0' }, { slotId: 'stranger' }], gpus: [{ index: 0, name: 'H200' }] });
  const node = farm.nodes.get('n') ?? assert.fail('no node');
  assert.deepEqual([...node.statuses.keys()], ['0']);
  assert.deepEqual(
    node.gpus.map(({ name }) => name),
    ['H200'],
  );
  assert.deepEqual(refusals, []);
  beat({ gpus: Array.from({ length: 65 }, (_, index) => ({ index })) });
  beat({ gpus: [{ index: 0, throttleReasons: ['x'.repeat(1000)] }] });
  assert.match(
    refusals.join(),
    /^gpus has 65 entries; accepted: at most 64 entries,gpus\[0\]\.throttle_reasons\[0\] is .*: at most 100 char/,
  );
  assert.equal(node.gpus.length, 1);
});
