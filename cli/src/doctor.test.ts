import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { FarmError } from '@clipfarm/shared/errors';
import { type Node, NodeState, SlotState } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { startServer } from '@clipfarm/shared/rpc/rpc-harness';
import { startFakeFarm } from './testing/fake-farm.ts';
import { node } from './testing/farm-fixtures.ts';
import { cli } from './testing/run-cli.ts';

/** Nothing listens there. */
const DEAD = '127.0.0.1:1';

test('doctor refuses options of checks that are not asked for', async () => {
  for (const [flag, value, asked] of [
    ['--checkout', '/opt/LiveAvatar', '--gpu'],
    ['--profile', 'single-80g', '--gpu'],
    ['--nats-monitor', 'http://n1:8222', '--journal'],
  ] as const) {
    const { code, err } = await cli(undefined, 'doctor', flag, value);
    assert.equal(code, 2);
    assert.equal(err, `error: ${flag} has no effect without ${asked}\n`);
  }
});

test('doctor refuses an address of NATS that can be none, as any other wrong value', async () => {
  const { code, out, err } = await cli(undefined, 'doctor', '--journal', 'foo');
  assert.equal(code, 2);
  assert.equal(out, '');
  assert.match(err, /^error: --journal is "foo"; accepted: .*nats:\/\/HOST.*\ntry: clipfarm doctor --help\n$/);
  const silent = await cli(undefined, 'doctor', '--journal', 'nats://127.0.0.1:1', '-o', 'json');
  assert.equal(silent.code, 1);
  const checks: { name: string; ok: boolean }[] = JSON.parse(silent.out).checks;
  assert.ok(checks.some(({ name, ok }) => name !== 'node' && !ok));
});

test('doctor says what to do about each failed check', async (t) => {
  const farm = await startFakeFarm(t);
  const good = await cli(farm, 'doctor', '-o', 'json');
  const checks: { name: string; ok: boolean }[] = JSON.parse(good.out).checks;
  assert.deepEqual(
    checks.map(({ name }) => name),
    ['node', 'ffmpeg', 'disk', 'coordinator', 'slots'],
  );
  assert.ok(checks.filter(({ name }) => name === 'coordinator' || name === 'slots').every(({ ok }) => ok));
  const [one] = farm.state.nodes;
  const broken = { state: SlotState.SLOT_STATE_RECOVERING, stateReason: 'the runner did not start: no python3' };
  farm.state.nodes = [{ ...(one ?? assert.fail()), slots: (one?.slots ?? []).map((slot) => ({ ...slot, ...broken })) }];
  const noRunner = await cli(farm, 'doctor');
  assert.equal(noRunner.code, 1);
  assert.match(noRunner.out, /failed {2}slots .*is recovering: the runner did not start: no python3\n +try: /);
  assert.match((await cli(farm, 'nodes')).out, /recovering .*the runner did not start: no python3$/m);
  const long = `the runner did not start: ${'no '.repeat(40)}python3`;
  farm.state.nodes = farm.state.nodes.map((node) => ({
    ...node,
    slots: node.slots.map((slot) => ({ ...slot, stateReason: long })),
  }));
  assert.ok((await cli(farm, 'nodes')).out.includes(`\n${one?.name}/gpu0: ${long}\n`), 'a long reason is told whole');
  farm.state.nodes = [];
  const noSlots = await cli(farm, 'doctor');
  assert.equal(noSlots.code, 1);
  assert.match(
    noSlots.out,
    /failed {2}slots +0 slots on 0 nodes online\n +try: Start an agent: clipfarm agent --coordinator 127\.0\.0\.1:\d+;/,
  );
  const alone = await cli(undefined, 'doctor', '--coordinator', '127.0.0.1:1');
  assert.equal(alone.code, 1);
  assert.match(alone.out, /failed {2}coordinator +no coordinator answers at 127\.0\.0\.1:1/);
});

