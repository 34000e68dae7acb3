import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ownDirPrefix } from './owner.ts';
import { SmallDisk } from './small-disk.ts';

test('a disk that is full takes nothing until it has room again', (t) => {
  const dir = mkdtempSync(ownDirPrefix());
  t.after(() => rmSync(dir, { recursive: true }));
  using disk = SmallDisk.mount(join(dir, 'disk'), 8);
  if (disk === null) return t.skip('mounting a file system is not allowed here');
  const path = join(disk.path, 'file');
  writeFileSync(path, Buffer.alloc(1_000_000));
  disk.fill();
  assert.throws(() => writeFileSync(join(disk.path, 'more'), Buffer.alloc(100_000)), { code: 'ENOSPC' });
  disk.free();
  writeFileSync(join(disk.path, 'more'), Buffer.alloc(4_000_000));
});
