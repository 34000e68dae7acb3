import assert from 'node:assert/strict';
import { chmodSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { systemReason } from './disk-error.ts';
import { isOpenToOthers, makeOwnDirectory } from './own-directory.ts';
import { temporaryDirectory } from './testing/temporary.ts';

test('a directory is made with its parents, for this user alone, and may be there already', async (t) => {
  const path = join(temporaryDirectory(t), 'a', 'b');
  await makeOwnDirectory(path, '--data-dir');
  await makeOwnDirectory(path, '--data-dir');
  assert.equal(statSync(path).mode & 0o777, 0o700);
});

test('a directory that was there already is told to be open to others where it is, and stays as it is', async (t) => {
  const path = temporaryDirectory(t);
  for (const [mode, open] of [
    [0o700, false],
    [0o770, false],
    [0o755, true],
    [0o701, true],
  ] as const) {
    chmodSync(path, mode);
    await makeOwnDirectory(path, '--data-dir');
    assert.equal(await isOpenToOthers(path), open);
    assert.equal(statSync(path).mode & 0o777, mode);
  }
});

test('what can not be a directory is refused with the flag, the path and the reason', async (t) => {
  const file = join(temporaryDirectory(t), 'file');
  writeFileSync(file, '');
  for (const [path, reason] of [
    [file, 'a file is in its place, or on the way to it'],
    [join(file, 'x'), 'a file is in its place, or on the way to it'],
    ['/proc/clipfarm/data', 'no such file or directory'],
  ] as const) {
    await assert.rejects(makeOwnDirectory(path, '--data-dir'), {
      code: 'invalid_argument',
      field: '--data-dir',
      message: `--data-dir: "${path}" can't be used: ${reason}; accepted: a directory that is there or can be made, and that this user may write to`,
    });
  }
});

test('a system error is told without its code, call and path', () => {
  const reason = (message: string) => systemReason(new Error(message));
  assert.equal(reason("ENOENT: no such file or directory, open '/x/y, z'"), 'no such file or directory');
  assert.equal(reason('EIO: i/o error, read'), 'i/o error');
  assert.equal(reason('something else'), 'something else');
});
