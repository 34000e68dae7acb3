import assert from 'node:assert/strict';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { ownIdentity } from './own-identity.ts';

test('the identity is made once; where it can not be kept, that is said with its file', async (t) => {
  const dir = temporaryDirectory(t);
  const first = await ownIdentity(dir);
  assert.match(first, /^[0-9a-f-]{36}$/);
  assert.equal(await ownIdentity(dir), first);
  const path = join(dir, 'coordinator-id');
  rmSync(path);
  mkdirSync(path);
  await assert.rejects(ownIdentity(dir), { name: 'FarmError', message: new RegExp(`^cannot write ${path}: EISDIR`) });
});
