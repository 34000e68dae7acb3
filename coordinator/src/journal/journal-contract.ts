import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { type Journal, JournalConflict, MAX_EVENT_BYTES, type NewEvent, type StoredEvent } from './journal.ts';

/** One place where a journal can be opened again and again. */
export interface JournalFixture {
  /** Opens the journal; what was stored before a `close` is there. The fixture closes it after the test. */
  open(): Promise<Journal>;
  /** How another process opens it: `(await import(module))[name](options)`; options must survive JSON. */
  readonly opener: { readonly module: string; readonly name: string; readonly options: unknown };
}

const meta = { at: 1_900_000_000_000, term: 3 };
const event = (n: number): NewEvent => ({ type: 'counted', data: { n } });
const events = (...numbers: number[]) => numbers.map(event);

/** Events of a stream from a position on. */
export async function readAll(journal: Journal, stream: string, from = 1): Promise<StoredEvent[]> {
  const stored: StoredEvent[] = [];
  for await (const one of journal.read(stream, from)) stored.push(one);
  return stored;
}

const dataOf = (stored: readonly StoredEvent[]) => stored.map(({ data }) => (data as { n: number }).n);

/** What every journal must do. `create` gives each test a fresh, empty place. */
export function journalContract(name: string, create: (t: TestContext) => Promise<JournalFixture>): void {
  describe(`${name} as a journal`, () => {
    test('events are read back as they were appended, numbered from 1', async (t) => {
      const journal = await (await create(t)).open();
      const data = { text: 'größe "x" 你好 \u0000 \n', list: [1, null, true, 1.5e-7], nested: { deep: {} } };
      assert.equal(await journal.append('job:1', 0, [{ type: 'accepted', data }, event(2)], meta), 2);
      assert.equal(await journal.append('job:1', 2, [event(3)], { at: 7, term: 4 }), 3);
      assert.deepEqual(await readAll(journal, 'job:1'), [
        { stream: 'job:1', position: 1, ...meta, type: 'accepted', data },
        { stream: 'job:1', position: 2, ...meta, ...event(2) },
        { stream: 'job:1', position: 3, at: 7, term: 4, ...event(3) },
      ]);
      assert.deepEqual(dataOf(await readAll(journal, 'job:1', 3)), [3]);
      assert.deepEqual(await readAll(journal, 'job:1', 4), []);
      assert.deepEqual(await readAll(journal, 'job:2'), []);
      assert.deepEqual(await journal.streams(), [{ stream: 'job:1', position: 3 }]);
    });

    test('an append at the wrong position is refused with the right one, and stores nothing', async (t) => {
      const journal = await (await create(t)).open();
      await journal.append('s', 0, events(1, 2), meta);
      for (const expected of [0, 1, 3]) {
        await assert.rejects(journal.append('s', expected, events(9), meta), (error) => {
          assert.ok(error instanceof JournalConflict);
          assert.equal(error.code, 'conflict');
          assert.deepEqual([error.stream, error.expectedPosition, error.actualPosition], ['s', expected, 2]);
          return true;
        });
      }
      await assert.rejects(journal.append('new', 1, events(9), meta), JournalConflict);
      assert.deepEqual(dataOf(await readAll(journal, 's')), [1, 2]);
      assert.deepEqual(await journal.streams(), [{ stream: 's', position: 2 }]);
    });

    test('of many appends at the same position handed in together exactly the first succeeds', async (t) => {
      const journal = await (await create(t)).open();
      const results = await Promise.allSettled([1, 2, 3, 4].map((n) => journal.append('s', 0, events(n), meta)));
      assert.deepEqual(
        results.map(({ status }) => status),
        ['fulfilled', 'rejected', 'rejected', 'rejected'],
      );
      assert.deepEqual(dataOf(await readAll(journal, 's')), [1]);
    });

    test('an append of no events stores nothing and still checks its position', async (t) => {
      const journal = await (await create(t)).open();
      assert.equal(await journal.append('s', 0, [], meta), 0);
      await journal.append('s', 0, events(1), meta);
      assert.equal(await journal.append('s', 1, [], meta), 1);
      await assert.rejects(journal.append('s', 0, [], meta), JournalConflict);
      await assert.rejects(journal.append('t', 1, [], meta), JournalConflict);
      assert.deepEqual(await journal.streams(), [{ stream: 's', position: 1 }]);
    });

    test('what can’t be stored is refused by name and harms no other append', async (t) => {
      const journal = await (await create(t)).open();
      const refused = (call: Promise<unknown>, field: string) =>
        assert.rejects(call, { code: 'invalid_argument', field });
      const cycle: { self?: unknown } = {};
      cycle.self = cycle;
      const good = journal.append('s', 0, events(1), meta);
      for (const data of [undefined, () => 1, cycle, 10n, 'x'.repeat(MAX_EVENT_BYTES)]) {
        await refused(journal.append('s', 1, [event(2), { type: 'bad', data }], meta), 'data');
      }
      for (const stream of ['', ' ', '*', 'a b', '.hidden', 'ü', 'x'.repeat(201), 'a\n', '-a', 'a>b']) {
        await refused(journal.append(stream, 0, events(1), meta), 'stream');
      }
      await refused(journal.append('s', -1, events(1), meta), 'expectedPosition');
      await refused(journal.append('s', 0.5, events(1), meta), 'expectedPosition');
      await refused(journal.append('s', 1, events(1), { at: Number.NaN, term: 1 }), 'at');
      await refused(journal.append('s', 1, events(1), { at: 1, term: -1 }), 'term');
      await refused(readAll(journal, 's', 0), 'fromPosition');
      await good;
      assert.deepEqual(dataOf(await readAll(journal, 's')), [1]);
    });

    test('watchers see every append once, whole and in the order of its stream', async (t) => {
      const journal = await (await create(t)).open();
      await journal.append('s', 0, events(0), meta);
      const seen: StoredEvent[][] = [];
      const ended = Promise.withResolvers<void>();
      const stop = journal.watch((stored) => {
        seen.push([...stored]);
        if (stored.some(({ type }) => type === 'last')) ended.resolve();
      });
      const stopTwin = journal.watch(() => assert.fail('a watcher that was ended'));
      stopTwin();
      const first = journal.append('s', 1, events(1, 2), meta);
      const conflicting = assert.rejects(journal.append('s', 1, events(99), meta));
      await Promise.all([first, conflicting, journal.append('s', 3, events(3), meta)]);
      await journal.append('other/one', 0, events(4), { at: 5, term: 6 });
      await journal.append('s', 4, [{ type: 'last', data: { n: 5 } }], meta);
      await ended.promise;
      stop();
      await journal.append('s', 5, events(6), meta);
      assert.deepEqual(seen.filter(([event]) => event?.stream === 's').map(dataOf), [[1, 2], [3], [5]]);
      assert.deepEqual(
        seen.filter(([event]) => event?.stream !== 's'),
        [[{ stream: 'other/one', position: 1, at: 5, term: 6, ...event(4) }]],
      );
    });

    test('everything is there after a restart', async (t) => {
      const place = await create(t);
      let journal = await place.open();
      await journal.append('s', 0, events(1, 2, 3), meta);
      await journal.saveSnapshot('s', 2, { sum: 3 });
      await journal.close();
      await journal.close();
      journal = await place.open();
      assert.deepEqual(dataOf(await readAll(journal, 's')), [1, 2, 3]);
      assert.deepEqual(await journal.loadSnapshot('s'), { position: 2, data: { sum: 3 } });
      await assert.rejects(journal.append('s', 2, events(4), meta), JournalConflict);
      assert.equal(await journal.append('s', 3, events(4), meta), 4);
    });

    test('closing waits for what was handed in, and refuses what comes later', async (t) => {
      const place = await create(t);
      const journal = await place.open();
      const pending = [journal.append('s', 0, events(1), meta), journal.append('s', 1, events(2), meta)];
      await journal.close();
      assert.deepEqual(await Promise.all(pending), [1, 2]);
      const closed = { code: 'failed_precondition', message: /closed/ };
      await assert.rejects(journal.append('s', 2, events(3), meta), closed);
      await assert.rejects(journal.streams(), closed);
      await assert.rejects(readAll(journal, 's'), closed);
      assert.deepEqual(dataOf(await readAll(await place.open(), 's')), [1, 2]);
    });

    test('a snapshot replaces an older one, never a newer, and never runs ahead of its stream', async (t) => {
      const journal = await (await create(t)).open();
      assert.equal(await journal.loadSnapshot('s'), null);
      await journal.append('s', 0, events(1, 2, 3), meta);
      await journal.saveSnapshot('s', 2, 'two');
      await journal.saveSnapshot('s', 1, 'one');
      assert.deepEqual(await journal.loadSnapshot('s'), { position: 2, data: 'two' });
      await journal.saveSnapshot('s', 3, null);
      assert.deepEqual(await journal.loadSnapshot('s'), { position: 3, data: null });
      await assert.rejects(journal.saveSnapshot('s', 4, 'four'), { code: 'invalid_argument', field: 'position' });
      await assert.rejects(journal.saveSnapshot('t', 1, 'none'), { code: 'invalid_argument', field: 'position' });
    });

    test('events that a snapshot covers can be removed, and reading them says that they are gone', async (t) => {
      const place = await create(t);
      let journal = await place.open();
      for (const n of [1, 2, 3, 4, 5, 6]) await journal.append('s', n - 1, events(n), meta);
      await journal.append('other', 0, events(1), meta);
      await assert.rejects(journal.trim('s', 3), { code: 'invalid_argument', field: 'position' });
      await journal.saveSnapshot('s', 4, 'four');
      await assert.rejects(journal.trim('s', 5), { code: 'invalid_argument', field: 'position' });
      await journal.trim('s', 3);
      assert.deepEqual(dataOf(await readAll(journal, 's', 5)), [5, 6]);
      const gone = { code: 'internal', message: /of stream s are gone/ };
      await assert.rejects(readAll(journal, 's'), gone);
      await journal.saveSnapshot('s', 6, 'six');
      await journal.trim('s', 6);
      await journal.close();
      journal = await place.open();
      await assert.rejects(readAll(journal, 's', 2), gone);
      assert.deepEqual(await journal.loadSnapshot('s'), { position: 6, data: 'six' });
      assert.deepEqual(await readAll(journal, 's', 7), []);
      assert.deepEqual(dataOf(await readAll(journal, 'other')), [1]);
      await assert.rejects(journal.append('s', 0, events(7), meta), JournalConflict);
      assert.equal(await journal.append('s', 6, events(7), meta), 7);
      assert.deepEqual(dataOf(await readAll(journal, 's', 7)), [7]);
      assert.deepEqual(
        (await journal.streams()).map(({ position }) => position),
        [1, 7],
      );
    });

    test('a stream that is removed is gone with its snapshot, and nothing else is', async (t) => {
      const place = await create(t);
      let journal = await place.open();
      await journal.remove('never');
      for (const stream of ['jobs/1', 'jobs/11']) {
        await journal.append(stream, 0, events(1, 2, 3), meta);
        await journal.saveSnapshot(stream, 2, stream);
      }
      await journal.remove('jobs/1');
      for (let round = 0; round < 2; round++) {
        assert.deepEqual(await journal.streams(), [{ stream: 'jobs/11', position: 3 }]);
        assert.deepEqual(await readAll(journal, 'jobs/1'), []);
        assert.equal(await journal.loadSnapshot('jobs/1'), null);
        assert.deepEqual(await journal.loadSnapshot('jobs/11'), { position: 2, data: 'jobs/11' });
        await journal.close();
        journal = await place.open();
      }
      await assert.rejects(journal.append('jobs/1', 3, events(4), meta), JournalConflict, 'nobody goes on as before');
      assert.equal(await journal.append('jobs/1', 0, events(7), meta), 1);
      assert.deepEqual(dataOf(await readAll(journal, 'jobs/1')), [7]);
    });

    test('a long stream is read completely while it grows, and reading can stop anywhere', async (t) => {
      const journal = await (await create(t)).open();
      const numbers = Array.from({ length: 1500 }, (_, i) => i + 1);
      await journal.append('s', 0, events(...numbers), meta);
      const seen: StoredEvent[] = [];
      for await (const stored of journal.read('s', 1)) {
        if (stored.position === 700) await journal.append('s', 1500, events(1501), meta);
        seen.push(stored);
      }
      assert.deepEqual(dataOf(seen).slice(0, 1500), numbers);
      for await (const stored of journal.read('s', 1400)) if (stored.position === 1450) break;
      assert.deepEqual(dataOf(await readAll(journal, 's', 1500)), [1500, 1501]);
    });

    test('whatever is appended, in whatever bursts, the journal holds what a model holds', async (t) => {
      // Mostly the position that fits, so that streams grow.
      const offset = fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, fc.integer({ min: -2, max: 2 }));
      const write = fc.record({ stream: fc.constantFrom('a', 'b', 'c/d.e'), offset, count: fc.nat(3) });
      const bursts = fc.array(fc.record({ writes: fc.array(write, { maxLength: 6 }), reopen: fc.boolean() }), {
        maxLength: 8,
      });
      await fc.assert(
        fc.asyncProperty(bursts, async (script) => {
          const place = await create(t);
          let journal = await place.open();
          const model = new Map<string, number[]>();
          let counter = 0;
          for (const { writes, reopen } of script) {
            const expectations: boolean[] = [];
            const results = writes.map(({ stream, offset: by, count }) => {
              const stored = model.get(stream) ?? [];
              const expectedPosition = Math.max(0, stored.length + by);
              const numbers = Array.from({ length: count }, () => ++counter);
              expectations.push(expectedPosition === stored.length);
              if (expectedPosition === stored.length && count > 0) model.set(stream, [...stored, ...numbers]);
              return journal.append(stream, expectedPosition, events(...numbers), meta);
            });
            const settled = await Promise.allSettled(results);
            assert.deepEqual(
              settled.map(({ status }) => status === 'fulfilled'),
              expectations,
            );
            if (reopen) {
              await journal.close();
              journal = await place.open();
            }
          }
          const lengths = [...model].map(([name, numbers]) => ({ stream: name, position: numbers.length }));
          assert.deepEqual(
            await journal.streams(),
            lengths.sort((x, y) => (x.stream < y.stream ? -1 : 1)),
          );
          for (const [name, numbers] of model) assert.deepEqual(dataOf(await readAll(journal, name)), numbers);
          await journal.close();
        }),
        { numRuns: 40 },
      );
    });

    test('a process killed in the middle of appending loses nothing that was acknowledged', async (t) => {
      const place = await create(t);
      const acknowledged = new Map<string, number>();
      for (let round = 0; round < 4; round++) {
        await killWriter(t, place, acknowledged, 60 + 40 * round);
        const journal = await place.open();
        const positions = new Map((await journal.streams()).map(({ stream, position }) => [stream, position]));
        for (const stream of ['a', 'b', 'c']) {
          const stored = await readAll(journal, stream);
          const expected = Array.from({ length: positions.get(stream) ?? 0 }, (_, i) => i + 1);
          assert.deepEqual(dataOf(stored), expected, `${stream} is whole`);
          assert.ok(
            stored.length >= (acknowledged.get(`stream ${stream}`) ?? 0),
            `${stream} has what was acknowledged`,
          );
        }
        const snapshot = await journal.loadSnapshot('c');
        assert.ok((snapshot?.position ?? 0) >= (acknowledged.get('snapshot c') ?? 0));
        await journal.close();
      }
      assert.ok((acknowledged.get('stream a') ?? 0) > 100);
    });
  });
}

/** Starts a writer, kills it after some acknowledgements, and notes the highest number of each kind. */
async function killWriter(t: TestContext, place: JournalFixture, acknowledged: Map<string, number>, after: number) {
  const { module, name, options } = place.opener;
  const script = fileURLToPath(new URL('./journal-contract-writer.ts', import.meta.url));
  const child = spawn(process.execPath, [script, module, name, JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  const ended = once(child, 'close');
  let count = 0;
  for await (const line of createInterface(child.stdout)) {
    const [kind = '', subject = '', number = ''] = line.split(' ');
    acknowledged.set(`${kind} ${subject}`, Number(number));
    if (++count === after) child.kill('SIGKILL');
  }
  const [code, signal] = await ended;
  assert.deepEqual([code, signal], [null, 'SIGKILL'], 'the writer must end by the kill and nothing else');
}
