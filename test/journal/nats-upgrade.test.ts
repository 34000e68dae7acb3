import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readAll } from '../../coordinator/src/journal/journal-contract.ts';
import { patiently, until } from '../harness/farm.ts';
import { natsServerBinary, usualNatsServer, versionOf } from '../harness/nats.ts';
import { events, insist, meta, natsFor, numbersOf, type Opened, upTo } from './nats-fixture.ts';

/** True when the first version is older. */
function isOlder(one: string, other: string): boolean {
  return one.localeCompare(other, 'en', { numeric: true }) < 0;
}

const [from, to] = [usualNatsServer(), natsServerBinary()];
const [before, after] = [versionOf(from), versionOf(to)];
const skip = isOlder(before, after) ? false : `no newer NATS server than ${before}; run: npm run test:nats-versions`;

/** Waits until every server has all that the farm's streams hold. */
async function upToDate({ connection }: Opened): Promise<void> {
  const jsm = await connection.jetstreamManager({ checkAPI: false });
  const lagging = async () => {
    const infos = await jsm.streams.list().next();
    return infos.flatMap(({ config, cluster }) => {
      const current = (cluster?.replicas ?? []).filter((replica) => replica.current);
      return cluster?.leader !== undefined && current.length === 2 ? [] : [config.name];
    });
  };
  await until(async () => (await lagging().catch(() => ['nobody answers'])).length === 0, 'all servers are up to date');
}

test('NATS servers are replaced by newer ones one at a time, and the farm keeps every event and goes on', {
  skip,
}, async (t) => {
  const nats = await natsFor(t, { size: 3, binary: from });
  const opened = await nats.open({ timeoutMillis: 10_000 });
  const { journal, election } = opened;
  const candidate = { id: 'a', address: 'a:1' };
  const first = await election.campaign(candidate, AbortSignal.timeout(60_000));
  await first.release();
  let position = await insist(journal, 's', 0, events(1));
  const seen: number[] = [];
  journal.watch((stored) => seen.push(...numbersOf(stored.filter(({ stream }) => stream === 's'))));
  await insist(journal, 'snapshot', 0, events(1));
  await patiently(() => journal.saveSnapshot('snapshot', 1, { of: before }));
  for (const server of nats.servers) {
    await server.stop();
    for (let count = 0; count < 20; count++) position = await insist(journal, 's', position, events(position + 1));
    server.replace(to);
    await server.start();
    await upToDate(opened);
  }
  const versions = nats.servers.map(async ({ monitor }) => {
    const { version } = (await (await fetch(`${monitor}/varz`)).json()) as { readonly version: string };
    return version;
  });
  assert.deepEqual(await Promise.all(versions), [after, after, after]);
  position = await insist(journal, 's', position, events(position + 1));
  assert.deepEqual(numbersOf(await patiently(() => readAll(journal, 's'))), upTo(position));
  assert.deepEqual(await patiently(() => journal.loadSnapshot('snapshot')), { position: 1, data: { of: before } });
  await until(() => seen.at(-1) === position, 'the watcher has heard of everything');
  assert.deepEqual(seen, upTo(position).slice(1));
  const second = await election.campaign(candidate, AbortSignal.timeout(60_000));
  assert.ok(second.term > first.term, `terms rise: ${first.term}, ${second.term}`);
  // Another coordinator, started now, finds the streams as it needs them.
  const late = await nats.open({ timeoutMillis: 10_000 });
  assert.equal(await late.journal.append('s', position, events(position + 1), meta), position + 1);
});
