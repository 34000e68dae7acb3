import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { test } from 'node:test';
import { smallDisk, temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { artifactStoreContract, putBytes } from './artifact-store-contract.ts';
import { openDirectoryStore, storeUmask } from './directory-store.ts';

artifactStoreContract('A directory', async (t) => {
  const root = join(temporaryDirectory(t), 'artifacts');
  return { open: () => openDirectoryStore(root) };
});

test('no symbolic link, wherever it lies, leads out of the directory', async (t) => {
  const outside = temporaryDirectory(t);
  writeFileSync(join(outside, 'secret'), 'secret');
  mkdirSync(join(outside, 'dir'));
  writeFileSync(join(outside, 'dir', 'secret'), 'secret');
  const root = temporaryDirectory(t);
  const store = await openDirectoryStore(root);
  await putBytes(store, 'real/file', Buffer.from('x'));
  symlinkSync(join(outside, 'secret'), join(root, 'files', 'link'));
  symlinkSync(join(outside, 'dir'), join(root, 'files', 'linked'));
  const refused = { code: 'internal', message: /symbolic link/ };
  for (const key of ['link', 'linked/secret']) {
    await assert.rejects(store.stat(key), refused, key);
    await assert.rejects(buffer(store.open(key)), refused, key);
    await assert.rejects(store.localFile(key), refused, key);
    await assert.rejects(putBytes(store, key, Buffer.from('secret')), refused, key);
  }
  await assert.rejects(store.remove('linked/secret'), refused);
  await assert.rejects(store.removePrefix('linked/dir'), refused);
  await assert.rejects(store.list('linked'), refused);
  await assert.rejects(putBytes(store, 'linked/new', Buffer.from('x')), refused);
  await store.removePrefix('linked');
  assert.deepEqual(
    (await store.list('')).map(({ key, bytes }) => ({ key, bytes })),
    [{ key: 'real/file', bytes: 1 }],
  );
  assert.equal(readFileSync(join(outside, 'dir', 'secret'), 'utf8'), 'secret');
  assert.ok(!existsSync(join(outside, 'dir', 'new')));
});

test('the directory itself may be reached through a link', async (t) => {
  const base = temporaryDirectory(t);
  mkdirSync(join(base, 'disk2'));
  symlinkSync(join(base, 'disk2'), join(base, 'artifacts'));
  const store = await openDirectoryStore(join(base, 'artifacts'));
  await putBytes(store, 'a', Buffer.from('x'));
  assert.equal(await store.localFile('a'), join(base, 'disk2', 'files', 'a'));
});

test('a file that was made on another file system is taken in', async (t) => {
  const disk = smallDisk(t, 1000);
  if (disk === undefined) return;
  const store = await openDirectoryStore(join(disk, 'artifacts'));
  const made = join(temporaryDirectory(t), 'video.mp4');
  writeFileSync(made, 'video');
  await store.putFile('job/video.mp4', made, { sha256: createHash('sha256').update('video').digest('hex'), bytes: 5 });
  assert.equal((await buffer(store.open('job/video.mp4'))).toString(), 'video');
  assert.ok(!existsSync(made));
});

test('a directory that can’t be used is refused by its name', async (t) => {
  const base = temporaryDirectory(t);
  writeFileSync(join(base, 'file'), '');
  await assert.rejects(openDirectoryStore(join(base, 'file', 'artifacts')), {
    code: 'internal',
    message: /cannot open the artifact directory .*file\/artifacts/,
  });
});

test('a full disk refuses a put with resource_exhausted; what was stored stays, and the file can be put later', async (t) => {
  const root = smallDisk(t, 512, 12);
  if (root === undefined) return;
  const store = await openDirectoryStore(root);
  await putBytes(store, 'kept', Buffer.from('kept'));
  const temp = join(store.tempDir(), 'new');
  writeFileSync(temp, 'new');
  const ballast = Array.from({ length: 20 }, (_, i) => join(root, `ballast-${i}`));
  assert.throws(() => ballast.forEach((path) => void writeFileSync(path, '')), { code: 'ENOSPC' });
  const content = { sha256: createHash('sha256').update('new').digest('hex'), bytes: 3 };
  await assert.rejects(store.putFile('jobs/a/chunks/b', temp, content), {
    code: 'resource_exhausted',
    message: /cannot store jobs\/a\/chunks\/b: ENOSPC/,
  });
  assert.equal(String(await buffer(store.open('kept'))), 'kept');
  for (const path of ballast) rmSync(path, { force: true });
  await store.putFile('jobs/a/chunks/b', temp, content);
  assert.deepEqual(await store.stat('jobs/a/chunks/b'), { bytes: 3 });
});

/** Permission bits. */
const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8);

test('what the store makes is for its user alone, whatever the umask allows', async (t) => {
  const before = process.umask(0);
  t.after(() => process.umask(before));
  const root = join(temporaryDirectory(t), 'a', 'artifacts');
  assert.equal(await storeUmask(root), 0o077);
  const store = await openDirectoryStore(root, 'one');
  await putBytes(store, 'jobs/1/video', Buffer.from('x'));
  for (const dir of ['..', '.', 'files', 'tmp', 'tmp/one', 'files/jobs', 'files/jobs/1']) {
    assert.equal(modeOf(join(root, dir)), '700', dir);
  }
});

test('where the operator has made the directory for a group, what the store makes is for that group, and nobody else', async (t) => {
  const before = process.umask(0);
  t.after(() => process.umask(before));
  const root = temporaryDirectory(t);
  for (const [mode, umask] of [
    [0o755, 0o077],
    [0o750, 0o077],
    [0o770, 0o007],
    [0o2775, 0o007],
  ] as const) {
    chmodSync(root, mode);
    assert.equal(await storeUmask(root), umask);
  }
  const store = await openDirectoryStore(root, 'one');
  await putBytes(store, 'jobs/1/video', Buffer.from('x'));
  for (const dir of ['files', 'tmp/one', 'files/jobs/1']) assert.equal(modeOf(join(root, dir)), '770', dir);
  assert.equal(modeOf(root), '775', 'the operator’s own stays as it is');
});
