import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { lockExclusively } from './exclusive-lock.ts';
import { temporaryDirectory } from './testing/temporary.ts';

test('a lock has one holder at a time, also within a process, its file stays empty and no other is made', (t) => {
  const dir = temporaryDirectory(t);
  const path = join(dir, 'lock');
  const first = lockExclusively(path);
  assert.ok(first);
  assert.deepEqual(readdirSync(dir), ['lock']);
  assert.equal(lockExclusively(path), null);
  first.release();
  const second = lockExclusively(path);
  assert.ok(second);
  second.release();
  assert.equal(statSync(path).size, 0);
});

test('the lock of a killed process is free, also while a child of its lives on', async (t) => {
  const path = join(temporaryDirectory(t), 'lock');
  const script = `
    import { spawn } from 'node:child_process';
    import { lockExclusively } from ${JSON.stringify(new URL('./exclusive-lock.ts', import.meta.url).href)};
    lockExclusively(${JSON.stringify(path)});
    console.log(spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' }).pid);
    setInterval(() => {}, 1000);`;
  const holder = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => holder.kill('SIGKILL'));
  const [child] = (await once(holder.stdout, 'data')) as [Buffer];
  t.after(() => process.kill(Number(child), 'SIGKILL'));
  assert.equal(lockExclusively(path), null);
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  const lock = lockExclusively(path);
  assert.ok(lock);
  lock.release();
});

test('a file that can not be locked at all is an error, not a lock that somebody holds', (t) => {
  assert.throws(() => lockExclusively(join(temporaryDirectory(t), 'missing', 'lock')), /unable to open/);
});
