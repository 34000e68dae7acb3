import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import { createLogger } from '@clipfarm/shared/log';
import { GIB } from '@clipfarm/shared/model/gpu-cost';
import { forecastFinish, forecastLease } from '../core/schedule.ts';
import { attach, commit, grant, type MemoryFarm, memoryFarm, submit } from '../farm/farm-fixture.ts';
import { Speedometer } from '../farm/speedometer.ts';
import { StorageHealth } from '../farm/storage-health.ts';
import { Views } from './views.ts';

function viewsOf(farm: MemoryFarm, leads = true, anchorProblem: string | null = null) {
  const storage = new StorageHealth(createLogger({ name: 'test', level: 'silent' }));
  const speed = new Speedometer(() => farm.clock.monotonic());
  return {
    storage,
    views: new Views(
      farm.fleet,
      farm.nodes,
      speed,
      storage,
      3_600_000,
      () => leads,
      () => anchorProblem,
    ),
  };
}

test('a job shows its leases, where they are and when they will be done', async () => {
  const farm = await memoryFarm(new ManualClock());
  await attach(farm, 'n', [{}, { declaredSecondsPerClip: 2 }]);
  const job = await submit(farm, { clips: 60 });
  const first = await grant(farm, job, { nodeId: 'n', slotId: '0', start: 0, end: 30 });
  await grant(farm, job, { nodeId: 'n', slotId: '1', start: 30, end: 60 });
  await commit(farm, job, first, 0, 10);
  farm.fleet.noteProgress('n', first, { clip: 10, fraction: 0.5 });
  const shown = viewsOf(farm).views.job(job);
  assert.deepEqual(
    shown.leases.map(({ currentClip, etaSeconds }) => [currentClip, etaSeconds]),
    [
      [10, 19.5],
      [29, 62],
    ],
  );
  assert.equal(shown.etaSeconds, 62);
  assert.deepEqual([shown.clipsCommitted, shown.clipsPrefix, shown.state], [10, 10, 'JOB_STATE_RENDERING']);
  assert.deepEqual(shown.spans, [{ start: 0, end: 10, nodeId: 'n', slotId: '0' }]);
  const input = farm.fleet.scheduleInput([job]);
  assert.equal(shown.etaSeconds, forecastFinish(input, job));
  assert.deepEqual(
    shown.leases.map((lease) => lease.etaSeconds),
    [...job.leases.values()].map((lease) => forecastLease(input, job, lease)),
  );
});

test('right after a change of leaders a lease is where its commits prove, and nothing is forecast of slots that are not known', async () => {
  const farm = await memoryFarm(new ManualClock());
  const job = await submit(farm, { clips: 60 });
  const first = await grant(farm, job, { nodeId: 'n', slotId: '0', start: 0, end: 30 });
  await grant(farm, job, { nodeId: 'n', slotId: '1', start: 30, end: 60 });
  await commit(farm, job, first, 0, 10);
  farm.fleet.takeOver();
  const { views } = viewsOf(farm);
  const shown = () => views.job(job).leases.map(({ currentClip, etaSeconds }) => [currentClip, etaSeconds]);
  assert.deepEqual(shown(), [
    [10, -1],
    [29, -1],
  ]);
  assert.equal(views.job(job).etaSeconds, -1);
  // The node is back, and its slots have not said yet what they do.
  const node = await attach(farm, 'n', [{}, {}]);
  assert.deepEqual(
    views.node(node, true).slots.map(({ leaseId, currentClip }) => [leaseId, currentClip]),
    [
      [first, 10],
      ['job-1:30@n/1', 29],
    ],
  );
  assert.deepEqual(shown(), [
    [10, 20],
    [29, 31],
  ]);
});

test('a coordinator that follows does not say that no node is online; a new leader waits for those that were', async () => {
  const farm = await memoryFarm(new ManualClock());
  const job = await submit(farm);
  await attach(farm, 'n');
  const reason = () => viewsOf(farm).views.job(job).stateReason;
  assert.equal(reason(), 'waits for a free slot');
  await farm.nodes.takeOver();
  assert.match(reason(), /^waits for the nodes: another coordinator led before/);
  farm.clock.advance(60_000);
  assert.equal(reason(), 'waits for a node: none is online; n is lost: not seen since this coordinator leads');
  assert.match(viewsOf(farm, false).views.job(job).stateReason, /only the coordinator that leads knows/);
});

test('several jobs at once look like each one by itself', async () => {
  const farm = await memoryFarm(new ManualClock());
  await attach(farm, 'n', [{}, {}]);
  const jobs = [await submit(farm, { jobId: 'a' }), await submit(farm, { jobId: 'b' }), await submit(farm)];
  for (const [n, job] of jobs.slice(0, 2).entries()) {
    await grant(farm, job, { nodeId: 'n', slotId: `${n}`, start: 0, end: 50 });
  }
  const { views } = viewsOf(farm);
  assert.deepEqual(
    views.jobs(jobs),
    jobs.map((job) => views.job(job)),
  );
});

