import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { FileCache } from './file-cache.ts';

const contentOf = (text: string) => ({
  sha256: createHash('sha256').update(text).digest('hex'),
  bytes: Buffer.byteLength(text),
});

/** A cache of 10 bytes, and a log of what had to be loaded. */
function scene(t: TestContext) {
  const dir = temporaryDirectory(t);
  const clock = new ManualClock();
  const loads: string[] = [];
  const load = (text: string) => async (path: string) => {
    loads.push(text);
    writeFileSync(path, text);
    return contentOf(text);
  };
  return { dir, clock, loads, load, open: () => FileCache.open({ dir, maxBytes: 10, clock }) };
}

test('a file is loaded once, and its copy has the content', async (t) => {
  const { open, load, loads } = scene(t);
  const cache = await open();
  const paths = [await cache.get('a', load('aaaa')), await cache.get('a', load('aaaa'))];
  assert.equal(paths[0], paths[1]);
  assert.equal(readFileSync(paths[0] ?? '', 'utf8'), 'aaaa');
  assert.deepEqual(loads, ['aaaa']);
  assert.equal(cache.bytes, 4);
});

test('the least recently used copies make room, however they came to be there', async (t) => {
  const { dir, open, load, loads, clock } = scene(t);
  const cache = await open();
  const put = join(dir, '..', `put-${process.pid}`);
  writeFileSync(put, 'aaaa');
  await cache.adopt('a', put, contentOf('aaaa'));
  assert.ok(!existsSync(put));
  await cache.get('b', load('bbbb'));
  clock.advance(20_000);
  await cache.get('a', load('aaaa'));
  clock.advance(20_000);
  const reader = cache.get('c', load('cccc'));
  await reader;
  assert.equal(cache.bytes, 8);
  assert.equal(readdirSync(dir).length, 2);
  clock.advance(60_000);
  await cache.get('a', load('aaaa'));
  await cache.get('b', load('bbbb'));
  assert.deepEqual(loads, ['bbbb', 'cccc', 'bbbb'], 'b had to go for c, a was used later and stayed');
});

test('a path that was just handed out stays, even beyond the limit, and goes when its time is over', async (t) => {
  const { open, load, clock } = scene(t);
  const cache = await open();
  const large = await cache.get('large', load('x'.repeat(50)));
  const other = await cache.get('other', load('yyyy'));
  assert.ok(existsSync(large) && existsSync(other));
  clock.advance(31_000);
  await cache.get('third', load('zzzz'));
  assert.ok(!existsSync(large));
  assert.ok(existsSync(other), 'it fits');
  assert.equal(cache.bytes, 8);
});

test('requests at the same time share one load, and a failed load leaves nothing', async (t) => {
  const { dir, open, load, loads } = scene(t);
  const cache = await open();
  const failing = async (path: string): Promise<never> => {
    writeFileSync(path, 'half');
    throw new Error('broken');
  };
  const results = await Promise.allSettled([cache.get('a', failing), cache.get('a', load('aaaa'))]);
  assert.deepEqual(
    results.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  assert.deepEqual(readdirSync(dir), []);
  const paths = await Promise.all(Array.from({ length: 5 }, () => cache.get('a', load('aaaa'))));
  assert.equal(new Set(paths).size, 1);
  assert.deepEqual(loads, ['aaaa']);
});

test('copies outlive a restart, but one that was damaged or removed meanwhile is loaded again', async (t) => {
  const { dir, open, load, loads } = scene(t);
  const first = await open();
  const [a, b, c] = [
    await first.get('a', load('aaa')),
    await first.get('b', load('bbb')),
    await first.get('c', load('ccc')),
  ];
  writeFileSync(join(dir, 'left-over.part'), 'x');
  const second = await open();
  assert.equal(second.bytes, 9);
  assert.equal(readdirSync(dir).length, 3, 'the rest of a load is gone');
  loads.length = 0;
  writeFileSync(b, 'bad');
  writeFileSync(c, 'longer');
  for (const [key, path, text] of [
    ['a', a, 'aaa'],
    ['b', b, 'bbb'],
    ['c', c, 'ccc'],
  ] as const) {
    assert.equal(await second.get(key, load(text)), path);
    assert.equal(readFileSync(path, 'utf8'), text);
  }
  assert.deepEqual(loads, ['bbb', 'ccc']);
  assert.equal(second.bytes, 9);
});

test('a dropped copy is gone, also one that was being loaded, and other content may follow', async (t) => {
  const { open, load, loads } = scene(t);
  const cache = await open();
  const loading = cache.get('a', load('aaaa'));
  await cache.drop('a');
  assert.ok(!existsSync(await loading));
  assert.equal(cache.bytes, 0);
  assert.equal(readFileSync(await cache.get('a', load('other')), 'utf8'), 'other');
  await cache.drop('never there');
  assert.deepEqual(loads, ['aaaa', 'other']);
});

test('a file that can’t be taken over is deleted and costs a load later', async (t) => {
  const { dir, open, load, loads } = scene(t);
  const cache = await open();
  await cache.adopt('a', join(dir, 'missing'), contentOf('aaaa'));
  assert.equal(cache.bytes, 0);
  await cache.get('a', load('aaaa'));
  assert.deepEqual(loads, ['aaaa']);
});
