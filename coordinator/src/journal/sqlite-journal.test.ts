import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { smallDisk, temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import type { Journal } from './journal.ts';
import { journalContract, readAll } from './journal-contract.ts';
import { openSqliteJournal } from './sqlite-journal.ts';

const meta = { at: 1, term: 1 };
const filler = (n: number) => [{ type: 'filled', data: { n, text: 'x'.repeat(10_000) } }];

journalContract('SQLite', async (t) => {
  const path = join(temporaryDirectory(t), 'journal.db');
  const opened: Journal[] = [];
  t.after(() => Promise.all(opened.map((journal) => journal.close())));
  return {
    open: async () => {
      const journal = await openSqliteJournal({ path });
      opened.push(journal);
      return journal;
    },
    opener: {
      module: new URL('./sqlite-journal.ts', import.meta.url).href,
      name: 'openSqliteJournal',
      options: { path },
    },
  };
});

test('a second coordinator on the same directory is refused, and let in once the first one is killed', async (t) => {
  const dir = temporaryDirectory(t);
  const path = join(dir, 'journal.db');
  const writer = fileURLToPath(new URL('./journal-contract-writer.ts', import.meta.url));
  const module = new URL('./sqlite-journal.ts', import.meta.url).href;
  const child = spawn(process.execPath, [writer, module, 'openSqliteJournal', JSON.stringify({ path })], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  await assert.rejects(openSqliteJournal({ path }), {
    code: 'failed_precondition',
    field: '--data-dir',
    message: `data directory ${dir} is in use by another coordinator`,
  });
  child.kill('SIGKILL');
  await once(child, 'close');
  const journal = await openSqliteJournal({ path });
  await assert.rejects(openSqliteJournal({ path }), { message: /in use/ }, 'also within one process');
  await journal.close();
  await (await openSqliteJournal({ path })).close();
});

test('appends of one turn share a commit, and each reports how long it took', async (t) => {
  const path = join(temporaryDirectory(t), 'journal.db');
  const seconds: number[] = [];
  const journal = await openSqliteJournal({ path, onAppend: (s) => seconds.push(s) });
  t.after(() => journal.close());
  await journal.append('warm', 0, [{ type: 'n', data: 0 }], meta);
  const before = statSync(`${path}-wal`).size;
  await Promise.all(Array.from({ length: 200 }, (_, i) => journal.append(`s${i}`, 0, [{ type: 'n', data: i }], meta)));
  // A commit of its own would write at least one page of 4 KiB for each append.
  assert.ok(statSync(`${path}-wal`).size - before < 200 * 4096);
  assert.equal(seconds.length, 201);
  assert.ok(seconds.every((s) => s >= 0 && s < 60));
});

test('a full journal refuses appends with resource_exhausted, keeps what it has, and goes on when there is room', async (t) => {
  const path = join(temporaryDirectory(t), 'journal.db');
  const small = await openSqliteJournal({ path, maxBytes: 200_000 });
  let stored = 0;
  const fill = async () => {
    for (;;) stored = await small.append('s', stored, filler(stored + 1), meta);
  };
  await assert.rejects(fill(), { code: 'resource_exhausted', message: /can't grow/, hint: /Free space/ });
  assert.ok(stored > 5);
  assert.equal((await readAll(small, 's')).length, stored);
  assert.deepEqual(await small.streams(), [{ stream: 's', position: stored }]);
  await small.close();
  const large = await openSqliteJournal({ path });
  t.after(() => large.close());
  assert.equal(await large.append('s', stored, filler(stored + 1), meta), stored + 1);
});

test('a disk that is really full refuses appends, and the same journal works once space is freed', async (t) => {
  const dir = smallDisk(t, 1024);
  if (dir === undefined) return;
  const ballast = join(dir, 'ballast');
  writeFileSync(ballast, Buffer.alloc(400 * 1024));
  const journal = await openSqliteJournal({ path: join(dir, 'journal.db') });
  try {
    let stored = 0;
    const fill = async () => {
      for (;;) stored = await journal.append('s', stored, filler(stored + 1), meta);
    };
    await assert.rejects(fill(), { code: 'resource_exhausted' });
    await assert.rejects(journal.append('s', stored, filler(0), meta), { code: 'resource_exhausted' });
    rmSync(ballast);
    for (let i = 0; i < 5; i++) stored = await journal.append('s', stored, filler(stored + 1), meta);
    const events = await readAll(journal, 's');
    assert.deepEqual(
      events.map(({ data }) => (data as { n: number }).n),
      Array.from({ length: stored }, (_, i) => i + 1),
    );
  } finally {
    await journal.close();
  }
});

test('a journal on a full disk says when it is opened that the disk is full, and opens once there is room', async (t) => {
  const dir = smallDisk(t, 1024);
  if (dir === undefined) return;
  const path = join(dir, 'journal.db');
  const before = await openSqliteJournal({ path });
  const stored = await before.append('s', 0, filler(1), meta);
  await before.close();
  const ballast = join(dir, 'ballast');
  assert.throws(() => writeFileSync(ballast, Buffer.alloc(1024 * 1024)), { code: 'ENOSPC' });
  await assert.rejects(openSqliteJournal({ path }), { code: 'resource_exhausted', hint: /Free space on that disk/ });
  rmSync(ballast);
  const journal = await openSqliteJournal({ path });
  assert.equal((await readAll(journal, 's')).length, stored);
  await journal.close();
});

test('a file that is no journal is refused in words that say so', async (t) => {
  const dir = temporaryDirectory(t);
  const garbage = join(dir, 'garbage.db');
  writeFileSync(garbage, 'this is not a database, '.repeat(1000));
  await assert.rejects(openSqliteJournal({ path: garbage }), { code: 'internal', message: /garbage\.db is damaged/ });

  const foreign = join(dir, 'foreign.db');
  const other = new DatabaseSync(foreign);
  other.exec('CREATE TABLE songs (title TEXT)');
  other.close();
  await assert.rejects(openSqliteJournal({ path: foreign }), {
    code: 'failed_precondition',
    message: /another program/,
  });

  const newer = join(dir, 'newer.db');
  await (await openSqliteJournal({ path: newer })).close();
  const future = new DatabaseSync(newer);
  future.exec('INSERT INTO schema_version VALUES (99, 0)');
  future.close();
  await assert.rejects(openSqliteJournal({ path: newer }), {
    message: /schema 99; .* knows up to 1/,
    hint: /newer version/,
  });

  const nowhere = join(dir, 'missing', 'journal.db');
  await assert.rejects(openSqliteJournal({ path: nowhere }), {
    code: 'failed_precondition',
    message: /can't be opened/,
  });
});

test('a flipped bit in a stored event is noticed when it is read, and one in a snapshot makes it disappear', async (t) => {
  const path = join(temporaryDirectory(t), 'journal.db');
  let journal = await openSqliteJournal({ path });
  await journal.append(
    's',
    0,
    [
      { type: 'n', data: 'needle-one' },
      { type: 'n', data: 'needle-two' },
    ],
    meta,
  );
  await journal.saveSnapshot('s', 2, 'needle-snap');
  await journal.close();
  for (const needle of ['needle-two', 'needle-snap']) {
    const offset = readFileSync(path).indexOf(needle);
    assert.ok(offset > 0, needle);
    const file = openSync(path, 'r+');
    writeSync(file, 'N', offset);
    closeSync(file);
  }
  journal = await openSqliteJournal({ path });
  t.after(() => journal.close());
  const read: unknown[] = [];
  const reading = async () => {
    for await (const { data } of journal.read('s', 1)) read.push(data);
  };
  await assert.rejects(reading(), { code: 'internal', message: /damaged: event 2 of stream s/, hint: /backup/ });
  assert.deepEqual(read, ['needle-one']);
  assert.equal(await journal.loadSnapshot('s'), null);
});

test('a page of zeros in the middle is reported as damage', async (t) => {
  const path = join(temporaryDirectory(t), 'journal.db');
  let journal = await openSqliteJournal({ path });
  for (let i = 0; i < 60; i++) await journal.append('s', i, filler(i), meta);
  await journal.close();
  const file = openSync(path, 'r+');
  const size = statSync(path).size;
  for (let page = 6; page * 4096 < size; page++) writeSync(file, Buffer.alloc(4096), 0, 4096, page * 4096);
  closeSync(file);
  const use = async () => {
    journal = await openSqliteJournal({ path });
    try {
      await readAll(journal, 's');
    } finally {
      await journal.close();
    }
  };
  await assert.rejects(use(), { code: 'internal', message: /is damaged/ });
});

test('a fault in the middle of a commit leaves nothing of it behind, and the journal goes on', async (t) => {
  const path = join(temporaryDirectory(t), 'journal.db');
  const journal = await openSqliteJournal({ path });
  t.after(() => journal.close());
  await journal.append('s', 0, filler(1), meta);
  // Somebody tampers: an event beyond the recorded position makes the next insert fail after others have been made.
  const tamper = new DatabaseSync(path);
  tamper.exec("INSERT INTO event SELECT id, 2, 0, 0, 'x', '0', 0 FROM stream WHERE name = 's'");
  tamper.close();
  const results = await Promise.allSettled([
    journal.append('other', 0, filler(1), meta),
    journal.append('s', 1, filler(2), meta),
  ]);
  for (const result of results) {
    assert.ok(result.status === 'rejected');
    assert.match(String(result.reason), /UNIQUE constraint failed/);
  }
  assert.deepEqual(await journal.streams(), [{ stream: 's', position: 1 }]);
  assert.equal(await journal.append('other', 0, filler(1), meta), 1);
});
