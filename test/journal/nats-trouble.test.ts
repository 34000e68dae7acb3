import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { readAll } from '../../coordinator/src/journal/journal-contract.ts';
import { wordsOf } from '../../coordinator/src/journal/journal-trouble.ts';
import { until } from '../harness/farm.ts';
import { startNatsCluster } from '../harness/nats.ts';
import { SmallDisk } from '../harness/small-disk.ts';
import { FastClock } from './fast-clock.ts';
import { events, insist, meta, natsFor, numbersOf, type Opened, upTo } from './nats-fixture.ts';
import { openQuietly } from './open-quietly.ts';

/** The journal looks after its streams every five seconds, with this every half. */
const fast = new FastClock(10);

/** Waits until the journal says something that fits, or, for null, that nothing is wrong. */
async function says({ troubles }: Pick<Opened, 'troubles'>, wanted: RegExp | null): Promise<void> {
  await until(
    () => {
      const said = wordsOf(troubles());
      return wanted === null ? said === null : said !== null && wanted.test(said);
    },
    () => `it says ${wanted ?? 'nothing'}; it says ${JSON.stringify(troubles())}`,
  );
}

/** Fails as it must within a bounded time. */
async function refused(append: Promise<unknown>, code: string): Promise<void> {
  const started = performance.now();
  await assert.rejects(append, { code });
  assert.ok(performance.now() - started < 60_000, 'a caller does not wait for ever');
}

/** Whether a server takes writes again by itself, once its disk has room; from 2.14 on it has to be restarted. */
function recoversByItself({ info }: Opened['connection']): boolean {
  const [major = 0, minor = 0] = (info?.version ?? '').split('.').map(Number);
  return major === 2 && minor < 14;
}

describe('a journal whose NATS is in trouble', { concurrency: true }, () => {
  test('while NATS is down appends fail in time and it is said; when it is back, all goes on', async (t) => {
    const nats = await natsFor(t);
    const opened = await nats.open({ timeoutMillis: 2000 });
    const { journal } = opened;
    await insist(journal, 's', 0, events(1));
    assert.deepEqual(opened.troubles(), []);
    await nats.servers[0]?.kill();
    await says(opened, /^no connection to NATS since \d{4}-/);
    await refused(journal.append('s', 1, events(2), meta), 'unavailable');
    await nats.servers[0]?.start();
    await says(opened, null);
    assert.equal(await insist(journal, 's', 1, events(2)), 2);
  });

  test('a stream that is gone or altered while the farm runs is named, and so is that it is mended', async (t) => {
    const nats = await natsFor(t);
    const opened = await nats.open({ timeoutMillis: 20_000 }, fast);
    await insist(opened.journal, 's', 0, events(1));
    const { streams } = await opened.connection.jetstreamManager();
    await streams.update('CLIPFARM_EVENTS', { max_msgs: 5 });
    await says(opened, /CLIPFARM_EVENTS was altered: max_msgs is 5, needed is -1/);
    await streams.update('CLIPFARM_EVENTS', { max_msgs: -1 });
    await says(opened, null);
    const { config } = await streams.info('CLIPFARM_EVENTS');
    await streams.delete('CLIPFARM_EVENTS');
    await says(opened, /CLIPFARM_EVENTS is gone: restore it from a backup/);
    await refused(opened.journal.append('s', 1, events(2), meta), 'unavailable');
    assert.equal(
      (await streams.list().next()).some(({ config: { name } }) => name === 'CLIPFARM_EVENTS'),
      false,
    );
    await streams.add(config);
    await says(opened, null);
  });

  test('what a user may not do is told by its subject, also where only a status event tells it', async (t) => {
    const permissions = 'publish: { deny: ["clipfarm.events.>"] }';
    const config = `no_auth_user: low\nauthorization { users: [{ user: low, password: x, permissions: { ${permissions} } }] }`;
    const opened = await (await natsFor(t, { config })).open({ timeoutMillis: 60_000 });
    await refused(opened.journal.append('s', 0, events(1), meta), 'permission_denied');
    await says(opened, /NATS reports: publish to clipfarm\.events\.s is not allowed/);
  });

  test('a server of a cluster that stays away is counted as lost copies, while the journal goes on', async (t) => {
    const nats = await natsFor(t, { size: 3 });
    let counted = 0;
    const onTrouble = (kind: string) => {
      if (kind === 'copies') counted += 1;
    };
    const opened = await nats.open({ timeoutMillis: 60_000, onTrouble }, fast);
    await insist(opened.journal, 's', 0, events(1));
    const before = counted;
    await nats.servers[2]?.kill();
    await until(() => counted > before, 'the copies of the third server are missed');
    await says(opened, null);
    await insist(opened.journal, 's', 1, events(2));
  });

  test('on a full disk appends are refused and nothing acknowledged is lost; with room again it goes on', async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'clipfarm-nats-'));
    const disk = SmallDisk.mount(join(dir, 'disk'), 64);
    if (disk === null) {
      rmSync(dir, { recursive: true });
      t.skip('this user may not mount a file system');
      return;
    }
    const nats = await startNatsCluster({ size: 1, dir: disk.path });
    const opened = await openQuietly({ servers: nats.urls, timeoutMillis: 600_000 }, fast);
    t.after(async () => {
      await opened.election.close();
      await opened.journal.close();
      await nats.close();
      disk[Symbol.dispose]();
      rmSync(dir, { recursive: true });
    });
    const { journal } = opened;
    let stored = 0;
    const fill = async () => {
      for (;;) {
        const next = { type: 'n', data: { n: stored + 1, text: 'x'.repeat(10_000) } };
        stored = await journal.append('s', stored, [next], meta);
      }
    };
    await insist(journal, 'other', 0, events(1));
    disk.fill();
    await refused(fill(), 'resource_exhausted');
    await says(opened, /NATS has no room: .*no space left on device/);
    disk.free();
    if (!recoversByItself(opened.connection)) {
      await says(
        opened,
        /CLIPFARM_EVENTS takes no writes, and will not until its server is restarted: .*no space left/,
      );
      await nats.servers[0]?.stop();
      await nats.servers[0]?.start();
    }
    await says(opened, null);
    assert.deepEqual(numbersOf(await readAll(journal, 's')), upTo(stored));
    assert.equal(await journal.append('s', stored, events(stored + 1), meta), stored + 1);
  });
});
