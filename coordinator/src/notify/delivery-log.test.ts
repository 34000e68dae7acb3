import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { openSqliteJournal } from '../journal/sqlite-journal.ts';
import { DeliveryLog } from './delivery-log.ts';

async function openLogs(t: Parameters<typeof temporaryDirectory>[0]) {
  const path = join(temporaryDirectory(t), 'journal.db');
  const journal = await openSqliteJournal({ path });
  t.after(() => journal.close());
  const open = async () => {
    const log = new DeliveryLog(journal, 'e1');
    await log.load();
    return log;
  };
  return { journal, open };
}

const cursor = (jobId: string, position: number, done = false) => new Map([[jobId, { position, done }]]);

test('what one leader recorded, the next one knows', async (t) => {
  const { open } = await openLogs(t);
  const first = await open();
  assert.ok(first.isNew);
  await first.record(new Map(), { at: 1, term: 1 });
  await first.record(new Map([...cursor('a', 3), ...cursor('b', 7, true)]), { at: 2, term: 1 });
  const next = await open();
  assert.ok(!next.isNew);
  assert.deepEqual(next.state, first.state);
  assert.deepEqual(next.state.open, new Map([['a', 3]]));
});

test('two that record at a time both get it in, and one that is deposed does not', async (t) => {
  const { open } = await openLogs(t);
  const [old, next] = [await open(), await open()];
  await old.record(cursor('a', 1), { at: 1, term: 1 });
  await next.record(cursor('b', 1), { at: 2, term: 2 });
  await assert.rejects(old.record(cursor('a', 2), { at: 3, term: 1 }), { code: 'unavailable', message: /term 2/ });
  await assert.rejects(old.record(cursor('a', 2), { at: 4, term: 1 }), { code: 'unavailable' });
  await next.record(cursor('b', 2), { at: 5, term: 2 });
  assert.deepEqual(
    (await open()).state.open,
    new Map([
      ['a', 1],
      ['b', 2],
    ]),
  );
});

test('whoever goes on in a new term knows what was recorded before, and an earlier leader records nothing more', async (t) => {
  const { open } = await openLogs(t);
  const old = await open();
  await old.record(cursor('a', 1, true), { at: 1, term: 1 });
  const next = await open();
  const later = 1000 * 24 * 3_600_000;
  await next.open({ at: later, term: 2 });
  await assert.rejects(old.record(cursor('b', 1), { at: 3, term: 1 }), { code: 'unavailable', message: /term 2/ });
  for (const log of [next, await open()])
    assert.deepEqual(log.state, { open: new Map(), done: new Map([['a', { position: 1, at: 1 }]]), at: 1 });
});

test('a long record is read from a snapshot on, with the same result', async (t) => {
  const { journal, open } = await openLogs(t);
  const log = await open();
  for (let n = 1; n <= 1005; n++) await log.record(cursor(`j${n % 10}`, n, n % 3 === 0), { at: n, term: 4 });
  assert.equal((await journal.loadSnapshot(log.stream))?.position, 1000);
  const read: number[] = [];
  const watched = { ...journal, loadSnapshot: journal.loadSnapshot.bind(journal) };
  const next = new DeliveryLog(
    {
      ...watched,
      append: journal.append.bind(journal),
      async *read(stream, from) {
        for await (const event of journal.read(stream, from)) {
          read.push(event.position);
          yield event;
        }
      },
    } as typeof journal,
    'e1',
  );
  await next.load();
  assert.deepEqual(read, [1001, 1002, 1003, 1004, 1005]);
  assert.deepEqual(next.state, log.state);
  await assert.rejects(next.record(cursor('x', 1), { at: 1, term: 3 }), { code: 'unavailable' }, 'terms survive too');
});
