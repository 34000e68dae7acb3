import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Journal, JournalConflict, type StoredEvent } from '../../coordinator/src/journal/journal.ts';
import { readAll } from '../../coordinator/src/journal/journal-contract.ts';
import { patiently, until } from '../harness/farm.ts';
import { events, insist, meta, natsFor, numbersOf, upTo } from './nats-fixture.ts';

/** For a snapshot that nothing comes after: the events that it is ahead of are waited for as long. */
const HASTY = { timeoutMillis: 1000 };

async function twoCoordinators(t: TestContext) {
  const nats = await natsFor(t);
  return [(await nats.open()).journal, (await nats.open()).journal] as const;
}

/** Appends numbers with one writer, reading anew whenever another one was first. @returns its conflicts */
async function appendAll(journal: Journal, numbers: readonly number[]): Promise<number> {
  let position = 0;
  let conflicts = 0;
  for (const n of numbers) {
    for (;;) {
      try {
        position = await journal.append('s', position, events(n), meta);
        break;
      } catch (error) {
        if (!(error instanceof JournalConflict)) throw error;
        assert.notEqual(error.actualPosition, position);
        position = error.actualPosition;
        conflicts++;
      }
    }
  }
  return conflicts;
}

describe('a journal in JetStream', { concurrency: 3 }, () => {
  test('of two coordinators only the one that knows the end of the stream can append', async (t) => {
    const [old, young] = await twoCoordinators(t);
    await old.append('s', 0, events(1), meta);
    await young.append('s', 1, events(2), { ...meta, term: 2 });
    await assert.rejects(old.append('s', 1, events(99), meta), (error) => {
      assert.ok(error instanceof JournalConflict);
      assert.equal(error.actualPosition, 2);
      return true;
    });
    assert.equal(await old.append('s', 2, events(3), meta), 3);
    assert.deepEqual(numbersOf(await readAll(young, 's')), [1, 2, 3]);
  });

  test('a snapshot of a journal that was lost is not taken for one of its successor', async (t) => {
    const nats = await natsFor(t);
    const before = await nats.open();
    await before.journal.append('farm', 0, events(1, 2, 3), meta);
    await before.journal.saveSnapshot('farm', 3, 'of the old one');
    const manager = await before.connection.jetstreamManager();
    await manager.streams.delete('CLIPFARM_EVENTS');
    await before.close();
    const { journal } = await nats.open();
    const hasty = await nats.open(HASTY);
    assert.equal(await patiently(() => hasty.journal.loadSnapshot('farm')), null);
    await journal.append('farm', 0, events(4), meta);
    await journal.saveSnapshot('farm', 1, 'of the new one');
    assert.deepEqual(await journal.loadSnapshot('farm'), { position: 1, data: 'of the new one' });
  });

  test('a snapshot that alone has the beginning of a stream outlives events that were lost', async (t) => {
    const nats = await natsFor(t);
    const { journal, connection } = await nats.open();
    for (let position = 0; position < 4; position++) await journal.append('farm', position, events(position), meta);
    await journal.saveSnapshot('farm', 2, 'of two');
    await journal.trim('farm', 2);
    await journal.saveSnapshot('farm', 4, 'of four');
    const { streams } = await connection.jetstreamManager();
    const { seq } = await streams.getMessage('CLIPFARM_EVENTS', { last_by_subj: 'clipfarm.events.farm' });
    await streams.deleteMessage('CLIPFARM_EVENTS', seq);
    const hasty = await nats.open(HASTY);
    const found = await patiently(() => hasty.journal.loadSnapshot('farm'));
    assert.equal(found, null, 'it is ahead of what can be appended to');
    const { data } = await streams.getMessage('KV_CLIPFARM_SNAPSHOTS', { last_by_subj: '$KV.CLIPFARM_SNAPSHOTS.farm' });
    assert.equal(JSON.parse(new TextDecoder().decode(data)).position, 4, 'for whoever restores the events');
  });

  test('two coordinators that race for one stream store every event once', async (t) => {
    const [one, two] = await twoCoordinators(t);
    const odd = upTo(200).filter((n) => n % 2 === 1);
    const even = upTo(200).filter((n) => n % 2 === 0);
    const conflicts = await Promise.all([appendAll(one, odd), appendAll(two, even)]);
    assert.ok(conflicts[0] + conflicts[1] > 0, 'they did race');
    const stored = numbersOf(await readAll(one, 's'));
    assert.deepEqual(
      [...stored].sort((a, b) => a - b),
      upTo(200),
    );
    assert.deepEqual(
      stored.filter((n) => n % 2 === 1),
      odd,
    );
  });

  test('a watcher hears what other coordinators append, once and in order', async (t) => {
    const [one, two] = await twoCoordinators(t);
    await one.append('before', 0, events(1), meta);
    const heard: StoredEvent[] = [];
    const ended = Promise.withResolvers<void>();
    two.watch((stored) => {
      heard.push(...stored);
      if (stored[0]?.stream === 'end') ended.resolve();
    });
    for (const n of upTo(150)) await one.append(`s${n % 3}`, Math.floor((n - 1) / 3), events(n), meta);
    await two.append('s0', 50, events(151), meta);
    await one.append('end', 0, events(0), meta);
    await ended.promise;
    for (const stream of ['s0', 's1', 's2']) {
      const own = heard.filter((event) => event.stream === stream);
      assert.deepEqual(own, await readAll(one, stream));
    }
  });

  test('appends that wait for another share a message', async (t) => {
    const nats = await natsFor(t);
    const { journal, connection } = await nats.open();
    await Promise.all(upTo(500).map((n) => journal.append('s', n - 1, events(n), { at: n, term: 1 })));
    const stored = await readAll(journal, 's');
    assert.deepEqual(numbersOf(stored), upTo(500));
    assert.deepEqual(
      stored.map(({ at }) => at),
      upTo(500),
      'each with what was said with it',
    );
    const { state } = await (await connection.jetstreamManager()).streams.info('CLIPFARM_EVENTS');
    assert.ok(state.messages < 20, `${state.messages} messages`);
  });

  test('while NATS is down calls fail with unavailable and leave no trace; afterwards everything goes on by itself', async (t) => {
    const nats = await natsFor(t);
    const [server] = nats.servers;
    assert.ok(server);
    const { journal } = await nats.open({ timeoutMillis: 700 });
    const heard: number[] = [];
    const ended = Promise.withResolvers<void>();
    journal.watch((stored) => {
      heard.push(...numbersOf(stored));
      if (heard.at(-1) === 3) ended.resolve();
    });
    await insist(journal, 's', 0, events(1));
    await server.kill();
    await assert.rejects(journal.append('s', 1, events(99), meta), { code: 'unavailable', hint: /NATS servers run/ });
    await assert.rejects(journal.append('s', 1, events(99), meta), { code: 'unavailable', message: /no connection/ });
    await assert.rejects(journal.streams(), { code: 'unavailable' });
    await assert.rejects(readAll(journal, 's'), { code: 'unavailable' });
    await assert.rejects(journal.loadSnapshot('s'), { code: 'unavailable' });
    await server.start();
    const patient = await nats.open({ timeoutMillis: 60_000 });
    assert.equal(await patient.journal.append('s', 1, events(2), meta), 2);
    await insist(journal, 's', 2, events(3));
    await ended.promise;
    assert.deepEqual(heard, [1, 2, 3]);
    assert.deepEqual(numbersOf(await readAll(patient.journal, 's')), [1, 2, 3]);
  });

  test('an append whose answer is late is stored once and succeeds', async (t) => {
    const nats = await natsFor(t);
    const [server] = nats.servers;
    const { journal } = await nats.open({ timeoutMillis: 60_000 });
    await journal.append('s', 0, events(1), meta);
    await server?.pause();
    const appending = journal.append('s', 1, events(2), meta);
    // Longer than one attempt waits for its answer.
    await sleep(2500);
    server?.resume();
    assert.equal(await appending, 2);
    assert.equal(await journal.append('s', 2, events(3), meta), 3);
    assert.deepEqual(numbersOf(await readAll(journal, 's')), [1, 2, 3]);
  });

  test('an append that was given up and stored all the same makes the next one conflict', async (t) => {
    const nats = await natsFor(t);
    const [server] = nats.servers;
    const { journal } = await nats.open({ timeoutMillis: 600 });
    await insist(journal, 's', 0, events(1));
    await server?.pause();
    await assert.rejects(journal.append('s', 1, events(2), meta), {
      code: 'unavailable',
      message: /no answer in time/,
    });
    server?.resume();
    await assert.rejects(
      patiently(() => journal.append('s', 1, events(99), meta)),
      JournalConflict,
    );
    assert.deepEqual(numbersOf(await patiently(() => readAll(journal, 's'))), [1, 2]);
  });

  test('a server that is killed under load and started again has everything that was acknowledged', async (t) => {
    const nats = await natsFor(t);
    const [server] = nats.servers;
    assert.ok(server);
    const { journal } = await nats.open({ timeoutMillis: 60_000 });
    const positions = new Map(['a', 'b', 'c', 'd'].map((stream) => [stream, 0]));
    let going = true;
    const write = async (stream: string) => {
      for (let next = 1; going; next++) {
        positions.set(stream, await journal.append(stream, next - 1, events(next), meta));
      }
    };
    const writers = Promise.all([...positions.keys()].map(write));
    const reach = (wanted: number) =>
      Promise.race([
        until(() => Math.min(...positions.values()) >= wanted, `each stream has ${wanted} events`),
        // It ends only when one of them fails.
        writers,
      ]);
    for (let round = 1; round <= 3; round++) {
      await reach(10 * round);
      await server.kill();
      await server.start();
    }
    await reach(40);
    going = false;
    await writers;
    for (const [stream, position] of positions) {
      assert.deepEqual(numbersOf(await readAll(journal, stream)), upTo(position), stream);
    }
  });

  test('removing what a snapshot covers leaves the last message of the stream, and a message that reaches beyond it', async (t) => {
    const nats = await natsFor(t);
    const { journal, connection } = await nats.open();
    for (const n of upTo(10)) await journal.append('s', 2 * n - 2, events(2 * n - 1, 2 * n), meta);
    await journal.append('other', 0, events(1), meta);
    await journal.saveSnapshot('s', 7, 'seven');
    await journal.trim('s', 7);
    assert.deepEqual(numbersOf(await readAll(journal, 's', 8)), upTo(20).slice(7));
    await assert.rejects(readAll(journal, 's'), { code: 'internal', message: /events 1 to 6 of stream s are gone/ });
    await journal.saveSnapshot('s', 20, 'twenty');
    await journal.trim('s', 20);
    const jsm = await connection.jetstreamManager();
    assert.equal(
      (await jsm.streams.info('CLIPFARM_EVENTS')).state.messages,
      2,
      'the last message of each stream stays',
    );
  });

  test('what comes after a snapshot is read without what was before it', async (t) => {
    const nats = await natsFor(t);
    const first = await nats.open();
    for (const n of upTo(20)) await first.journal.append('s', n - 1, events(n), meta);
    await first.journal.saveSnapshot('s', 20, 'twenty');
    for (const n of [21, 22]) await first.journal.append('s', n - 1, events(n), meta);
    await first.close();
    const { journal, connection } = await nats.open();
    // Damage that only reading from the beginning would meet.
    await (await connection.jetstreamManager()).streams.deleteMessage('CLIPFARM_EVENTS', 5);
    await journal.loadSnapshot('s');
    assert.deepEqual(numbersOf(await readAll(journal, 's', 21)), [21, 22]);
    await assert.rejects(readAll(journal, 's', 1), { code: 'internal', message: /event 5 of stream s are? gone/ });
  });

  test('a large snapshot comes back whole, replaces the pieces of the one before, and is ignored when damaged', async (t) => {
    const nats = await natsFor(t);
    const { journal, connection } = await nats.open();
    await journal.append('jobs/1', 0, events(1, 2), meta);
    const large = (text: string) => ({ text: text.repeat(3 * 1024 * 1024) });
    await journal.saveSnapshot('jobs/1', 1, large('a'));
    await journal.saveSnapshot('jobs/1', 2, large('b'));
    assert.deepEqual(await journal.loadSnapshot('jobs/1'), { position: 2, data: large('b') });
    const jsm = await connection.jetstreamManager();
    const { state } = await jsm.streams.info('KV_CLIPFARM_SNAPSHOTS', { subjects_filter: '>' });
    const pieces = Object.keys(state.subjects ?? {}).filter((subject) => subject.split('.').length === 5);
    assert.deepEqual([pieces.length, state.messages], [7, 8]);
    await jsm.streams.purge('KV_CLIPFARM_SNAPSHOTS', { filter: pieces[3] ?? '' });
    assert.equal(await journal.loadSnapshot('jobs/1'), null);
  });

  test('what is no journal message, or is missing, is reported as damage', async (t) => {
    const nats = await natsFor(t);
    const { journal, connection } = await nats.open();
    for (const n of upTo(3)) await journal.append('s', n - 1, events(n), meta);
    const jsm = await connection.jetstreamManager();
    await jsm.streams.deleteMessage('CLIPFARM_EVENTS', 2);
    await assert.rejects(readAll(journal, 's'), { code: 'internal', message: /event 2 of stream s are? gone/ });
    await connection.jetstream().publish('clipfarm.events.t', 'hello');
    await assert.rejects(readAll(journal, 't'), {
      code: 'internal',
      message: /damaged: message 4 of clipfarm\.events\.t/,
    });
  });
});
