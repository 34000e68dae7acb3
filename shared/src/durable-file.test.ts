import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { diskError, isSystemError } from './disk-error.ts';
import { mkdirDurable, renameDurable, writeFileDurable } from './durable-file.ts';
import { FarmError } from './errors.ts';
import { smallDisk, temporaryDirectory } from './testing/temporary.ts';

test('a durable write replaces the file, keeps nothing else and honours the mode', async (t) => {
  const dir = temporaryDirectory(t);
  const path = join(dir, 'identity.json');
  await writeFileDurable(path, 'one');
  await writeFileDurable(path, Buffer.from('two'), 0o600);
  assert.equal(readFileSync(path, 'utf8'), 'two');
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(dir), ['identity.json']);
});

test('a durable write that fails leaves the old content and no temporary file', async (t) => {
  const dir = smallDisk(t, 64);
  if (dir === undefined) return;
  const path = join(dir, 'file');
  await writeFileDurable(path, 'old');
  const error = await writeFileDurable(path, Buffer.alloc(1024 * 1024)).catch((e: unknown) => e);
  assert.ok(isSystemError(error, 'ENOSPC'), String(error));
  assert.equal(diskError(error, 'write file').code, 'resource_exhausted');
  assert.equal(readFileSync(path, 'utf8'), 'old');
  assert.deepEqual(readdirSync(dir), ['file']);
});

test('a durable rename replaces its destination', async (t) => {
  const dir = temporaryDirectory(t);
  const [from, to] = [join(dir, 'a.tmp'), join(dir, 'b')];
  writeFileSync(from, 'new');
  writeFileSync(to, 'old');
  await renameDurable(from, to);
  assert.equal(readFileSync(to, 'utf8'), 'new');
  assert.ok(!existsSync(from));
  await assert.rejects(renameDurable(from, to), { code: 'ENOENT' });
  chmodSync(to, 0o644);
});

test('directories are made with their parents, and making them again is fine', async (t) => {
  const dir = temporaryDirectory(t);
  mkdirSync(join(dir, 'a'));
  const path = join(dir, 'a', 'b', 'c');
  await mkdirDurable(path);
  await mkdirDurable(path);
  assert.ok(statSync(path).isDirectory());
  writeFileSync(join(path, 'file'), '');
  await assert.rejects(mkdirDurable(join(path, 'file', 'd')), { code: 'ENOTDIR' });
});

test('system errors become FarmErrors that say what was being done', () => {
  const full = Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC' });
  assert.equal(diskError(full, 'store x').message, 'cannot store x: ENOSPC: no space left');
  assert.equal(diskError(new Error('odd'), 'store x').code, 'internal');
  const own = new FarmError('conflict', 'mine');
  assert.equal(diskError(own, 'store x'), own);
});
