import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { lastOutput } from './last-output.ts';
import { isRunning } from './testdata/processes.ts';

test('output that came while this process stood still is read, however long it stood', async (t) => {
  const child = spawn('sh', ['-c', 'read go; echo "last words"'], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  const closed = once(child, 'close');
  let text = '';
  child.stdout.on('data', (part: Buffer) => {
    text += part.toString('utf8');
  });
  await once(child, 'spawn');
  const read = lastOutput(closed, 1);
  child.stdin.write('\n');
  const { pid = 0 } = child;
  const stood = new Int32Array(new SharedArrayBuffer(4));
  while (isRunning(pid)) Atomics.wait(stood, 0, 0, 10);
  await read;
  assert.equal(text, 'last words\n');
  await closed;
});

test('a pipe that somebody holds open is not waited for', async () => {
  await lastOutput(new Promise(() => {}), 1);
});
