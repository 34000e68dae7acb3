import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import { createLogger } from '@clipfarm/shared/log';
import { attach, grant, memoryFarm, submit } from './farm-fixture.ts';
import { LeaseWatch } from './lease-watch.ts';
import { LeftOutJobs } from './left-out-jobs.ts';

const LEASE_MILLIS = 5000;
/** Three times what the agent gets, and that is the floor for slots that take a second per clip. */
const STUCK_MILLIS = 60_000;

/** A job with a lease on each of two nodes. */
async function watchedFarm() {
  const farm = await memoryFarm(new ManualClock());
  const job = await submit(farm);
  const leases: string[] = [];
  for (const [n, nodeId] of ['a', 'b'].entries()) {
    await attach(farm, nodeId);
    leases.push(await grant(farm, job, { nodeId, slotId: '0', start: 50 * n, end: 50 * n + 50 }));
  }
  const lines: string[] = [];
  const log = createLogger({ name: 'test', level: 'warn', destination: { write: (line) => lines.push(line) } });
  const watch = new LeaseWatch({
    ...farm,
    leftOut: new LeftOutJobs(farm.clock, log),
    leaseMillis: LEASE_MILLIS,
    hangFloorSeconds: 20,
    log,
  });
  /** Lets time pass with signs of life from these nodes at the end of it, and looks. */
  const pass = async (millis: number, alive: readonly string[] = ['a', 'b']) => {
    farm.clock.advance(millis);
    for (const nodeId of alive) farm.nodes.seen(nodeId);
    await watch.check();
    return [...job.leases.values()].map((lease) => lease.nodeId);
  };
  return { ...farm, job, watch, pass, lines, leaseOnA: leases[0] ?? '' };
}

test('a node that is silent for a lease time loses its leases, the others keep theirs', async () => {
  const { job, pass } = await watchedFarm();
  assert.deepEqual(await pass(10_000), ['a', 'b'], 'heard of just now');
  assert.deepEqual(await pass(5000, ['b']), ['a', 'b'], 'not longer than a lease time');
  assert.deepEqual(await pass(1, ['b']), ['b']);
  const [failure] = job.failures;
  assert.deepEqual([failure?.failureClass, failure?.nodeId], ['node_lost', 'a']);
});

test('whoever is lost is named as operators know it, with how long it was silent', async () => {
  const { nodes, clock, pass, lines } = await watchedFarm();
  await pass(5001, ['b']);
  const [first, ...more] = lines.splice(0).map((line): unknown => JSON.parse(line));
  const msg = 'node lost: no sign of life for a lease time';
  assert.partialDeepStrictEqual(first, { node_id: 'a', node: 'a', silent_seconds: 5.001, msg });
  assert.deepEqual(more, []);
  await nodes.takeOver();
  clock.advance(20_000);
  await pass(0, ['b']);
  const anew = 'node lost: it did not attach after this coordinator took over';
  assert.partialDeepStrictEqual(JSON.parse(lines.join('')), { node_id: 'a', node: 'a', msg: anew });
});

test('a lease that crossed with the goodbye of its agent is given back after a lease time, and is no failure', async () => {
  const { nodes, job, pass, lines } = await watchedFarm();
  await nodes.left('a', 'the agent got SIGTERM');
  assert.deepEqual(await pass(5000, ['b']), ['a', 'b'], 'its agent may be back, for all that is known');
  assert.deepEqual(await pass(1, ['b']), ['b']);
  assert.deepEqual([job.failures, lines], [[], []]);
});

test('a lease that stands still ends at three times its agent’s limit and not before', async () => {
  const { job, pass } = await watchedFarm();
  await pass(0);
  assert.deepEqual(await pass(STUCK_MILLIS), ['a', 'b']);
  assert.deepEqual(await pass(1), []);
  assert.deepEqual(
    job.failures.map((failure) => failure.failureClass),
    ['hang', 'hang'],
  );
  assert.match(job.failures[0]?.message ?? '', /no progress for 60 s/);
});

test('progress gives a lease its whole time again, and a repetition of it does not', async () => {
  const { fleet, pass, leaseOnA } = await watchedFarm();
  await pass(0);
  await pass(40_000);
  fleet.noteProgress('a', leaseOnA, { clip: 3, fraction: 0.5 });
  assert.deepEqual(await pass(40_000), ['a']);
  fleet.noteProgress('a', leaseOnA, { clip: 3, fraction: 0.5 });
  assert.deepEqual(await pass(20_001), []);
});

test('while it was nobody’s fault no time runs, and all of it runs again afterwards', async () => {
  const { watch, pass } = await watchedFarm();
  await pass(0);
  await pass(STUCK_MILLIS - 1);
  watch.excuse();
  assert.deepEqual(await pass(STUCK_MILLIS), ['a', 'b']);
  assert.deepEqual(await pass(1), []);
});

test('while its agent loads the model for it, a lease is the agent’s to judge, for an hour', async () => {
  const { nodes, pass, leaseOnA } = await watchedFarm();
  const says = (state: 'SLOT_STATE_LOADING' | 'SLOT_STATE_RENDERING', leaseId = leaseOnA) => {
    const status = { slotId: '0', leaseId, openLeaseId: '', currentClip: 0, clipProgress: 0, stateReason: '' };
    nodes.reported('a', [{ ...status, state }]);
  };
  says('SLOT_STATE_LOADING');
  await pass(0);
  assert.deepEqual(await pass(STUCK_MILLIS + 1), ['a'], 'the other one says nothing of that kind');
  says('SLOT_STATE_RENDERING');
  assert.deepEqual(await pass(STUCK_MILLIS), ['a'], 'its whole time begins when it is loaded');
  says('SLOT_STATE_LOADING');
  assert.deepEqual(await pass(3_600_000 - 2 * STUCK_MILLIS - 1), ['a']);
  assert.deepEqual(await pass(STUCK_MILLIS), ['a']);
  assert.deepEqual(await pass(1), [], 'and not for ever');
});

test('a slot that loads for another lease, or for none, excuses nothing', async () => {
  const { nodes, pass } = await watchedFarm();
  const status = { slotId: '0', openLeaseId: '', currentClip: 0, clipProgress: 0, stateReason: '' };
  nodes.reported('a', [{ ...status, leaseId: '', state: 'SLOT_STATE_LOADING' }]);
  await pass(0);
  assert.deepEqual(await pass(STUCK_MILLIS + 1), []);
});
