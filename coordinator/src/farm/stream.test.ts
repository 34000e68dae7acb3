import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { openSqliteJournal } from '../journal/sqlite-journal.ts';
import { fenceContract } from './fence-contract.ts';
import { keptStreamsContract } from './kept-streams-contract.ts';
import { Stream } from './stream.ts';

interface Added {
  readonly type: 'Added';
  readonly value: number;
}

keptStreamsContract('SQLite', sqliteJournal);
fenceContract('SQLite', async (t) => {
  const journal = await sqliteJournal(t);
  return { open: async () => journal };
});

async function sqliteJournal(t: TestContext) {
  const journal = await openSqliteJournal({ path: join(temporaryDirectory(t), 'journal.db') });
  t.after(() => journal.close());
  return journal;
}

/** Two processes' views of one stream, and what each has folded. */
async function twoViews(t: TestContext) {
  const journal = await sqliteJournal(t);
  return [1, 2].map(() => {
    const folded: number[] = [];
    const stream = new Stream<Added>(journal, 'jobs/a', (event) => folded.push(event.value), {
      pack: () => folded,
      unpack: (data) => Array.isArray(data) && folded.push(...data) > 0,
      weight: () => folded.length,
    });
    const add = (value: number, term: number) =>
      stream.append(
        () => ({ events: [{ type: 'Added', value }] }),
        () => ({ at: 0, term }),
      );
    return { folded, stream, add };
  });
}

test('who comes second folds what the first one wrote and decides again', async (t) => {
  const [one, two] = await twoViews(t);
  assert.ok(one && two);
  await one.add(1, 1);
  await two.add(2, 1);
  assert.deepEqual(two.folded, [1, 2]);
  await one.add(3, 1);
  assert.deepEqual(one.folded, [1, 2, 3]);
});

test('a deposed leader writes nothing, whether or not it has heard of the new one', async (t) => {
  const [old, next] = await twoViews(t);
  assert.ok(old && next);
  await old.add(1, 1);
  await next.add(2, 2);
  await assert.rejects(old.add(3, 1), { code: 'unavailable', message: /term 2/ });
  await assert.rejects(old.add(4, 1), { code: 'unavailable' });
  await next.stream.catchUp();
  assert.deepEqual(next.folded, [1, 2]);
});

test('an event that is announced twice, or early, is folded once and in order', async (t) => {
  const [one, two] = await twoViews(t);
  assert.ok(one && two);
  await one.add(1, 1);
  await one.add(2, 1);
  const second = { type: 'Added', data: { type: 'Added', value: 2 }, stream: 'jobs/a', position: 2, at: 0, term: 1 };
  assert.equal(two.stream.take(second), false);
  await two.stream.catchUp();
  assert.equal(two.stream.take(second), true);
  assert.deepEqual(two.folded, [1, 2]);
});
