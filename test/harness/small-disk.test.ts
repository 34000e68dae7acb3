import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { OwnDirectory } from './owner.ts';
import { SmallDisk } from './small-disk.ts';

test('a disk that is full takes nothing until it has room again', (t) => {
  using dir = new OwnDirectory();
  using disk = SmallDisk.mount(join(dir.path, 'disk'), 8);
  if (disk === null) return t.skip('mounting a file system is not allowed here');
  const path = join(disk.path, 'file');
  writeFileSync(path, Buffer.alloc(1_000_000));
  disk.fill();
  assert.throws(() => writeFileSync(join(disk.path, 'more'), Buffer.alloc(100_000)), { code: 'ENOSPC' });
  disk.free();
  writeFileSync(join(disk.path, 'more'), Buffer.alloc(4_000_000));
});
