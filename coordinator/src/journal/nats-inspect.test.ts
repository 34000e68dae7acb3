import assert from 'node:assert/strict';
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