test('a job that waits says what for', async () => {
  const farm = await memoryFarm(new ManualClock());
  const { views, storage } = viewsOf(farm);
  const job = await submit(farm);
  const reason = () => views.job(job).stateReason;
  assert.equal(reason(), 'waits for a node: none is online');
  await attach(farm, 'small', [{ profile: 'single-48g-fp8' }]);
  assert.match(reason(), /^no online slot fits: 704x384 .* needs 66\.3 GiB per GPU/);
  await attach(farm, 'large', [{ profile: 'single-80g' }]);
  assert.equal(reason(), 'waits for a free slot');
  const status = { slotId: '0', leaseId: '', openLeaseId: '', currentClip: 0, clipProgress: 0 };
  farm.nodes.reported('large', [{ ...status, state: 'SLOT_STATE_RECOVERING', stateReason: 'no python3' }]);
  assert.equal(reason(), 'waits for a slot that works; large/0: no python3');
  assert.equal(views.node(farm.nodes.get('large') ?? assert.fail(), true).slots[0]?.stateReason, 'no python3');
  farm.nodes.reported('large', [{ ...status, state: 'SLOT_STATE_IDLE', stateReason: 'the model is unloaded' }]);
  assert.equal(reason(), 'waits for a free slot', 'an idle slot takes work');
  assert.equal(
    views.node(farm.nodes.get('large') ?? assert.fail(), true).slots[0]?.stateReason,
    'the model is unloaded',
  );
  await farm.nodes.drain('large', 'a new card');
  assert.match(reason(), /^no online slot fits: .*; large\/0 does, but its node is drained: a new card$/);
  await farm.nodes.drain('small', 'a new fan');
  assert.equal(reason(), 'waits for a node: large is drained: a new card; small is drained: a new fan');
  await farm.nodes.undrain('small');
  farm.nodes.disconnected('large');
  assert.match(reason(), /^no online slot fits: [^;]*$/);
  storage.failed(Object.assign(new Error('no space left'), { code: 'ENOSPC' }));
  assert.match(reason(), /disk is full/);
});

