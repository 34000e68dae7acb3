import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { listenForRunner } from './runner-socket.ts';

test('a directory in which others could put a socket of their own is refused', async (t) => {
  const dir = temporaryDirectory(t);
  const [own, open, link] = ['own', 'open', 'link'].map((name) => join(dir, name)) as [string, string, string];
  mkdirSync(open);
  chmodSync(open, 0o777);
  symlinkSync(own, link);
  const listener = await listenForRunner(own);
  t.after(() => listener.close());
  for (const path of [open, link]) {
    await assert.rejects(listenForRunner(path), { code: 'failed_precondition', field: 'socketDir' });
  }
  assert.deepEqual(readdirSync(open), []);
});
