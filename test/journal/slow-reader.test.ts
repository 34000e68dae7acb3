import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { until } from '../harness/farm.ts';
import { OwnDirectory } from '../harness/owner.ts';
import { TestProcess } from '../harness/process.ts';
import { meta, type Nats, natsFor, upTo } from './nats-fixture.ts';

/** A few dozen of these are more than the kernel keeps for a reader that does not read. */
const LARGE = { type: 'n', data: 'x'.repeat(250_000) };

/** As many as a reader asks for at a time, so that more would not be sent. */
const ASKED = 100;

/** Looks for its verdict, a tenth of a second apart; the deadline is half a second. */
const LOOKS = 30;

const program = fileURLToPath(new URL('./watcher-process.ts', import.meta.url));

function startWatcher(t: TestContext, { urls, servers }: Nats): TestProcess {
  const dir = new OwnDirectory();
  const options = { servers: urls, monitors: servers.map(({ monitor }) => monitor) };
  const watcher = TestProcess.start(program, [JSON.stringify(options)], join(dir.path, 'watcher.log'));
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

test('a reader that NATS has disconnected because it was too slow says so, and has seen every event in order', async (t) => {
  const nats = await natsFor(t, { config: 'write_deadline: "500ms"' });
  const { journal } = await nats.open();
  const watcher = startWatcher(t, nats);
  const seen = () => [...watcher.output().matchAll(/^event (\d+)$/gm)].map(([, position]) => Number(position));
  await until(() => watcher.output().includes('watching'), 'it watches', 60);
  let position = 0;
  const tooSlow = async () => {
    watcher.signal('SIGSTOP');
    for (let count = 0; count < ASKED && (await slowConsumers(nats)) === 0; count++) {
      position = await journal.append('s', position, [LARGE], meta);
    }
    // As long as there is something on the way, NATS waits for its deadline.
    for (let looks = 0; looks < LOOKS && (await slowConsumers(nats)) === 0; looks++) await sleep(100);
    const over = (await slowConsumers(nats)) > 0;
    watcher.signal('SIGCONT');
    // What it had asked for had run out before enough was sent: once it has read all of it, it asks again.
    await until(() => seen().at(-1) === position, 'it has read everything', 120);
    return over;
  };
  await until(tooSlow, 'NATS finds it too slow', 300);
  assert.deepEqual(seen(), upTo(position));
  const said =
    /"reason":"Slow Consumer \([^"]+","hint":"this process or its network is too slow[^"]*","msg":"NATS had closed the connection"/;
  await until(() => said.test(watcher.output()), 'it says why', 60);
});