test('a job that no slot can take because of what was measured says so', async () => {
  const farm = await memoryFarm(new ManualClock());
  const { views } = viewsOf(farm);
  const job = await submit(farm);
  const own = { profile: 'own', runnerKind: 'live-avatar', dtype: 'bf16', declaredSecondsPerClip: 0 };
  await attach(farm, 'large', [{ ...own, memoryBytes: 140 * GIB }]);
  await attach(farm, 'small', [{ ...own, memoryBytes: 79 * GIB }]);
  const large = farm.fleet.slot('large', '0') ?? assert.fail('no slot');
  farm.fleet.noteClip(large, job.definition, 5, 81 * GIB, 95 * GIB);
  assert.match(
    farm.fleet.fit(large, job.definition).detail,
    /seen: 81\.0 GiB \(95\.0 GiB with what its allocator kept/,
  );
  farm.nodes.disconnected('large');
  assert.match(
    views.job(job).stateReason,
    /^no online slot fits: .* took 81\.0 GiB per GPU \(95\.0 GiB .*\), card has 79\.0 GiB/,
  );
});

test('a node shows what each of its slots does', async () => {
  const farm = await memoryFarm(new ManualClock());
  const node = await attach(farm, 'n', [{}, { declaredSecondsPerClip: 3 }]);
  const job = await submit(farm);
  const leaseId = await grant(farm, job, { nodeId: 'n', slotId: '0', start: 0, end: 50 });
  const slot = farm.fleet.slot('n', '0') ?? assert.fail('no slot');
  farm.fleet.noteClip(slot, job.definition, 1.5, 0);
  const status = { slotId: '0', state: 'SLOT_STATE_RENDERING', leaseId, currentClip: 4, clipProgress: 0.25 } as const;
  farm.nodes.reported('n', [{ ...status, stateReason: '', openLeaseId: '' }]);
  const shown = viewsOf(farm).views.node(node, true);
  assert.equal(shown.state, 'NODE_STATE_ONLINE');
  assert.deepEqual(
    shown.slots.map((s) => [s.jobId, s.leaseId, s.state, s.currentClip, s.clipProgress, s.secondsPerClip]),
    [
      ['job-1', leaseId, 'SLOT_STATE_RENDERING', 4, 0.25, 1.5],
      ['', '', 'SLOT_STATE_UNSPECIFIED', 0, 0, 3],
    ],
  );
});

test('a node that has left is told so to those who know the word, and is lost to others', async () => {
  const farm = await memoryFarm(new ManualClock());
  const node = await attach(farm, 'n');
  await farm.nodes.drain('n', 'a new card');
  await farm.nodes.left('n', 'the agent got SIGTERM');
  const { views } = viewsOf(farm);
  const stateReason = 'the agent got SIGTERM; drained: a new card';
  assert.partialDeepStrictEqual(views.node(node, true), { state: 'NODE_STATE_LEFT', stateReason });
  assert.partialDeepStrictEqual(views.node(node, false), { state: 'NODE_STATE_LOST', stateReason });
});

test('a plan says of each slot why it takes no work, whether it fits or not', async () => {
  const farm = await memoryFarm(new ManualClock());
  const { views } = viewsOf(farm);
  for (const nodeId of ['busy', 'drained', 'gone', 'ill', 'left', 'small']) {
    await attach(farm, nodeId, [{ profile: nodeId === 'small' ? 'single-48g-fp8' : 'single-80g' }]);
  }
  const job = await submit(farm);
  await grant(farm, job, { nodeId: 'busy', slotId: '0', start: 0, end: 50 });
  const status = { slotId: '0', leaseId: '', openLeaseId: '', currentClip: 0, clipProgress: 0 };
  farm.nodes.reported('ill', [{ ...status, state: 'SLOT_STATE_RECOVERING', stateReason: 'no python3' }]);
  for (const nodeId of ['drained', 'small']) await farm.nodes.drain(nodeId, 'a new card');
  await farm.nodes.left('left', 'the agent got SIGTERM');
  farm.clock.advance(1);
  farm.nodes.disconnected('gone');
  const { fits } = views.plan(job.definition, farm.fleet.fits(job.definition), { seconds: 0, slotSeconds: 0, now: 0 });
  assert.deepEqual(
    fits.map(({ nodeId, fits: fit, unavailable }) => [nodeId, fit, unavailable]),
    [
      ['busy', true, ''],
      ['drained', true, 'its node is drained: a new card'],
      ['gone', true, 'its node is lost: no sign of life'],
      ['ill', true, 'it recovers: no python3'],
      ['left', true, 'its node has left: the agent got SIGTERM'],
      ['small', false, 'its node is drained: a new card'],
    ],
  );
});

test('a job that has ended says until when it is kept; one that goes on does not', async () => {
  const farm = await memoryFarm(new ManualClock());
  const { views } = viewsOf(farm);
  const job = await submit(farm);
  assert.equal(views.job(job).keptUntil, undefined);
  await farm.jobs.execute(job.definition.jobId, { type: 'cancel', reason: 'test' });
  assert.equal(views.job(job).keptUntil?.seconds, farm.clock.now() / 1000 + 3600);
});

test('a job says how it stands to its deadline, and so does a plan', async () => {
  const farm = await memoryFarm(new ManualClock());
  await attach(farm, 'n', [{}]);
  const { views } = viewsOf(farm);
  const due = (seconds: number) => farm.clock.now() + seconds * 1000;
  const late = views.job(await submit(farm, { jobId: 'late', clips: 60, deadline: due(30) }));
  assert.equal(late.deadlineOutlook, 'DEADLINE_OUTLOOK_LATE');
  assert.equal(late.deadlineMarginSeconds, 30 - late.etaSeconds);
  const early = await submit(farm, { jobId: 'early', clips: 60, deadline: due(3000) });
  assert.equal(views.job(early).deadlineOutlook, 'DEADLINE_OUTLOOK_IN_TIME');
  assert.equal(views.job(await submit(farm, { jobId: 'none' })).deadlineOutlook, 'DEADLINE_OUTLOOK_UNSPECIFIED');
  const planned = (seconds: number) =>
    views.plan(early.definition, [], { seconds, slotSeconds: seconds, now: farm.clock.now() });
  assert.equal(planned(4000).deadlineOutlook, 'DEADLINE_OUTLOOK_LATE');
  assert.equal(planned(4000).deadlineMarginSeconds, -1000);
  assert.equal(planned(2000).deadlineOutlook, 'DEADLINE_OUTLOOK_IN_TIME');
  assert.equal(planned(0).deadlineOutlook, 'DEADLINE_OUTLOOK_UNSPECIFIED', 'no slot fits');
});

test('a job whose anchor can not be taken says so and why, as long as it is live', async () => {
  const farm = await memoryFarm(new ManualClock());
  const job = await submit(farm);
  await attach(farm, 'n');
  const { views } = viewsOf(farm, true, 'the bucket is gone');
  assert.match(views.job(job).stateReason, /^its anchor can't be taken from its first clip.*: the bucket is gone$/);
  await farm.jobs.execute('job-1', { type: 'cancel', reason: 'enough' });
  assert.equal(views.job(job).stateReason, 'enough');
});

test('a job that is retried waits for a slot, and not for what failed before', async () => {
  const farm = await memoryFarm(new ManualClock());
  await attach(farm, 'n');
  const job = await submit(farm);
  const { views } = viewsOf(farm);
  const leaseId = await grant(farm, job, { nodeId: 'n', slotId: '0', start: 0, end: 100 });
  const failure = { failureClass: 'crash', message: 'segmentation fault', clip: 0 } as const;
  await farm.jobs.execute('job-1', { type: 'failLease', leaseId, ...failure });
  assert.equal(views.job(job).stateReason, 'waits before the next attempt; last failure: segmentation fault');
  await farm.jobs.execute('job-1', { type: 'cancel', reason: '' });
  await farm.jobs.execute('job-1', { type: 'retry' });
  const shown = views.job(job);
  assert.equal(shown.stateReason, 'waits for a free slot');
  assert.equal(shown.failures.length, 1);
});
