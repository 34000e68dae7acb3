import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type Clock, systemClock } from '@clipfarm/shared/clock';
import { checkNats } from '../../coordinator/src/journal/nats-check.ts';
import type { NatsFinding } from '../../coordinator/src/journal/nats-inspect.ts';
import { type Nats, natsFor } from './nats-fixture.ts';

/** On which nothing takes long: how fast the disk of this machine is, and how busy it is, decides nothing. */
const clock: Clock = { ...systemClock, monotonic: () => 0 };

const check = ({ urls }: Nats, more: { monitors?: readonly string[]; replicas?: number } = {}) =>
  checkNats({ servers: urls, prefix: 'clipfarm', clock, ...more });

/** Findings that are not ok, by the beginning of their name. */
function problems(findings: readonly NatsFinding[]): Record<string, string> {
  const bad = findings.filter(({ level }) => level !== 'ok');
  for (const { check: name, fix } of bad) assert.ok((fix ?? '').length > 10, `${name} says what to do`);
  return Object.fromEntries(bad.map(({ check: name, level, detail }) => [name, `${level}: ${detail}`]));
}

async function streamNames(nats: Nats): Promise<string[]> {
  const { connection } = await nats.open();
  const names: string[] = [];
  for await (const { config } of (await connection.jetstreamManager()).streams.list()) names.push(config.name);
  return names.sort();
}

test('a cluster that keeps what it acknowledges passes, before and after a farm is on it, and is left as it was', async (t) => {
  const nats = await natsFor(t, { size: 3 });
  const monitors = nats.servers.map(({ monitor }) => monitor);
  const before = await check(nats, { monitors });
  assert.deepEqual(problems(before), {});
  assert.equal(before.filter(({ check: name }) => name.startsWith('NATS server 127')).length, 3);
  assert.ok(before.some(({ detail }) => detail === 'a stream with 3 copies can be made, written and read'));
  assert.ok(before.some(({ detail }) => detail.startsWith('not there yet')));
  const { journal } = await nats.open();
  await journal.append('s', 0, [{ type: 'n', data: {} }], { at: 1, term: 1 });
  assert.deepEqual(problems(await check(nats, { monitors })), {});
  assert.deepEqual(await streamNames(nats), ['CLIPFARM_EVENTS', 'KV_CLIPFARM_LEADER', 'KV_CLIPFARM_SNAPSHOTS']);
  assert.deepEqual(await journal.streams(), [{ stream: 's', position: 1 }], 'nothing is written to the farm');
});

test('each thing that is unsafe or missing is found, with what to do', async (t) => {
  const nats = await natsFor(t, { syncInterval: '2m' });
  const { connection } = await nats.open();
  await (await connection.jetstreamManager()).streams.update('CLIPFARM_EVENTS', { max_age: 3600e9 });
  const { monitor = '' } = nats.servers[0] ?? {};
  const servers = [...nats.urls, 'nats://127.0.0.1:1'];
  const options = { servers, prefix: 'clipfarm', clock, monitors: [monitor], replicas: 3 };
  const found = problems(await checkNats(options));
  assert.match(found['NATS server 127.0.0.1:1'] ?? '', /^error: no connection/);
  assert.match(found[`NATS sync at ${monitor}`] ?? '', /^error: not always: a power cut loses/);
  assert.match(found['stream CLIPFARM_EVENTS'] ?? '', /^error: num_replicas is 1, needed is 3; max_age is 36/);
  assert.match(found['NATS copies'] ?? '', /^error: 3 copies are wanted, and fewer servers/);
  assert.match(found['NATS servers'] ?? '', /^warning: one server alone/);
  const unasked = await check(nats);
  assert.match(problems(unasked)['NATS sync'] ?? '', /^warning: unknown: no monitoring address/);
  assert.match(unasked.find(({ check: name }) => name === 'NATS sync')?.fix ?? '', /--nats-monitor/);
});

test('every operation that this user may not do is found at once', async (t) => {
  const denied = ['clipfarm.events.>', '$KV.CLIPFARM_LEADER.>', 'clipfarm.jobs.>'];
  const permissions = `publish: { deny: ${JSON.stringify(denied)} }`;
  const config = `no_auth_user: low\nauthorization { users: [{ user: low, password: x, permissions: { ${permissions} } }] }`;
  const nats = await natsFor(t, { config });
  for (const round of ['before', 'after']) {
    const found = problems(await check(nats))['NATS permissions'] ?? '';
    for (const subject of ['clipfarm.events.check', '$KV.CLIPFARM_LEADER.check', 'clipfarm.jobs.check']) {
      assert.ok(found.includes(`publish to ${subject}`), `${round} the farm: ${found}`);
    }
    assert.ok(!found.includes('SNAPSHOTS'));
    await nats.open();
  }
});

test('no NATS at all, and one without JetStream, are told apart', async (t) => {
  const none = await checkNats({ servers: ['nats://127.0.0.1:1'], prefix: 'clipfarm', clock });
  assert.deepEqual(
    none.map(({ level }) => level),
    ['error', 'error'],
  );
  const config = 'no_auth_user: low\naccounts { A { users: [{ user: low, password: x }] } }';
  const found = problems(await check(await natsFor(t, { config })));
  assert.match(found.JetStream ?? '', /^error: not enabled/);
});

test('clipfarm doctor shows it, and its exit code says whether a farm may be put there', async (t) => {
  const nats = await natsFor(t);
  const main = fileURLToPath(new URL('../../cli/src/main.ts', import.meta.url));
  const doctor = (...args: string[]) =>
    new Promise<{ code: number | null; out: string }>((resolve) => {
      const argv = [main, 'doctor', '--journal', nats.urls.join(','), ...args];
      const child = execFile(process.execPath, argv, (_, out) => resolve({ code: child.exitCode, out }));
    });
  const text = await doctor('--nats-monitor', nats.servers[0]?.monitor ?? '');
  assert.match(text.out, /ok {6}NATS sync at \S+ +always\n/);
  assert.match(text.out, /unsafe {2}NATS servers +one server alone: its disk is the only copy\n +try: Run a cluster/);
  const json = await doctor('-o', 'json', '--nats-replicas', '3');
  const { checks } = JSON.parse(json.out) as { checks: { name: string; ok: boolean }[] };
  assert.equal(json.code, 1);
  assert.deepEqual(
    checks.filter(({ ok }) => !ok).map(({ name }) => name),
    ['NATS copies'],
  );
});

test('the permissions that the documentation names are enough for everything', async (t) => {
  const publish = ['clipfarm.>', '$KV.CLIPFARM_SNAPSHOTS.>', '$KV.CLIPFARM_LEADER.>', '$JS.API.>'];
  const permissions = `publish: { allow: ${JSON.stringify(publish)} }, subscribe: { allow: ["_INBOX.>"] }`;
  const config = `no_auth_user: low\nauthorization { users: [{ user: low, password: x, permissions: { ${permissions} } }] }`;
  const nats = await natsFor(t, { config });
  const { journal, election, troubles } = await nats.open();
  const { term } = await election.campaign({ id: 'a', address: 'a:1' }, AbortSignal.timeout(60_000));
  await journal.append('s', 0, [{ type: 'n', data: {} }], { at: 1, term });
  await journal.saveSnapshot('s', 1, 'one');
  await journal.trim('s', 1);
  await journal.remove('s');
  assert.deepEqual(troubles(), []);
  const found = problems(await check(nats));
  assert.deepEqual(Object.keys(found), ['NATS servers', 'NATS sync']);
});
