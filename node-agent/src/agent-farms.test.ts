import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AgentProcess } from './testing/agent-process.ts';
import { FakeCoordinator, until } from './testing/fake-coordinator.ts';
import { scene } from './testing/scene.ts';

test('chunks are handed in to the farm that they were made for, over another farm and a restart in between', async (t) => {
  const { coordinator: one, task, stateDir, spooled } = await scene(t);
  const other = await FakeCoordinator.start();
  t.after(() => other[Symbol.asyncDispose]());
  other.farmId = 'farm-2';
  for (const [sha256, content] of one.inputs) other.inputs.set(sha256, content);
  one.judge = () => null;
  const both = `${one.address},${other.address}`;

  const agent = AgentProcess.start(t, stateDir, both);
  await until(() => one.attached, 'the agent attaches');
  one.grant({ leaseId: 'of-one', start: 0, end: 2, task });
  await until(() => one.clips('of-one').length === 2, 'both chunks are offered');
  one.down();
  await until(() => other.attached, 'the agent goes to the other farm');
  other.grant({ leaseId: 'of-other', start: 0, end: 1, task });
  await until(() => other.ended('of-other') !== undefined, 'the other farm has what it wanted');
  assert.deepEqual(
    other.offers.map(({ leaseId }) => leaseId),
    ['of-other'],
  );
  await until(() => spooled().length === 2, 'only what the first farm has not judged is left');
  await until(() => agent.lines('chunks of other farms stay in the spool').length > 0, 'the log says so');

  await agent.kill();
  const hellos = other.hellos.length;
  const next = AgentProcess.start(t, stateDir, both);
  await until(() => other.hellos.length > hellos, 'the agent is back, at the farm that it finds');
  assert.equal(other.hellos[hellos]?.spooledChunks, 2, 'before its first welcome an agent counts for whoever it meets');
  await until(() => other.attached, 'and is welcomed');
  other.grant({ leaseId: 'again', start: 0, end: 1, task });
  await until(() => other.ended('again') !== undefined, 'it works for that farm');
  await until(() => spooled().length === 2, "and keeps what is not that farm's");
  assert.deepEqual([...new Set(other.offers.map(({ leaseId }) => leaseId))], ['of-other', 'again']);

  one.judge = () => 'CHUNK_VERDICT_COMMITTED';
  await one.up();
  other.down();
  await until(() => spooled().length === 0, 'its own farm has judged them');
  const handedIn = () => next.lines('chunk handed in').filter((line) => line.includes('of-one'));
  await until(() => handedIn().length === 2, 'the log says that both were handed in');
  assert.deepEqual([...new Set(one.offers.map(({ leaseId }) => leaseId))], ['of-one']);
});
