import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { systemClock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import { AgentServiceClient, Hello } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { createLogger } from '@clipfarm/shared/log';
import { clientChannel } from '@clipfarm/shared/rpc/credentials';
import { Link } from './link.ts';
import { createAgentMetrics } from './metrics.ts';
import { FakeCoordinator, until } from './testing/fake-coordinator.ts';

async function coordinator(t: TestContext): Promise<FakeCoordinator> {
  const found = await FakeCoordinator.start();
  t.after(() => found[Symbol.asyncDispose]());
  return found;
}

/** A started link to these coordinators, and what it told its owner. */
function link(t: TestContext, ...coordinators: readonly FakeCoordinator[]) {
  const told: string[] = [];
  const warned: string[] = [];
  const metrics = createAgentMetrics(() => {
    throw new Error('no gauge is read');
  });
  const destination = { write: (line: string) => void warned.push(line) };
  const log = createLogger({ name: 'test', level: 'warn', destination });
  const found = new Link({
    ...{ clock: systemClock, random: () => 0, reconnect: { firstMillis: 20, maxMillis: 200 }, log, metrics },
    addresses: coordinators.map(({ address }) => address),
    dial: (text) => {
      const { address, credentials, options } = clientChannel({ address: text });
      return new AgentServiceClient(address, credentials, { ...options, 'grpc.max_reconnect_backoff_ms': 300 });
    },
    hello: () => Hello.fromPartial({ nodeId: 'n', protocol: 1 }),
    heartbeat: async () => ({ slots: [], spooledChunks: 0, spoolFreeBytes: 0, gpus: [] }),
    onWelcome: ({ term }) => told.push(`welcome ${term}`),
    onMessage: (message) => told.push(message.$case),
    onDisconnected: () => told.push('disconnected'),
  });
  found.start();
  t.after(() => found.close());
  /** What a counter has come to, by its labels' values. */
  const counted = async (name: 'linksRefused' | 'voidMessages' | 'farmChanges') => {
    const { values } = await metrics[name].get();
    return Object.fromEntries(values.map(({ labels, value }) => [Object.values(labels).join(), value]));
  };
  return { link: found, told, warned, counted };
}

const revoke = (term: number) => ({ $case: 'revoke', value: { term, leaseId: 'l', reason: '' } }) as const;

test('each break of the connection is told once and mended by exactly one new connection', async (t) => {
  const farm = await coordinator(t);
  const { told, link: found } = link(t, farm);
  for (let round = 1; round <= 3; round += 1) {
    await until(() => told.length === 2 * round - 1, 'a welcome');
    assert.equal(found.connected, true);
    farm.down();
    await until(() => told.length === 2 * round, 'the break is noticed');
    assert.equal(found.connected, false);
    assert.throws(() => found.client(), { code: 'unavailable' });
    assert.equal(found.send({ $case: 'log', value: { level: 30, message: 'lost', leaseId: '' } }), false);
    await farm.up();
  }
  await until(() => told.length === 7, 'the last welcome');
  assert.deepEqual(told, [...Array(3).fill(['welcome 1', 'disconnected']).flat(), 'welcome 1']);
  assert.equal(farm.hellos.length, 4);
});

test('messages of a lower term are void, and a higher one is remembered', async (t) => {
  const farm = await coordinator(t);
  farm.term = 5;
  const { told, counted } = link(t, farm);
  await until(() => told.length === 1, 'a welcome');
  for (const term of [4, 5, 7, 6]) farm.say(revoke(term));
  farm.say({ $case: 'anchorAck', value: { jobId: 'j', accepted: true, reason: '' } });
  await until(() => told.includes('anchorAck'), 'the last message');
  assert.deepEqual(told, ['welcome 5', 'revoke', 'revoke', 'anchorAck']);
  assert.deepEqual(await counted('voidMessages'), { '': 2 });
  farm.down();
  farm.term = 7;
  await farm.up();
  await until(() => told.includes('welcome 7'), 'the new welcome');
  assert.equal(farm.hellos.at(-1)?.term, 7);
});

test('a coordinator whose term is over is left for the next one', async (t) => {
  const [old, leader] = [await coordinator(t), await coordinator(t)];
  old.term = 8;
  leader.term = 9;
  const { told, warned, counted } = link(t, leader, old);
  await until(() => told.length === 1, 'the welcome of the leader');
  leader.down();
  await until(() => old.hellos.length >= 2, 'the old one is tried again and again');
  assert.match(warned.join(''), /its term 8 is below one that this agent knows: .*restart this agent/);
  assert.deepEqual(told, ['welcome 9', 'disconnected']);
  assert.ok(((await counted('linksRefused')).coordinator_term ?? 0) >= 1);
  await leader.up();
  await until(() => told.length === 3, 'the leader is back');
  assert.equal(told[2], 'welcome 9');
});

test('a coordinator with a new journal is another farm, whose terms count from the beginning', async (t) => {
  const farm = await coordinator(t);
  farm.term = 8;
  const { told, warned, counted } = link(t, farm);
  await until(() => told.length === 1, 'a welcome');
  farm.down();
  farm.term = 1;
  farm.farmId = 'farm-2';
  await farm.up();
  await until(() => told.length === 3, 'the welcome of the new farm');
  farm.say(revoke(1));
  await until(() => told.includes('revoke'), 'a message of the new farm');
  assert.deepEqual(told, ['welcome 8', 'disconnected', 'welcome 1', 'revoke']);
  assert.match(warned.join(''), /the coordinator has another journal/);
  assert.deepEqual(await counted('farmChanges'), { '': 1 });
  assert.deepEqual(
    farm.hellos.map(({ farmId, term }) => [farmId, term]),
    [
      ['', 0],
      ['farm-1', 8],
    ],
  );
});

test('a coordinator that does not tell its farm is held to the terms that the agent knows', async (t) => {
  const [leader, older] = [await coordinator(t), await coordinator(t)];
  leader.term = 8;
  older.farmId = '';
  older.term = 7;
  const { told, warned, link: found } = link(t, leader, older);
  await until(() => told.length === 1, 'the welcome of the leader');
  leader.down();
  await until(() => older.hellos.length >= 2, 'the older one is tried again and again');
  assert.match(warned.join(''), /its term 7 is below one that this agent knows/);
  assert.deepEqual(told, ['welcome 8', 'disconnected']);
  // In an upgrade that is taken back, it is elected anew.
  older.term = 9;
  await until(() => told.length === 3, 'the welcome of the new leader');
  assert.deepEqual([told[2], found.farmId], ['welcome 9', 'farm-1']);
  assert.doesNotMatch(warned.join(''), /another journal/);
});

test('an agent that has not been told the farm does not forget the term when it is', async (t) => {
  const [older, deposed] = [await coordinator(t), await coordinator(t)];
  older.farmId = '';
  older.term = 8;
  deposed.term = 7;
  const { told, link: found } = link(t, older, deposed);
  await until(() => told.length === 1, 'the welcome of the older version');
  assert.equal(found.farmId, '');
  older.down();
  await until(() => deposed.hellos.length >= 2, 'the deposed one is tried again and again');
  assert.deepEqual(told, ['welcome 8', 'disconnected']);
  deposed.term = 9;
  await until(() => told.length === 3, 'it leads now');
  assert.deepEqual([told[2], found.farmId], ['welcome 9', 'farm-1']);
});

for (const [refusal, error] of [
  ['agent_term', new FarmError('unavailable', 'the agent knows term 8', { field: 'hello.term' })],
  ['hello', new FarmError('invalid_argument', 'hello.name: is too long', { field: 'hello.name' })],
  ['hello', new FarmError('failed_precondition', 'the agent speaks protocol 1')],
] as const) {
  test(`a coordinator that refuses the agent with "${error.message}" is counted as ${refusal}, and logged`, async (t) => {
    const farm = await coordinator(t);
    farm.refusal = error;
    const { told, warned, counted } = link(t, farm);
    await until(() => farm.hellos.length >= 2, 'the agent tries again');
    const counts = await counted('linksRefused');
    assert.ok((counts[refusal] ?? 0) >= 1);
    assert.deepEqual(
      Object.keys(counts).filter((key) => counts[key] !== 0),
      [refusal],
    );
    assert.ok(warned.join('').includes(error.message));
    farm.refusal = null;
    await until(() => told.length === 1, 'a welcome');
  });
}

test('a follower sends the agent to the leader, which it does not have to know beforehand', async (t) => {
  const [follower, leader] = [await coordinator(t), await coordinator(t)];
  follower.leader = leader.address;
  leader.term = 3;
  const { told, link: found } = link(t, follower);
  await until(() => told.length === 1, 'the welcome of the leader');
  assert.deepEqual(told, ['welcome 3']);
  assert.deepEqual([follower.redirects, follower.hellos.length, leader.hellos.length], [1, 0, 1]);
  assert.equal(found.client().getChannel().getTarget(), `dns:${leader.address}`);
  leader.down();
  follower.leader = null;
  follower.term = 4;
  await until(() => told.includes('welcome 4'), 'the follower leads now');
});

test('two followers that name each other are asked in turn until one of them leads', async (t) => {
  const [one, other] = [await coordinator(t), await coordinator(t)];
  one.leader = other.address;
  other.leader = one.address;
  const { told } = link(t, one, other);
  await until(() => one.redirects + other.redirects >= 6, 'both are asked again and again');
  assert.deepEqual(told, []);
  other.leader = null;
  await until(() => told.length === 1, 'a welcome');
});

for (const nowhere of ['farm.example:7400', 'dns://farm.example:7400', 'farm.example']) {
  test(`a leader at "${nowhere}", which can not be dialled, is left for the agent's own list`, async (t) => {
    const [follower, leader] = [await coordinator(t), await coordinator(t)];
    follower.leader = nowhere;
    const { told } = link(t, follower, leader);
    await until(() => told.length === 1, 'the next coordinator of the list welcomes the agent');
    assert.equal(follower.redirects, 1);
    assert.equal(leader.hellos.length, 1);
  });
}

test('closing lets the last message through', async (t) => {
  const farm = await coordinator(t);
  const { told, link: found } = link(t, farm);
  await until(() => told.length === 1, 'a welcome');
  found.send({ $case: 'log', value: { level: 30, message: 'goodbye', leaseId: '' } });
  await found.close();
  await until(() => farm.received.some((sent) => sent.$case === 'log'), 'the last message');
  assert.equal(found.connected, false);
});
