import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { BATCH } from '../../coordinator/src/journal/jetstream-feed.ts';
import type { JetStreamJournalOptions } from '../../coordinator/src/journal/open-jetstream-journal.ts';
import { BEHIND, BEHIND_MILLIS } from '../../coordinator/src/journal/reading-pace.ts';
import { until } from '../harness/farm.ts';
import { OwnDirectory } from '../harness/owner.ts';
import { TestProcess } from '../harness/process.ts';
import { events, meta, type Nats, natsFor, upTo } from './nats-fixture.ts';

/** A few dozen of these are more than the kernel keeps for a reader that does not read. */
const LARGE = { type: 'n', data: 'x'.repeat(250_000) };

/** Looks for its verdict, a tenth of a second apart; the deadline is half a second. */
const LOOKS = 30;

/** So long an event keeps a reader that is slower than the writers, and so many do, while it is far enough behind. */
const BUSY_MILLIS = 10;
const BUSY_EVENTS = (1.6 * BEHIND_MILLIS) / BUSY_MILLIS;
const MANY = BUSY_EVENTS + BEHIND;

const program = fileURLToPath(new URL('./watcher-process.ts', import.meta.url));

/** Stopped for this long at least, it knows itself that it stood still. */
const STOPPED_MILLIS = 2000;

function startWatcher(t: TestContext, options: Partial<JetStreamJournalOptions>, busyEvents = 0): TestProcess {
  const dir = new OwnDirectory();
  const args = [JSON.stringify(options), String(BUSY_MILLIS), String(busyEvents)];
  const watcher = TestProcess.start(program, args, join(dir.path, 'watcher.log'));
  t.after(async () => {
    await watcher.kill();
    dir[Symbol.dispose]();
  });
  return watcher;
}

/** Connections that the server has closed because they read too slowly. */
async function slowConsumers({ servers }: Nats): Promise<number> {
  const answer = await fetch(`${servers[0]?.monitor}/varz`);
  return ((await answer.json()) as { readonly slow_consumers: number }).slow_consumers;
}

function seenBy(watcher: TestProcess): number[] {
  return [...watcher.output().matchAll(/^event (\d+)$/gm)].map(([, position]) => Number(position));
}

/** Stops a reader until NATS disconnects it, and checks that it says so, counts it, and has seen every event in order. */
async function disconnect(t: TestContext, config: string, monitored: boolean, said: RegExp): Promise<void> {
  const nats = await natsFor(t, { config: `write_deadline: "500ms"\n${config}` });
  const { journal } = await nats.open();
  const monitors = nats.servers.map(({ monitor }) => monitor);
  const watcher = startWatcher(t, { servers: nats.urls, ...(monitored ? { monitors } : {}) });
  await until(() => watcher.output().includes('watching'), 'it watches', 60);
  let position = 0;
  const tooSlow = async () => {
    watcher.signal('SIGSTOP');
    const stopped = sleep(STOPPED_MILLIS);
    // As many as it has asked for: more would not be sent.
    for (let count = 0; count < BATCH && (await slowConsumers(nats)) === 0; count++) {
      position = await journal.append('s', position, [LARGE], meta);
    }
    // As long as there is something on the way, NATS waits for its deadline.
    for (let looks = 0; looks < LOOKS && (await slowConsumers(nats)) === 0; looks++) await sleep(100);
    const over = (await slowConsumers(nats)) > 0;
    await stopped;
    watcher.signal('SIGCONT');
    // What it had asked for had run out before enough was sent: once it has read all of it, it asks again.
    await until(() => seenBy(watcher).at(-1) === position, 'it has read everything', 120);
    return over;
  };
  await until(tooSlow, 'NATS finds it too slow', 300);
  assert.deepEqual(seenBy(watcher), upTo(position));
  await until(
    () => said.test(watcher.output()),
    () => `it says why; it says ${watcher.output()}`,
    60,
  );
  assert.match(watcher.output(), /^trouble slow$/m);
}

/** In the words of the server. */
const TOLD =
  /"reason":"Slow Consumer \([^"]+","hint":"this process or its network is too slow[^"]*","msg":"NATS had closed the connection"/;

describe('a reader that is too slow', { concurrency: true }, () => {
  test('a reader that NATS has disconnected because it was too slow says so, and has seen every event in order', async (t) => {
    await disconnect(t, '', true, TOLD);
  });

  test('where no monitoring address is known, it says that it stood still while NATS sent to it', async (t) => {
    const said =
      /"seconds":[\d.]+,"bytes":\d+,"hint":"this process or its network[^"]*","msg":"this process had stood still while/;
    await disconnect(t, '', false, said);
  });

  test('in an account of its own it learns from NATS itself that it was too slow', async (t) => {
    const account = 'FARM: { jetstream: enabled, users: [{ user: farm, password: x }] }';
    await disconnect(t, `no_auth_user: farm\naccounts: { ${account} }`, false, TOLD);
  });

  test('a reader that is slower than the writers says so before NATS loses patience, and that it has caught up', async (t) => {
    const nats = await natsFor(t);
    const { journal } = await nats.open();
    const watcher = startWatcher(t, { servers: nats.urls }, BUSY_EVENTS);
    await until(() => watcher.output().includes('watching'), 'it watches', 60);
    let position = 0;
    // However fast the disk is here, it is far behind when it begins.
    watcher.signal('SIGSTOP');
    while (position < MANY) position = await journal.append('s', position, events(position + 1), meta);
    watcher.signal('SIGCONT');
    await until(() => seenBy(watcher).at(-1) === position, 'it has read everything', 120);
    assert.deepEqual(seenBy(watcher), upTo(position));
    const output = watcher.output();
    assert.match(output, /"behind":\d+,"hint":"this process[^"]*","msg":"this process reads the journal more slowly/);
    await until(() => watcher.output().includes('"msg":"the journal is read to its end again"'), 'it has caught up');
    assert.deepEqual(output.match(/^trouble .*$/gm), ['trouble slow']);
    assert.equal(await slowConsumers(nats), 0);
  });
});
