import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { FarmError } from '@clipfarm/shared/errors';
import { JournalConflict } from '../../coordinator/src/journal/journal.ts';
import { readAll } from '../../coordinator/src/journal/journal-contract.ts';
import { patiently, until } from '../harness/farm.ts';
import type { NatsServer } from '../harness/nats.ts';
import { events, insist, meta, type Nats, natsFor, numbersOf, type Opened, upTo } from './nats-fixture.ts';
import { openQuietly } from './open-quietly.ts';

/** The server that leads the stream of events. While one is elected there is none. */
async function streamLeader(nats: Nats, { connection }: Opened): Promise<NatsServer> {
  const jsm = await connection.jetstreamManager({ checkAPI: false });
  let leader: NatsServer | undefined;
  await until(async () => {
    const info = await jsm.streams.info('CLIPFARM_EVENTS').catch(() => null);
    leader = nats.servers[Number(info?.cluster?.leader?.slice(1)) - 1];
    return leader !== undefined;
  }, 'the stream has a leader');
  return leader ?? assert.fail();
}

/** Appends as a coordinator does: what is unavailable is tried again, after reading what was stored. */
async function write({ journal }: Opened, stream: string, goOn: () => boolean, reached: (position: number) => void) {
  let position = 0;
  while (goOn()) {
    try {
      position = await journal.append(stream, position, events(position + 1), meta);
    } catch (error) {
      if (error instanceof JournalConflict) position = error.actualPosition;
      else assert.equal(FarmError.from(error).code, 'unavailable');
    }
    reached(position);
  }
}

async function killLeader(nats: Nats, opened: Opened, how: 'kill' | 'stop'): Promise<void> {
  const server = await streamLeader(nats, opened);
  await server[how]();
  // Appends go on with two of three before the third is back.
  await insist(opened.journal, `after-${how}`, 0, events(1));
  await server.start();
}

describe('a cluster of NATS servers', { concurrency: true }, () => {
  test('a cluster that loses its leader, by a crash or kindly, keeps every event and goes on', async (t) => {
    const nats = await natsFor(t, { size: 3 });
    const opened = await nats.open({ timeoutMillis: 10_000 });
    const watched = new Map<string, number[]>();
    opened.journal.watch((stored) => {
      for (const event of stored) watched.set(event.stream, [...(watched.get(event.stream) ?? []), event.position]);
    });
    let going = true;
    const positions = new Map(['a', 'b', 'c'].map((stream) => [stream, 0]));
    const writers = [...positions.keys()].map((stream) =>
      write(
        opened,
        stream,
        () => going,
        (position) => positions.set(stream, position),
      ),
    );
    /** Waits until every writer got on by some events. */
    const getOn = async () => {
      const before = new Map(positions);
      await until(
        () => [...positions].every(([stream, position]) => position >= (before.get(stream) ?? 0) + 5),
        'events are appended',
      );
    };
    for (const how of ['kill', 'stop'] as const) {
      await getOn();
      await killLeader(nats, opened, how);
    }
    await getOn();
    going = false;
    await Promise.all(writers);
    for (const [stream, position] of positions) {
      assert.deepEqual(numbersOf(await patiently(() => readAll(opened.journal, stream))), upTo(position), stream);
      await until(() => (watched.get(stream)?.length ?? 0) >= position, `${stream} is watched to its end`);
      assert.deepEqual(watched.get(stream), upTo(position), `${stream} as watched`);
    }
  });

  test('an append that only the leading server has is not acknowledged, however often that server is asked', async (t) => {
    const nats = await natsFor(t, { size: 3 });
    const opened = await nats.open();
    await insist(opened.journal, 'a', 0, events(1));
    const leader = await streamLeader(nats, opened);
    const { journal, election } = await openQuietly({ servers: [leader.url], timeoutMillis: 60_000 });
    t.after(async () => {
      await election.close();
      await journal.close();
    });
    await insist(journal, 'b', 0, events(1));
    const others = nats.servers.filter((server) => server !== leader);
    await Promise.all(others.map((server) => server.pause()));
    let acknowledged = false;
    const appending = journal.append('a', 1, events(2), meta).then(
      () => {
        acknowledged = true;
      },
      (error: unknown) => assert.equal(FarmError.from(error).code, 'unavailable'),
    );
    // Long enough for the second attempt, which the leader answers itself.
    await sleep(5000);
    assert.equal(acknowledged, false, 'two of three servers have not seen it');
    for (const server of others) server.resume();
    await appending;
    const stored = numbersOf(await patiently(() => readAll(opened.journal, 'a')));
    assert.deepEqual(stored, upTo(acknowledged ? 2 : stored.length), 'what was acknowledged is there');
  });
});
