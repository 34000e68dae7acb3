import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { smallDisk, temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { writeOutput } from './output-part.ts';

test('an output that the disk takes only a part of is an error, and no half file stays', async (t) => {
  const dir = smallDisk(t, 64);
  if (dir === undefined) return;
  const path = join(dir, 'talk.mp4');
  const saved = writeOutput(path, false, (part) => part.write(Buffer.alloc(100 * 1024)));
  await assert.rejects(saved, { code: 'resource_exhausted' });
  assert.deepEqual(readdirSync(dir), []);
});

test('a file that somebody puts there meanwhile is not replaced, unless that was asked for', async (t) => {
  const dir = temporaryDirectory(t);
  for (const force of [false, true]) {
    const path = join(dir, `${force}.mp4`);
    const saved = writeOutput(path, force, async (part) => {
      await part.write(Buffer.from('video'));
      writeFileSync(path, 'mine');
    });
    if (force) await saved;
    else await assert.rejects(saved, { code: 'invalid_argument', field: 'output' });
    assert.equal(readFileSync(path, 'utf8'), force ? 'video' : 'mine');
    assert.ok(!existsSync(`${path}.part`));
  }
});

test('of two downloads to one output none takes the half file of the other for its own', async (t) => {
  const dir = temporaryDirectory(t);
  const path = join(dir, 'talk.mp4');
  const half = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  let second: Promise<void> | undefined;
  const first = writeOutput(path, false, async (part) => {
    await part.write(Buffer.from('first'));
    second = writeOutput(path, false, async (other) => {
      await other.write(Buffer.from('sec'));
      begun.resolve();
      await half.promise;
      await other.write(Buffer.from('ond'));
    });
    await begun.promise;
  });
  await assert.rejects(first, { code: 'conflict', field: 'output' });
  assert.ok(!existsSync(path));
  half.resolve();
  await second;
  assert.equal(readFileSync(path, 'utf8'), 'second');
  assert.deepEqual(readdirSync(dir), ['talk.mp4']);
});
