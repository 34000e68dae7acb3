import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { smallDisk, temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { openAgentState } from './identity.ts';
import { AgentProcess } from './testing/agent-process.ts';
import { until } from './testing/fake-coordinator.ts';

test('the identity is made once, and the directory is closed to others', async (t) => {
  const dir = join(temporaryDirectory(t), 'a', 'b');
  const first = await openAgentState(dir);
  first.release();
  const second = await openAgentState(dir);
  second.release();
  assert.match(first.nodeId, /^node-[0-9a-f-]{36}$/);
  assert.equal(second.nodeId, first.nodeId);
  assert.equal(statSync(dir).mode & 0o777, 0o700);
});

test('an identity that is none is refused, and the lock is given back', async (t) => {
  const dir = temporaryDirectory(t);
  writeFileSync(join(dir, 'node-id'), 'rm -rf /\n');
  await assert.rejects(openAgentState(dir), { code: 'failed_precondition', message: /holds "rm -rf \/"/ });
  writeFileSync(join(dir, 'node-id'), `node-${'0'.repeat(36)}\n`);
  (await openAgentState(dir)).release();
});

test('a directory in use is refused with the process that uses it, until that is killed', async (t) => {
  const dir = temporaryDirectory(t);
  const script = `
    import { openAgentState } from ${JSON.stringify(new URL('./identity.ts', import.meta.url).href)};
    await openAgentState(${JSON.stringify(dir)});
    console.log('locked');
    setInterval(() => {}, 1000);`;
  const holder = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => holder.kill('SIGKILL'));
  await once(holder.stdout, 'data');
  await assert.rejects(openAgentState(dir), {
    code: 'failed_precondition',
    message: `--state-dir: ${dir} is in use by another agent (process ${holder.pid})`,
  });
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  (await openAgentState(dir)).release();
});

test('an agent whose state directory is a file says so in one line', async (t) => {
  const path = join(temporaryDirectory(t), 'file');
  writeFileSync(path, '');
  const agent = AgentProcess.start(t, path, '127.0.0.1:1');
  assert.equal((await agent.exited).code, 2);
  assert.match(agent.output, /^error: --state-dir: ".*" can't be used: .*; accepted: a directory .*\n$/);
});

/** Fills a disk to its last byte. */
function fill(dir: string): void {
  const path = join(dir, 'ballast');
  assert.throws(() => writeFileSync(path, Buffer.alloc(1024 * 1024)), { code: 'ENOSPC' });
}

test('a full disk keeps no agent from starting that was there before: its spool is what may give the room back', async (t) => {
  const dir = smallDisk(t, 64);
  if (dir === undefined) return;
  const before = await openAgentState(dir);
  before.release();
  fill(dir);
  const state = await openAgentState(dir);
  assert.equal(state.nodeId, before.nodeId);
  // A process that it is not is not named either.
  const other = AgentProcess.start(t, dir, '127.0.0.1:1');
  assert.equal((await other.exited).code, 7);
  assert.match(other.output, /is in use by another agent \(process unknown\)/);
  state.release();
  const agent = AgentProcess.start(t, dir, '127.0.0.1:1');
  await until(() => agent.lines('"agent runs"').length === 1, 'it runs');
});

test('an agent that has no identity yet and no room for one says so in two lines', async (t) => {
  const dir = smallDisk(t, 64);
  if (dir === undefined) return;
  fill(dir);
  const agent = AgentProcess.start(t, dir, '127.0.0.1:1');
  const { code } = await agent.exited;
  const said = `^error: cannot write ${dir}/node-id: ENOSPC: no space left on device, write\ntry: Free space on that disk .*\n$`;
  assert.match(agent.output, new RegExp(said));
  assert.equal(code, 1);
});
