import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { groupMembers, mostLoaded, parseGpuUsers } from './process-memory.ts';

const GIB = 2 ** 30;

test('lines of nvidia-smi are read, those that tell no number are left out', () => {
  const csv = 'GPU-a, 420, 1024\r\n\nGPU-b, 7, [N/A]\nGPU-b, [Not Found], 5\nGPU-b, 421, 2048\nNo devices were found\n';
  assert.deepEqual(parseGpuUsers(csv), [
    { gpu: 'GPU-a', pid: 420, bytes: GIB },
    { gpu: 'GPU-b', pid: 421, bytes: 2 * GIB },
  ]);
  assert.deepEqual(parseGpuUsers(''), []);
});

test('the most loaded GPU counts, with all processes of the group on it and no others', () => {
  const users = [
    { gpu: 'a', pid: 1, bytes: 5 },
    { gpu: 'b', pid: 1, bytes: 3 },
    { gpu: 'b', pid: 2, bytes: 4 },
    { gpu: 'b', pid: 3, bytes: 100 },
  ];
  assert.equal(mostLoaded(users, new Set([1, 2])), 7);
  assert.equal(mostLoaded(users, new Set([9])), null);
});

test('the members of a process group are found, children too', async (t) => {
  const child = spawn('sh', ['-c', 'sleep 600 & echo $!; wait'], {
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const { pid } = child;
  assert.ok(pid !== undefined);
  t.after(() => process.kill(-pid, 'SIGKILL'));
  const [line] = await once(child.stdout, 'data');
  assert.deepEqual([...(await groupMembers(pid))].sort(), [pid, Number.parseInt(String(line), 10)].sort());
});
