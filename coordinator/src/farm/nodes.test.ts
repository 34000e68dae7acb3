import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import { Hello } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { attach, memoryFarm, quietSnapshots } from './farm-fixture.ts';
import { Nodes } from './nodes.ts';
import { Office } from './office.ts';

const LEASE_MILLIS = 5000;
const WEEK_MILLIS = 7 * 86_400_000;

/** Two nodes, of which `a` has left in order and `b` is silent, and what has become of them. */
async function farmOfTwo() {
  const farm = await memoryFarm(new ManualClock());
  await farm.nodes.takeOver();
  await attach(farm, 'a');
  await attach(farm, 'b');
  await farm.nodes.left('a', 'the agent got SIGTERM');
  for (const nodeId of ['a', 'b']) farm.nodes.disconnected(nodeId);
  const states = (nodes = farm.nodes) => nodes.all().map((node) => `${node.nodeId} ${nodes.status(node)}`);
  return { ...farm, states };
}

/** The nodes as a coordinator has them that takes the farm over from the journal. */
async function successor({ journal, clock }: Awaited<ReturnType<typeof farmOfTwo>>, term = 2): Promise<Nodes> {
  const office = new Office(() => null);
  const nodes = await Nodes.load({ journal, clock, office, snapshots: quietSnapshots() });
  office.enter(term);
  await nodes.takeOver();
  return nodes;
}

test('a node that left in order is never lost, however long it is away; one that fell silent is', async () => {
  const { nodes, clock, states } = await farmOfTwo();
  clock.advance(LEASE_MILLIS + 1);
  assert.deepEqual(
    nodes.expire(LEASE_MILLIS).map(({ nodeId }) => nodeId),
    ['b'],
  );
  clock.advance(WEEK_MILLIS / 2);
  assert.deepEqual(nodes.expire(LEASE_MILLIS), []);
  assert.deepEqual(states(), ['a left', 'b lost']);
});

test('a coordinator that takes over knows who left, and awaits the others only', async () => {
  const farm = await farmOfTwo();
  const later = await successor(farm);
  assert.deepEqual(
    later.awaited.map(({ nodeId }) => nodeId),
    ['b'],
  );
  farm.clock.advance(60_000);
  assert.deepEqual(
    later.expire(LEASE_MILLIS).map(({ nodeId }) => nodeId),
    ['b'],
  );
  assert.deepEqual(farm.states(later), ['a left', 'b lost']);
  assert.equal(later.get('a')?.left?.reason, 'the agent got SIGTERM');
});

test('a node that comes back has not left any more, here and for whoever takes over', async () => {
  const farm = await farmOfTwo();
  await attach(farm, 'a');
  assert.deepEqual(farm.states(), ['a online', 'b lost']);
  const later = await successor(farm);
  assert.deepEqual(later.awaited.length, 2);
  farm.clock.advance(60_000);
  assert.equal(later.expire(LEASE_MILLIS).length, 2, 'killed after that, it is lost');
});

test('a coordinator that leads again says nothing of when it saw a node in an earlier term', async () => {
  const { nodes, clock } = await farmOfTwo();
  clock.advance(1000);
  nodes.seen('b');
  assert.notEqual(nodes.get('b')?.lastSeenAt, 0);
  await nodes.takeOver();
  assert.equal(nodes.get('b')?.lastSeenAt, 0);
});

test('nodes are forgotten in time also where another coordinator takes over every day', async () => {
  const farm = await farmOfTwo();
  let nodes = farm.nodes;
  for (let day = 0; day < 7; day += 1) {
    assert.equal(nodes.all().length, 2, `day ${day}`);
    farm.clock.advance(LEASE_MILLIS + 5001);
    nodes.expire(LEASE_MILLIS);
    assert.deepEqual(await nodes.forgetAway(WEEK_MILLIS), []);
    farm.clock.advance(WEEK_MILLIS / 7);
    nodes = await successor(farm, day + 2);
  }
  farm.clock.advance(LEASE_MILLIS + 5001);
  nodes.expire(LEASE_MILLIS);
  assert.equal((await nodes.forgetAway(WEEK_MILLIS)).length, 2);
});

test('a node that was recorded as lost and came back is not forgotten for what was before', async () => {
  const farm = await farmOfTwo();
  farm.clock.advance(LEASE_MILLIS + 1);
  farm.nodes.expire(LEASE_MILLIS);
  await farm.nodes.forgetAway(WEEK_MILLIS);
  assert.notEqual(farm.nodes.get('b')?.lostAt, null);
  farm.clock.advance(WEEK_MILLIS - 1000);
  await attach(farm, 'b');
  farm.nodes.disconnected('b');
  const later = await successor(farm);
  farm.clock.advance(60_000);
  later.expire(LEASE_MILLIS);
  const forgotten = await later.forgetAway(WEEK_MILLIS);
  assert.deepEqual(
    forgotten.map(({ nodeId }) => nodeId),
    ['a'],
  );
});

test('nodes that left are forgotten after the same time as lost ones', async () => {
  const { nodes, clock } = await farmOfTwo();
  clock.advance(WEEK_MILLIS);
  nodes.expire(LEASE_MILLIS);
  assert.deepEqual(await nodes.forgetAway(WEEK_MILLIS), []);
  clock.advance(1);
  const forgotten = await nodes.forgetAway(WEEK_MILLIS);
  assert.deepEqual(forgotten.map(({ nodeId }) => nodeId).sort(), ['a', 'b']);
  assert.deepEqual(nodes.all(), []);
});

/** Two hosts of one name: `old` is silent for long, `new` is what the host became, and is there unless it is said otherwise. */
async function twins() {
  const farm = await memoryFarm(new ManualClock());
  const join = (nodeId: string) => farm.nodes.register(Hello.fromPartial({ nodeId, name: 'gpu-1', protocol: 1 }));
  await join('old');
  farm.nodes.disconnected('old');
  farm.clock.advance(LEASE_MILLIS + 1);
  farm.nodes.expire(LEASE_MILLIS);
  await join('new');
  const drained = () => farm.nodes.all().map(({ nodeId, drainReason }) => `${nodeId} ${drainReason ?? 'works'}`);
  return { ...farm, join, drained };
}

test('a name means the node that is there, and not the one that the host was before', async () => {
  const { nodes, drained } = await twins();
  await nodes.drain('gpu-1', 'a new card');
  assert.deepEqual(drained(), ['new a new card', 'old works']);
  await nodes.undrain('gpu-1');
  assert.deepEqual(drained(), ['new works', 'old works']);
  assert.equal(nodes.find('old').nodeId, 'old', 'an identity means its node, wherever it is');
});

test('a name that several nodes have which are there is refused with their identities', async () => {
  const { nodes, drained, join } = await twins();
  await join('third');
  const refusal = { code: 'invalid_argument', message: /"gpu-1" is the name of 2 nodes; .* new or third$/ };
  await assert.rejects(nodes.drain('gpu-1', 'a new card'), refusal);
  await assert.rejects(nodes.undrain('gpu-1'), refusal);
  assert.deepEqual(drained(), ['new works', 'old works', 'third works']);
});

test('to work again is meant for the node of the name that is drained, also if it is away', async () => {
  const { nodes, drained } = await twins();
  await nodes.drain('old', 'a new card');
  await nodes.undrain('gpu-1');
  assert.deepEqual(drained(), ['new works', 'old works']);
  for (const nodeId of ['old', 'new']) await nodes.drain(nodeId, 'a new card');
  await nodes.undrain('gpu-1');
  assert.deepEqual(drained(), ['new works', 'old a new card'], 'of two that are drained the one that is there');
});
