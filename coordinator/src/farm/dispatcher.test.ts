import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ManualClock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import { createLogger } from '@clipfarm/shared/log';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { createMetrics } from '../admin/metrics.ts';
import { Dispatcher } from './dispatcher.ts';
import { attach, commit, type MemoryFarm, memoryFarm, submit } from './farm-fixture.ts';
import { StorageHealth } from './storage-health.ts';

const timings = { heartbeatMillis: 1000, leaseMillis: 5000, graceMillis: 60_000, hangFloorSeconds: 20 };

async function dispatchedFarm(t: TestContext) {
  const farm = await memoryFarm(new ManualClock());
  const log = createLogger({ name: 'test', level: 'silent' });
  const storage = new StorageHealth(log);
  const dir = temporaryDirectory(t);
  const store = { freeBytes: async () => 1024 ** 3, tempDir: () => dir };
  const dispatcher = new Dispatcher({ ...farm, timings, storage, store, metrics: createMetrics(), log });
  t.after(() => dispatcher.stop());
  return { ...farm, storage, dispatcher };
}

/** Waits until it is so; the test runner's own limit ends what never comes true. */
async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await nextTurn();
}

test('jobs get leases once it has begun, each as much as its slots can do', async (t) => {
  const farm = await dispatchedFarm(t);
  await attach(farm, 'n', [{}, {}, {}, {}]);
  const jobs = [await submit(farm, { jobId: 'a', clips: 1 }), await submit(farm, { jobId: 'b' })];
  farm.dispatcher.wake();
  for (let turn = 0; turn < 20; turn++) await nextTurn();
  assert.ok(
    jobs.every((job) => job.leases.size === 0),
    'it leads nothing yet',
  );
  farm.dispatcher.start();
  await until(() => farm.fleet.slots().every((slot) => slot.leaseId !== null));
  assert.deepEqual(
    jobs.map((job) => job.leases.size),
    [1, 3],
  );
});

test('a silent node loses its lease and another one gets the clips', async (t) => {
  const farm = await dispatchedFarm(t);
  await attach(farm, 'a');
  const job = await submit(farm);
  farm.dispatcher.start();
  await until(() => job.leases.size === 1);
  await attach(farm, 'b');
  for (let elapsed = 0; elapsed <= timings.leaseMillis + 500; elapsed += 250) {
    farm.clock.advance(250);
    farm.nodes.seen('b');
  }
  await until(() => [...job.leases.values()].every((lease) => lease.nodeId === 'b') && job.leases.size === 1);
  assert.equal(job.failures[0]?.failureClass, 'node_lost');
});

/** Lets nothing be recorded for a job any more, until it is undone. */
function breakJob(t: TestContext, { jobs }: MemoryFarm, broken: string) {
  const execute = jobs.execute.bind(jobs);
  return t.mock.method(jobs, 'execute', async (...args: Parameters<typeof execute>) => {
    if (args[0] === broken) throw new FarmError('resource_exhausted', 'its stream is full');
    return execute(...args);
  });
}

test('a job for which nothing can be recorded keeps no slot and no round from others, and goes on when it can', async (t) => {
  const farm = await dispatchedFarm(t);
  const broken = await submit(farm, { jobId: 'a' }, 9);
  const other = await submit(farm, { jobId: 'b', clips: 1 });
  const mock = breakJob(t, farm, 'a');
  await attach(farm, 'n');
  farm.dispatcher.start();
  const tick = async (isSo: () => boolean) => {
    while (!isSo()) {
      farm.clock.advance(250);
      farm.nodes.seen('n');
      for (let turn = 0; turn < 20; turn++) await nextTurn();
    }
  };
  await tick(() => other.leases.size === 1);
  const [leaseId = ''] = other.leases.keys();
  await commit(farm, other, leaseId, 0, 1);
  mock.mock.restore();
  await tick(() => broken.leases.size === 1);
});

test('leases of a lost node end, also where that can not be recorded for one of its jobs', async (t) => {
  const farm = await dispatchedFarm(t);
  await attach(farm, 'a', [{}, {}]);
  const broken = await submit(farm, { jobId: 'a', clips: 1 });
  const other = await submit(farm, { jobId: 'b', clips: 1 });
  farm.dispatcher.start();
  await until(() => broken.leases.size + other.leases.size === 2);
  await attach(farm, 'b');
  const mock = breakJob(t, farm, 'a');
  const tick = async (isSo: () => boolean) => {
    while (!isSo()) {
      farm.clock.advance(250);
      farm.nodes.seen('b');
      for (let turn = 0; turn < 20; turn++) await nextTurn();
    }
  };
  await tick(() => [...other.leases.values()].some(({ nodeId }) => nodeId === 'b'));
  assert.equal(broken.failures.length, 0);
  mock.mock.restore();
  await tick(() => broken.failures.length === 1);
});

test('a coordinator that stood still declares nobody lost', async (t) => {
  const farm = await dispatchedFarm(t);
  await attach(farm, 'a');
  const job = await submit(farm);
  farm.dispatcher.start();
  await until(() => job.leases.size === 1);
  // One timer is late: what it finds is a jump of its clock.
  const { monotonic } = farm.clock;
  farm.clock.monotonic = () => monotonic.call(farm.clock) + 3_600_000;
  farm.clock.advance(250);
  for (let turn = 0; turn < 20; turn++) await nextTurn();
  assert.equal(job.leases.size, 1);
  assert.deepEqual(job.failures, []);
});

test('a store that was full is looked at again, and then nobody has to store anything to find out', async (t) => {
  const farm = await dispatchedFarm(t);
  farm.dispatcher.start();
  farm.storage.failed(Object.assign(new Error('no space left'), { code: 'ENOSPC' }));
  farm.clock.advance(2750);
  for (let turn = 0; turn < 20; turn++) await nextTurn();
  assert.notEqual(farm.storage.problem, null, 'not at once');
  farm.clock.advance(500);
  await until(() => farm.storage.problem === null);
});
