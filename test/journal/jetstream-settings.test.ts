import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { connect } from 'nats';
import { eventStream } from '../../coordinator/src/journal/jetstream-layout.ts';
import { jetStreamNames } from '../../coordinator/src/journal/jetstream-names.ts';
import { readAll } from '../../coordinator/src/journal/journal-contract.ts';
import { inspectNats } from '../../coordinator/src/journal/nats-inspect.ts';
import { natsServerBinary, versionOf } from '../harness/nats.ts';
import { events, meta, natsFor, upTo } from './nats-fixture.ts';

const unprivileged = (rest: string) => `no_auth_user: low\n${rest}`;

async function farmOn(t: TestContext, config: string) {
  return (await natsFor(t, { config })).open();
}

test('a stream with other settings is refused with all that differs, unless unsafe is allowed', async (t) => {
  const nats = await natsFor(t);
  const { connection } = await nats.open();
  const jsm = await connection.jetstreamManager();
  await jsm.streams.update('CLIPFARM_EVENTS', { max_age: 3600e9, max_msgs: 10 });
  await assert.rejects(nats.open(), {
    code: 'failed_precondition',
    message: /CLIPFARM_EVENTS is not as .* max_msgs is 10, needed is -1; max_age is 3600000000000, needed is 0/,
    hint: /nats stream edit CLIPFARM_EVENTS/,
  });
  const { journal } = await nats.open({ allowUnsafe: true });
  assert.equal(await journal.append('s', 0, events(1), meta), 1);
});

test('a stream that acknowledges what is not on the disk is refused, whatever the server syncs', async (t) => {
  const nats = await natsFor(t);
  const [binary, version] = [natsServerBinary(), versionOf(natsServerBinary())];
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major === 2 && minor < 12) {
    t.skip(`nats-server knows persist_mode from 2.12 on; ${binary} is ${version}`);
    return;
  }
  const connection = await connect({ servers: [...nats.urls] });
  t.after(() => connection.close());
  const jsm = await connection.jetstreamManager();
  const wanted = eventStream(jetStreamNames('clipfarm'), 1);
  const asynchronous = { persist_mode: 'async' };
  await jsm.streams.add({ name: wanted.name, ...wanted.settings, ...asynchronous });
  await assert.rejects(nats.open(), {
    code: 'failed_precondition',
    message: /CLIPFARM_EVENTS is not as the journal needs it: persist_mode is "async", needed is "default", which/,
  });
});

test('more copies than servers are refused in words that say so', async (t) => {
  const nats = await natsFor(t);
  await assert.rejects(nats.open({ replicas: 3 }), {
    code: 'failed_precondition',
    field: 'replicas',
    message: /replicas: 3; this NATS has fewer servers/,
  });
});

test('with monitoring addresses, a server that does not sync each write is refused; without, it is said to be unknown', async (t) => {
  const lazy = await natsFor(t, { syncInterval: '2m' });
  const monitors = lazy.servers.map(({ monitor }) => monitor);
  await assert.rejects(lazy.open({ monitors }), {
    code: 'failed_precondition',
    message: /not always: a power cut loses acknowledged writes/,
    hint: /sync_interval: always/,
  });
  const { connection } = await lazy.open({ monitors, allowUnsafe: true });
  const sync = async (options?: { monitors: string[] }) => {
    const findings = await inspectNats(connection, options);
    return findings.filter(({ check }) => check.startsWith('NATS sync')).map(({ level }) => level);
  };
  assert.deepEqual(await sync({ monitors }), ['error']);
  assert.deepEqual(await sync(), ['warning']);
  assert.deepEqual(await sync({ monitors: ['http://127.0.0.1:1'] }), ['warning']);
  const careful = await natsFor(t);
  assert.deepEqual(await sync({ monitors: careful.servers.map(({ monitor }) => monitor) }), ['ok']);
});

test('an account without JetStream is refused in words that say so', async (t) => {
  const config = unprivileged('accounts { A { users: [{ user: low, password: x }] } }');
  await assert.rejects(farmOn(t, config), { code: 'failed_precondition', message: /JetStream: not enabled/ });
});

test('a user that may not publish events is told what is not allowed', async (t) => {
  const user = '{ user: low, password: x, permissions: { publish: { deny: ["clipfarm.events.>"] } } }';
  const { journal } = await farmOn(t, unprivileged(`authorization { users: [${user}] }`));
  await assert.rejects(journal.append('s', 0, events(1), meta), {
    code: 'permission_denied',
    message: /publish to clipfarm\.events\.s is not allowed/,
  });
  assert.deepEqual(await journal.streams(), [], 'the connection works on');
});

test('an account that is full refuses appends with resource_exhausted and keeps what it has', async (t) => {
  const config = unprivileged('accounts { A { jetstream: { max_file: 100KB }, users: [{ user: low, password: x }] } }');
  const { journal, connection } = await farmOn(t, config);
  let stored = 0;
  const fill = async () => {
    for (;;) stored = await journal.append('s', stored, [{ type: 'n', data: 'x'.repeat(10_000) }], meta);
  };
  await assert.rejects(fill(), { code: 'resource_exhausted', hint: /account limits/ });
  assert.ok(stored > 3);
  assert.equal((await readAll(journal, 's')).length, stored);
  const findings = await inspectNats(connection);
  assert.equal(findings.find(({ check }) => check === 'JetStream')?.level, 'warning');
});

test('an append larger than a message is refused with the limit; a snapshot is cut to fit', async (t) => {
  const { journal } = await farmOn(t, 'max_payload: 32KB');
  const large = [{ type: 'n', data: 'x'.repeat(40_000) }];
  await assert.rejects(journal.append('s', 0, large, meta), {
    code: 'invalid_argument',
    field: 'data',
    message: /append to stream s has 40\d\d\d bytes; this NATS accepts at most 30720/,
    hint: /max_payload/,
  });
  const many = upTo(200).map((n) => journal.append('s', n - 1, [{ type: 'n', data: 'x'.repeat(1000) }], meta));
  assert.deepEqual(await Promise.all(many), upTo(200), 'appends that wait share messages only as large as allowed');
  const data = { text: 'ä'.repeat(100_000) };
  await journal.saveSnapshot('s', 200, data);
  assert.deepEqual(await journal.loadSnapshot('s'), { position: 200, data });
});
