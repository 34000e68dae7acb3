import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createLogger } from '@clipfarm/shared/log';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { InputCache } from './input-cache.ts';

const never = new AbortController().signal;
const log = createLogger({ name: 'test', level: 'silent' });

function refOf(content: string) {
  return { sha256: createHash('sha256').update(content).digest('hex'), bytes: content.length };
}

/** A cache whose coordinator has the given contents and can be held up. */
async function cache(t: TestContext, contents: readonly string[], maxBytes = 1000) {
  const dir = temporaryDirectory(t);
  writeFileSync(join(dir, 'half-fetched.tmp'), 'x');
  const fetched: string[] = [];
  const stopped: string[] = [];
  const gate = { open: Promise.resolve() };
  let time = 1_000_000;
  const inputs = await InputCache.open({
    ...{ dir, maxBytes, log },
    now: () => (time += 60_000),
    async *fetch(_jobId, sha256, signal) {
      fetched.push(sha256);
      signal.addEventListener('abort', () => stopped.push(sha256));
      await gate.open;
      signal.throwIfAborted();
      const content = contents.find((text) => refOf(text).sha256 === sha256) ?? 'something else';
      for (const character of content) yield Buffer.from(character);
    },
  });
  return { dir, inputs, fetched, stopped, gate };
}

test('an input is fetched once, however many ask at the same time, and then comes from disk', async (t) => {
  const { inputs, fetched, dir } = await cache(t, ['portrait']);
  const ref = refOf('portrait');
  const found = await Promise.all([1, 2, 3].map(() => inputs.get('j', ref, never)));
  found.push(await inputs.get('other job', ref, never));
  assert.equal(fetched.length, 1);
  for (const { path } of found) assert.equal(readFileSync(path, 'utf8'), 'portrait');
  assert.deepEqual(readdirSync(dir), [ref.sha256]);
});

test('a damaged file is fetched again', async (t) => {
  const { inputs, fetched } = await cache(t, ['portrait']);
  const { path } = await inputs.get('j', refOf('portrait'), never);
  writeFileSync(path, 'PORTRAIT');
  const again = await inputs.get('j', refOf('portrait'), never);
  assert.equal(readFileSync(again.path, 'utf8'), 'portrait');
  assert.equal(fetched.length, 2);
});

test('other content than was asked for is refused and not kept', async (t) => {
  const { inputs, dir } = await cache(t, []);
  await assert.rejects(inputs.get('j', { ...refOf('portrait'), bytes: 14 }, never), { code: 'invalid_argument' });
  assert.deepEqual(readdirSync(dir), []);
});

test('one who stops waiting does not stop the fetch for the others; the last one does', async (t) => {
  const { inputs, fetched, stopped, gate } = await cache(t, ['audio']);
  const held = Promise.withResolvers<void>();
  gate.open = held.promise;
  const [first, second] = [new AbortController(), new AbortController()];
  const ref = refOf('audio');
  const one = inputs.get('j', ref, first.signal);
  const other = inputs.get('j', ref, second.signal);
  while (fetched.length === 0) await new Promise((resolve) => setImmediate(resolve));
  first.abort(new Error('revoked'));
  await assert.rejects(one, /revoked/);
  assert.deepEqual(stopped, []);
  second.abort(new Error('revoked too'));
  await assert.rejects(other, /revoked too/);
  assert.deepEqual(stopped, [ref.sha256]);
  held.resolve();
  await inputs.get('j', ref, never);
  assert.equal(fetched.length, 2);
});

test('what was used longest ago goes first, what is in use stays', async (t) => {
  const contents = ['a', 'b', 'c', 'd'].map((letter) => letter.repeat(40));
  const { inputs, dir } = await cache(t, contents, 100);
  const [a, b, c, d] = contents.map(refOf);
  assert.ok(a && b && c && d);
  const held = await inputs.get('j', a, never);
  (await inputs.get('j', b, never)).release();
  (await inputs.get('j', c, never)).release();
  assert.deepEqual(
    [a, b, c].map(({ sha256 }) => existsSync(join(dir, sha256))),
    [true, false, true],
  );
  held.release();
  held.release();
  (await inputs.get('j', c, never)).release();
  (await inputs.get('j', d, never)).release();
  assert.deepEqual(
    [a, c, d].map(({ sha256 }) => existsSync(join(dir, sha256))),
    [false, true, true],
  );
});
