import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { FarmError } from '@clipfarm/shared/errors';
import { JournalConflict } from '../../coordinator/src/journal/journal.ts';
import { readAll } from '../../coordinator/src/journal/journal-contract.ts';
import { events, meta, type Nats, natsFor, numbersOf, type Opened, upTo } from './nats-fixture.ts';

/** The server that leads the stream of events, by its index. */
async function streamLeader({ connection }: Opened): Promise<number> {
  const { cluster } = await (await connection.jetstreamManager()).streams.info('CLIPFARM_EVENTS');
  return Number(cluster?.leader?.slice(1)) - 1;
}

/** Appends as a coordinator does: what is unavailable is tried again, after reading what was stored. */
async function write({ journal }: Opened, stream: string, goOn: () => boolean) {
  let position = 0;
  let interruptions = 0;
  while (goOn()) {
    try {
      position = await journal.append(stream, position, events(position + 1), meta);
    } catch (error) {
      interruptions++;
      if (error instanceof JournalConflict) position = error.actualPosition;
      else assert.equal(FarmError.from(error).code, 'unavailable');
    }
  }
  return { stream, position, interruptions };
}

async function killLeader(nats: Nats, opened: Opened, how: 'kill' | 'stop'): Promise<void> {
  const server = nats.servers[await streamLeader(opened)];
  assert.ok(server);
  await server[how]();
  // Appends go on with two of three before the third is back.
  await opened.journal.append(`after-${how}`, 0, events(1), meta).catch(async (error) => {
    assert.equal(FarmError.from(error).code, 'unavailable');
  });
  await server.start();
}

test('a cluster that loses its leader, by a crash or kindly, keeps every event and goes on', async (t) => {
  const nats = await natsFor(t, { size: 3 });
  const opened = await nats.open({ timeoutMillis: 10_000 });
  const watched = new Map<string, number[]>();
  opened.journal.watch((stored) => {
    for (const event of stored) watched.set(event.stream, [...(watched.get(event.stream) ?? []), event.position]);
  });
  let going = true;
  const writers = ['a', 'b', 'c'].map((stream) => write(opened, stream, () => going));
  await sleep(300);
  await killLeader(nats, opened, 'kill');
  await killLeader(nats, opened, 'stop');
  await sleep(300);
  going = false;
  for (const { stream, position } of await Promise.all(writers)) {
    assert.deepEqual(numbersOf(await readAll(opened.journal, stream)), upTo(position), stream);
    assert.ok(position > 10);
    while ((watched.get(stream)?.length ?? 0) < position) await sleep(20);
    assert.deepEqual(watched.get(stream), upTo(position), `${stream} as watched`);
  }
});