/** A coordinator that does not lead. @param leader whom it names, if anybody */
async function startFollower(t: TestContext, leader?: string): Promise<string> {
  const listNodes = (): never => {
    if (leader === undefined)
      throw new FarmError('unavailable', 'no coordinator leads just now: no connection to NATS');
    throw new FarmError('unavailable', `this coordinator follows; the one at ${leader} leads`, { leader });
  };
  const { port } = await startServer(t, (wrap) => ({ listNodes: wrap.unary(listNodes) }));
  return `127.0.0.1:${port}`;
}

/** What doctor says of these coordinators, a line each. */
async function examined(...addresses: readonly string[]) {
  const { code, out } = await cli(undefined, 'doctor', '--coordinator', addresses.join());
  return { code, lines: out.split('\n').filter((line) => / {2}coordinator {2}/.test(line)), out };
}

test('each coordinator has a line: who leads, who follows, and who is gone, which is no failure where others go on', async (t) => {
  const { address } = await startFakeFarm(t);
  const follower = await startFollower(t, address);
  const { code, lines, out } = await examined(follower, DEAD, address);
  assert.equal(code, 0, out);
  assert.deepEqual(lines, [
    `ok      coordinator  ${follower} answers and follows; the one at ${address} leads`,
    `unsafe  coordinator  no coordinator answers at ${DEAD}: connect ECONNREFUSED ${DEAD}; the farm goes on without it`,
    `ok      coordinator  ${address} answers and leads`,
  ]);
  assert.match(out, /^ok +slots +2 slots on 2 nodes online$/m);
});

test('a leader that only a follower names leads all the same', async (t) => {
  const { address } = await startFakeFarm(t);
  const { code, out } = await examined(await startFollower(t, address));
  assert.equal(code, 0, out);
  assert.match(out, /^ok +slots +2 slots/m);
});

test('it is a failure when followers answer and nobody leads, or nobody answers at all', async (t) => {
  const orphan = await startFollower(t, DEAD);
  const lost = await startFollower(t);
  const nobodyLeads = await examined(orphan, lost, DEAD);
  assert.equal(nobodyLeads.code, 1);
  assert.deepEqual(nobodyLeads.lines, [
    `failed  coordinator  ${orphan} answers and follows, but the one that led, at ${DEAD}, does not answer`,
    `failed  coordinator  ${lost} answers: no coordinator leads just now: no connection to NATS`,
    `failed  coordinator  no coordinator answers at ${DEAD}: connect ECONNREFUSED ${DEAD}`,
  ]);
  assert.match(nobodyLeads.out, /^failed +slots +not known without a coordinator that leads$/m);
  assert.equal((await examined(DEAD)).code, 1);
});

test('drained nodes are named, with the way to let them work; beside others that work they are no failure', async (t) => {
  const farm = await startFakeFarm(t);
  const drained: Node = { ...node('a', 'ann'), state: NodeState.NODE_STATE_DRAINING, stateReason: 'new disk' };
  farm.state.nodes = [drained];
  const alone = await cli(farm, 'doctor');
  assert.equal(alone.code, 1);
  assert.match(
    alone.out,
    /^failed +slots +0 slots on 0 nodes online; ann is drained: new disk\n +try: Let ann work again: clipfarm node undrain ann$/m,
  );
  farm.state.nodes = [drained, node('b', 'bob')];
  const beside = await cli(farm, 'doctor');
  assert.equal(beside.code, 0);
  assert.match(beside.out, /^ok +slots +1 slot on 1 node online; ann is drained: new disk$/m);
});

test('nodes that are lost or have left are named where no other is there', async (t) => {
  const farm = await startFakeFarm(t);
  farm.state.nodes = [
    { ...node('a', 'ann'), state: NodeState.NODE_STATE_LOST, stateReason: 'no sign of life' },
    { ...node('b', 'bob'), state: NodeState.NODE_STATE_LEFT, stateReason: 'the agent got SIGTERM' },
  ];
  const { out } = await cli(farm, 'doctor');
  assert.match(out, /0 nodes online; ann is lost: no sign of life and bob has left: the agent got SIGTERM\n/);
  assert.match(out, /try: Look on the host of ann .* Start the agent of bob again: it was stopped\.$/m);
});
