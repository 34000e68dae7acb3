import assert from 'node:assert/strict';
import { test } from 'node:test';
import { processesOf } from './testing/agent-process.ts';
import { type FakeCoordinator, until } from './testing/fake-coordinator.ts';
import { scene } from './testing/scene.ts';

/** States of the only slot that were told before a lease was reported as ended, oldest first. */
function statesBeforeEnd({ said }: FakeCoordinator, leaseId: string): readonly (string | undefined)[] {
  const end = said.findIndex((sent) => sent.$case === 'leaseEnded' && sent.value.leaseId === leaseId);
  assert.notEqual(end, -1);
  return said.slice(0, end).flatMap((sent) => (sent.$case === 'heartbeat' ? [sent.value.slots[0]?.state] : []));
}

test('SIGTERM finishes the clip in hand, hands everything in and exits with 0', async (t) => {
  const { coordinator, task, startHeldUp, stateDir, spooled } = await scene(t);
  const agent = await startHeldUp();
  await until(() => coordinator.attached, 'the agent attaches');
  coordinator.grant({ leaseId: 'left', start: 0, end: 12, task });
  await until(() => coordinator.clips('left').length > 0, 'the lease is held up');
  agent.child.kill('SIGTERM');
  await until(() => coordinator.state() === 'SLOT_STATE_DRAINING', 'the coordinator is told');
  coordinator.commitAll();
  const { code } = await agent.exited;
  assert.equal(code, 0, agent.output);
  const ended = coordinator.ended('left');
  assert.equal(ended?.reason, 'LEASE_END_REASON_STOPPED');
  const clips = coordinator.clips('left');
  assert.ok(clips.includes(1) && clips.length < 12);
  assert.equal(ended?.clip, clips.length);
  assert.equal(statesBeforeEnd(coordinator, 'left').at(-1), 'SLOT_STATE_DRAINING');
  assert.deepEqual(coordinator.said.at(-1), { $case: 'goodbye', value: { reason: 'the agent got SIGTERM' } });
  assert.deepEqual(spooled(), []);
  assert.deepEqual(processesOf(stateDir), []);
});

test('a lease that is still being prepared is handed back after the coordinator was told that the agent leaves', async (t) => {
  const { coordinator, task, start } = await scene(t);
  const agent = start('--load-seconds', '3600');
  await until(() => coordinator.attached, 'the agent attaches');
  coordinator.grant({ leaseId: 'waits', start: 0, end: 12, task });
  // A slot also loads without a lease.
  await until(() => coordinator.leaseId() === 'waits', 'the lease waits for the runner');
  agent.child.kill('SIGTERM');
  await until(() => coordinator.ended('waits') !== undefined, 'the lease ends');
  assert.equal(coordinator.ended('waits')?.reason, 'LEASE_END_REASON_STOPPED');
  const states = statesBeforeEnd(coordinator, 'waits');
  assert.equal(states.at(-1), 'SLOT_STATE_DRAINING');
  assert.ok(states.includes('SLOT_STATE_LOADING'));
  assert.equal((await agent.exited).code, 0, agent.output);
});

test('an agent that leaves and waits for verdicts tells that it drains and refuses what crossed on the way', async (t) => {
  const { coordinator, task, start, spooled } = await scene(t);
  coordinator.judge = () => null;
  const agent = start();
  await until(() => coordinator.attached, 'the agent attaches');
  coordinator.grant({ leaseId: 'last', start: 0, end: 2, task });
  await until(() => coordinator.clips('last').length === 2, 'both chunks are offered');
  agent.child.kill('SIGTERM');
  await until(() => coordinator.state() === 'SLOT_STATE_DRAINING', 'the coordinator is told');
  coordinator.grant({ leaseId: 'crossed', start: 2, end: 4, preRoll: 1, task });
  await until(() => coordinator.ended('crossed') !== undefined, 'the grant is answered');
  assert.equal(coordinator.ended('crossed')?.reason, 'LEASE_END_REASON_REFUSED');
  assert.match(coordinator.ended('crossed')?.message ?? '', /the agent is leaving: the agent got SIGTERM/);

  coordinator.down();
  coordinator.judge = () => 'CHUNK_VERDICT_COMMITTED';
  await coordinator.up();
  assert.equal((await agent.exited).code, 0, agent.output);
  const first = coordinator.said[coordinator.said.findLastIndex(({ $case }) => $case === 'hello') + 1];
  assert.equal(first?.$case === 'heartbeat' && first.value.slots[0]?.state, 'SLOT_STATE_DRAINING');
  assert.equal(coordinator.hellos.length, 2);
  assert.deepEqual(spooled(), []);
});

test('without a coordinator an agent with nothing in hand leaves at once', async (t) => {
  const { coordinator, start } = await scene(t);
  coordinator.down();
  const alone = start();
  await until(() => alone.lines('no link to the coordinator').length > 0, 'the agent found nobody');
  alone.child.kill('SIGINT');
  assert.equal((await alone.exited).code, 0, alone.output);
});

test('a second signal ends the agent at once, with everything that it started', async (t) => {
  const { coordinator, task, start, stateDir } = await scene(t);
  // Without a verdict it would not leave by itself for a while, even with the clip in hand finished.
  coordinator.judge = () => null;
  const agent = start('--seconds-per-clip', '6');
  await until(() => coordinator.attached, 'the agent attaches');
  coordinator.grant({ leaseId: 'long', start: 0, end: 12, task });
  await until(() => coordinator.progress.has('long'), 'the clip is in hand');
  agent.child.kill('SIGTERM');
  await until(() => agent.lines('leaving after the clip in hand').length > 0, 'the first signal is taken');
  agent.child.kill('SIGTERM');
  assert.equal((await agent.exited).code, 143);
  assert.ok(!coordinator.said.some(({ $case }) => $case === 'goodbye'), 'what it had in hand is not given back');
  await until(() => processesOf(stateDir).length === 0, 'nothing is left');
});
