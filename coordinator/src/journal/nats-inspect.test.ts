import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { ErrorCode, type NatsConnection, NatsError } from 'nats';
import { inspectNats, inspectVersion } from './nats-inspect.ts';

test('versions that can lose acknowledged writes whatever their settings are refused', () => {
  const levels = (versions: readonly string[]) => versions.map((version) => inspectVersion(version).level);
  for (const level of levels(['2.9.10', '2.9.25', '1.4.1', '2.10.20', '2.10.22', ''])) assert.equal(level, 'error');
  for (const level of levels(['2.10.0', '2.10.19', '2.10.23', '2.10.27', '2.11.0-RC.1', '2.15.1', '3.0.0'])) {
    assert.equal(level, 'ok');
  }
  assert.match(inspectVersion('2.9.10').detail, /2\.9\.10; it can't number the leaders' terms, nor keep acknowledged/);
  assert.deepEqual([inspectVersion('2.9.10').hopeless, inspectVersion('2.10.20').hopeless], [true, undefined]);
});

test('servers that do not answer while they start or elect are told apart from servers without JetStream', async () => {
  const answering = async (code: ErrorCode, jetstream: boolean) => {
    const jetstreamManager = () => Promise.reject(NatsError.errorForCode(code));
    const info = { version: '2.10.27', cluster: 'c', jetstream };
    const findings = await inspectNats({ info, jetstreamManager } as unknown as NatsConnection);
    return findings.find(({ check }) => check === 'JetStream');
  };
  for (const code of [ErrorCode.Timeout, ErrorCode.NoResponders]) {
    const silent = await answering(code, true);
    assert.deepEqual([silent?.level, silent?.temporary], ['error', true]);
  }
  const without = await answering(ErrorCode.NoResponders, false);
  assert.deepEqual([without?.level, without?.temporary], ['error', undefined]);
  assert.match(without?.detail ?? '', /not enabled/);
});

test('of a server whose JetStream has stopped it is not said that it syncs too rarely; a farm may start on the others', async (t) => {
  let jetstream: unknown;
  const monitor = createServer((_, response) => response.end(JSON.stringify({ jetstream })));
  t.after(() => monitor.close());
  await once(monitor.listen(0, '127.0.0.1'), 'listening');
  const monitors = [`http://127.0.0.1:${(monitor.address() as AddressInfo).port}`];
  const jetstreamManager = () => Promise.reject(NatsError.errorForCode(ErrorCode.Timeout));
  const connection = { info: { version: '2.12.15' }, jetstreamManager } as unknown as NatsConnection;
  const found = async (told: unknown) => {
    jetstream = told;
    const findings = await inspectNats(connection, { monitors });
    return findings.find(({ check }) => check.startsWith('NATS sync'));
  };
  assert.equal((await found({ config: { sync_always: true } }))?.level, 'ok');
  assert.match((await found({ config: { sync_interval: 120e9 } }))?.detail ?? '', /^not always/);
  const stopped = await found({});
  assert.deepEqual(
    [stopped?.level, stopped?.detail.split(';')[0]],
    ['warning', 'unknown: JetStream does not run on this server'],
  );
});
