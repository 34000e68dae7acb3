import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { describe, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import type { ArtifactEntry, ArtifactStore } from './artifact-store.ts';

/** One place where a store can be opened again and again. */
export interface ArtifactStoreFixture {
  /** Opens the store; what was stored before is there. */
  open(): Promise<ArtifactStore>;
}

const contentOf = (data: Uint8Array) => ({
  sha256: createHash('sha256').update(data).digest('hex'),
  bytes: data.length,
});

let temporaryFiles = 0;

/** Puts some bytes into the store as a caller would. */
export async function putBytes(store: ArtifactStore, key: string, data: Uint8Array): Promise<void> {
  const path = join(store.tempDir(), `put-${temporaryFiles++}`);
  writeFileSync(path, data);
  await store.putFile(key, path, contentOf(data));
}

const malformed = [
  '',
  '/',
  '/etc/passwd',
  '..',
  '../x',
  'a/../b',
  'a/..',
  'a/./b',
  'a//b',
  'a/',
  '.hidden',
  'a/.hidden',
  '-rf',
  'a/-x',
  'a b',
  'a\\b',
  'a\0b',
  'a\n',
  'ü',
  'a:b',
  '~',
  'x'.repeat(201),
  `${'a/'.repeat(8)}a`,
];

/** Sizes in bytes by key. */
function sizes(entries: readonly ArtifactEntry[]): Record<string, number> {
  return Object.fromEntries(entries.map(({ key, bytes }) => [key, bytes]));
}

/** What every artifact store must do. `create` gives each test a fresh, empty place. */
export function artifactStoreContract(name: string, create: (t: TestContext) => Promise<ArtifactStoreFixture>): void {
  describe(`${name} as an artifact store`, () => {
    test('a file is taken over under its key and read back, whole or in part', async (t) => {
      const place = await create(t);
      const store = await place.open();
      const data = randomBytes(200_000);
      const key = 'jobs/01J-x/chunks/000001-ab.mp4';
      assert.equal(await store.stat(key), null);
      await putBytes(store, key, data);
      assert.deepEqual(readdirSync(store.tempDir()), [], 'the temporary file is gone');
      for (const opened of [store, await place.open()]) {
        assert.deepEqual(await opened.stat(key), { bytes: data.length });
        assert.ok((await buffer(opened.open(key))).equals(data));
      }
      const parts = [
        { start: 5 },
        { start: 5, end: 5 },
        { start: 199_999 },
        { end: 1 },
        { start: 70_000, end: 140_001 },
      ];
      for (const range of [...parts, { start: 200_000 }, { start: 300_000 }, { start: 10, end: 900_000 }]) {
        const part = await buffer(store.open(key, range));
        assert.ok(part.equals(data.subarray(range.start ?? 0, range.end)), JSON.stringify(range));
      }
      for (const range of [{ start: -1 }, { start: 2, end: 1 }, { start: 0.5 }, { end: Number.NaN }]) {
        assert.throws(() => store.open(key, range), { code: 'invalid_argument', field: 'range' });
      }
    });

    test('the same content again is fine, other content is not', async (t) => {
      const store = await (await create(t)).open();
      await putBytes(store, 'inputs/a', Buffer.from('one'));
      await putBytes(store, 'inputs/a', Buffer.from('one'));
      for (const other of ['two', 'longer']) {
        await assert.rejects(putBytes(store, 'inputs/a', Buffer.from(other)), { code: 'conflict', field: 'key' });
      }
      assert.equal(String(await buffer(store.open('inputs/a'))), 'one');
    });

    test('of many puts of one key at the same time one content wins, and all who put it succeed', async (t) => {
      const store = await (await create(t)).open();
      const contents = ['one', 'two', 'one', 'six', 'one'];
      const results = await Promise.allSettled(contents.map((text) => putBytes(store, 'k', Buffer.from(text))));
      const winner = String(await buffer(store.open('k')));
      results.forEach(({ status }, i) => void assert.equal(status === 'fulfilled', contents[i] === winner));
    });

    test('a file of another size than announced is refused and left alone', async (t) => {
      const store = await (await create(t)).open();
      const path = join(store.tempDir(), 'short');
      writeFileSync(path, 'short');
      const content = { ...contentOf(Buffer.from('short')), bytes: 6 };
      await assert.rejects(store.putFile('k', path, content), { code: 'invalid_argument', field: 'bytes' });
      assert.equal(await store.stat('k'), null);
      assert.equal(readFileSync(path, 'utf8'), 'short');
      const missing = join(store.tempDir(), 'missing');
      await assert.rejects(store.putFile('k', missing, content), { code: 'internal', message: /cannot store k/ });
    });

    test('malformed keys are refused by every method', async (t) => {
      const store = await (await create(t)).open();
      const path = join(store.tempDir(), 'x');
      writeFileSync(path, 'x');
      const refused = { code: 'invalid_argument', field: 'key' };
      for (const key of malformed) {
        await assert.rejects(store.putFile(key, path, contentOf(Buffer.from('x'))), refused, JSON.stringify(key));
        await assert.rejects(store.stat(key), refused);
        await assert.rejects(store.remove(key), refused);
        await assert.rejects(store.removePrefix(key), refused);
        if (key !== '') await assert.rejects(store.list(key), refused);
        await assert.rejects(store.localFile(key), refused);
        await assert.rejects(store.presignPut(key, contentOf(Buffer.from('x'))), refused);
        assert.throws(() => store.open(key), refused);
      }
      assert.ok(existsSync(path));
    });

    test('a missing file is null, an empty list, or not_found', async (t) => {
      const store = await (await create(t)).open();
      await putBytes(store, 'a/file', Buffer.from('x'));
      for (const key of ['nothing', 'a', 'a/file/below', 'a/other']) {
        assert.equal(await store.stat(key), null, key);
        await assert.rejects(buffer(store.open(key)), { code: 'not_found', field: 'key' }, key);
      }
      assert.deepEqual(await store.list('nothing'), []);
      assert.deepEqual(await store.list('a/file'), []);
      await store.remove('nothing');
      await store.remove('a/file/below');
      await store.removePrefix('nothing/at/all');
      await store.removePrefix('a/file');
      assert.deepEqual(await store.stat('a/file'), { bytes: 1 });
    });

    test('listing and deleting by prefix go by whole parts of the key', async (t) => {
      const store = await (await create(t)).open();
      const begin = Date.now();
      for (const key of ['jobs/a/2', 'jobs/a/1', 'jobs/ab/1', 'jobs/b', 'inputs/a'])
        await putBytes(store, key, Buffer.from(key));
      const keys = async (prefix: string) => (await store.list(prefix)).map(({ key }) => key);
      const entries = await store.list('jobs/a');
      assert.deepEqual(sizes(entries), { 'jobs/a/1': 8, 'jobs/a/2': 8 });
      // Stores elsewhere have clocks of their own, and whole seconds.
      const [earliest, latest] = [begin - 60_000, Date.now() + 60_000];
      for (const { storedAt } of entries) assert.ok(storedAt > earliest && storedAt < latest, `stored at ${storedAt}`);
      assert.deepEqual(await keys('job'), []);
      assert.deepEqual(await keys(''), ['inputs/a', 'jobs/a/1', 'jobs/a/2', 'jobs/ab/1', 'jobs/b']);
      await store.removePrefix('jobs/a');
      assert.deepEqual(await keys(''), ['inputs/a', 'jobs/ab/1', 'jobs/b']);
      await store.remove('jobs/b');
      assert.deepEqual(await keys('jobs'), ['jobs/ab/1']);
      await putBytes(store, 'jobs/a/1', Buffer.from('again'));
      assert.deepEqual(await store.stat('jobs/a/1'), { bytes: 5 });
    });

    test('tools can read a stored file by its path, and is told when there is none', async (t) => {
      const store = await (await create(t)).open();
      await putBytes(store, 'inputs/a', Buffer.from('content'));
      assert.equal(readFileSync(await store.localFile('inputs/a'), 'utf8'), 'content');
      await assert.rejects(store.localFile('inputs/b'), { code: 'not_found' });
      assert.ok((await store.freeBytes()) > 0);
    });

    test('temporary files of an earlier process are gone after opening', async (t) => {
      const place = await create(t);
      const store = await place.open();
      writeFileSync(join(store.tempDir(), 'left-over'), 'x');
      await putBytes(store, 'inputs/a', Buffer.from('kept'));
      const again = await place.open();
      assert.deepEqual(readdirSync(again.tempDir()), []);
      assert.deepEqual(await again.stat('inputs/a'), { bytes: 4 });
    });

    test('reading can stop anywhere', async (t) => {
      const store = await (await create(t)).open();
      await putBytes(store, 'big', randomBytes(3_000_000));
      for await (const piece of store.open('big')) {
        assert.ok(piece.length > 0);
        break;
      }
      const stream = store.open('big');
      stream.destroy();
    });

    test('whatever is put and deleted, the store holds what a model holds', async (t) => {
      const key = fc.constantFrom('a', 'b/c', 'b/d', 'b/e/f', 'b2');
      const operation = fc.oneof(
        fc.record({ kind: fc.constant('put' as const), key, text: fc.constantFrom('x', 'y', 'zz') }),
        fc.record({ kind: fc.constant('remove' as const), key }),
        fc.record({ kind: fc.constant('removePrefix' as const), key: fc.constantFrom('a', 'b', 'b/e') }),
      );
      await fc.assert(
        fc.asyncProperty(fc.array(operation, { maxLength: 15 }), async (operations) => {
          const store = await (await create(t)).open();
          const model = new Map<string, string>();
          for (const step of operations) {
            if (step.kind === 'put') {
              const fits = (model.get(step.key) ?? step.text) === step.text;
              const put = putBytes(store, step.key, Buffer.from(step.text));
              if (fits) await put.then(() => model.set(step.key, step.text));
              else await assert.rejects(put, { code: 'conflict' });
            } else if (step.kind === 'remove') {
              await store.remove(step.key);
              model.delete(step.key);
            } else {
              await store.removePrefix(step.key);
              for (const stored of [...model.keys()]) if (stored.startsWith(`${step.key}/`)) model.delete(stored);
            }
          }
          const listed = await store.list('');
          assert.deepEqual(
            sizes(listed),
            Object.fromEntries([...model].map(([stored, text]) => [stored, text.length])),
          );
          assert.deepEqual(
            listed.map((entry) => entry.key),
            [...model.keys()].sort(),
          );
        }),
        { numRuns: 40 },
      );
    });
  });
}
