import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { smallDisk } from '@clipfarm/shared/testing/temporary';
import { processesOf } from './testing/agent-process.ts';
import { until } from './testing/fake-coordinator.ts';
import { scene } from './testing/scene.ts';

test('a runner that dies ends its lease as a crash with evidence, and the next grant works', async (t) => {
  const { coordinator, task, startHeldUp, stateDir } = await scene(t);
  await startHeldUp();
  await until(() => coordinator.attached, 'the agent attaches');
  coordinator.grant({ leaseId: 'crashed', start: 0, end: 12, task });
  await until(() => coordinator.clips('crashed').length > 0, 'the lease is held up');
  for (const { pid } of processesOf(stateDir, 'synthetic/main.ts')) process.kill(pid, 'SIGKILL');
  coordinator.commitAll();
  await until(() => coordinator.ended('crashed') !== undefined, 'the lease ends');
  const ended = coordinator.ended('crashed');
  assert.equal(ended?.failureClass, 'FAILURE_CLASS_CRASH');
  assert.match(ended?.message ?? '', /SIGKILL/);
  coordinator.grant({ leaseId: 'next', start: 0, end: 1, task });
  await until(() => coordinator.ended('next') !== undefined, 'the next lease ends');
  assert.equal(coordinator.ended('next')?.reason, 'LEASE_END_REASON_COMPLETED');
});

test('a silent runner is killed and reported as a hang, and the next grant works', async (t) => {
  const { coordinator, task, start } = await scene(t);
  start('--runner-arg=--hang-at-clip=0');
  await until(() => coordinator.attached, 'the agent attaches');
  // Nothing of it can be delivered, so a machine that is slow for as long as a hang makes no difference.
  coordinator.grant({ leaseId: 'hung', start: 0, end: 2, hangSeconds: 1, task });
  await until(() => coordinator.ended('hung') !== undefined, 'the lease ends');
  assert.equal(coordinator.ended('hung')?.failureClass, 'FAILURE_CLASS_HANG');
  assert.match(coordinator.ended('hung')?.message ?? '', /no progress for 1 s at clip 0/);
  assert.deepEqual(coordinator.clips('hung'), []);
  coordinator.grant({ leaseId: 'next', start: 2, end: 4, preRoll: 1, task });
  await until(() => coordinator.ended('next') !== undefined, 'the next lease ends');
  assert.deepEqual(coordinator.clips('next'), [2, 3]);
});

test('after a device error the runner is restarted before the next lease', async (t) => {
  const { coordinator, task, start } = await scene(t);
  const agent = start('--runner-arg=--fail-at-clip=2:device');
  await until(() => coordinator.attached, 'the agent attaches');
  coordinator.grant({ leaseId: 'device', start: 0, end: 4, task });
  await until(() => coordinator.ended('device') !== undefined, 'the lease ends');
  assert.equal(coordinator.ended('device')?.failureClass, 'FAILURE_CLASS_DEVICE');
  assert.deepEqual(coordinator.clips('device'), [0, 1]);
  coordinator.grant({ leaseId: 'next', start: 4, end: 5, preRoll: 1, task });
  await until(() => coordinator.ended('next') !== undefined, 'the next lease ends');
  assert.equal(coordinator.ended('next')?.reason, 'LEASE_END_REASON_COMPLETED');
  await until(() => agent.lines('"runner is loaded"').length === 2, 'the log says that it was loaded twice');
});

test('out of memory, a refused chunk and a lease that makes no sense are reported as what they are', async (t) => {
  const { coordinator, task, start } = await scene(t);
  start('--runner-arg=--fail-at-clip=8:out_of_memory');
  await until(() => coordinator.attached, 'the agent attaches');
  coordinator.grant({ leaseId: 'memory', start: 7, end: 10, preRoll: 1, task });
  await until(() => coordinator.ended('memory') !== undefined, 'the lease ends');
  assert.equal(coordinator.ended('memory')?.failureClass, 'FAILURE_CLASS_OUT_OF_MEMORY');
  assert.deepEqual(coordinator.clips('memory'), [7]);

  coordinator.judge = ({ clip }) => (clip === 1 ? 'CHUNK_VERDICT_REJECTED' : 'CHUNK_VERDICT_COMMITTED');
  coordinator.grant({ leaseId: 'refused', start: 0, end: 6, task });
  await until(() => coordinator.ended('refused') !== undefined, 'the lease ends');
  assert.equal(coordinator.ended('refused')?.failureClass, 'FAILURE_CLASS_BAD_CHUNK');
  assert.match(coordinator.ended('refused')?.message ?? '', /clip 1 .* the test says so/);

  coordinator.grant({ leaseId: 'nonsense', start: 3, end: 3, preRoll: 1, task });
  coordinator.grant({ leaseId: 'elsewhere', slotId: 'slot-9', start: 0, end: 1, task });
  for (const leaseId of ['nonsense', 'elsewhere']) {
    await until(() => coordinator.ended(leaseId) !== undefined, `${leaseId} is refused`);
    assert.equal(coordinator.ended(leaseId)?.reason, 'LEASE_END_REASON_REFUSED');
  }
  assert.match(coordinator.ended('nonsense')?.message ?? '', /end is 3; accepted: an integer of 4 or more/);
  assert.match(coordinator.ended('elsewhere')?.message ?? '', /this node has no slot "slot-9"/);
});

test('a chunk that the coordinator cannot take now is uploaded again', async (t) => {
  const { coordinator, task, start } = await scene(t);
  let refusals = 0;
  coordinator.judge = ({ sha256 }) => {
    if (refusals >= 2) return 'CHUNK_VERDICT_COMMITTED';
    refusals += 1;
    coordinator.uploads.delete(sha256);
    return 'CHUNK_VERDICT_TRY_AGAIN';
  };
  start();
  await until(() => coordinator.attached, 'the agent attaches');
  coordinator.grant({ leaseId: 'again', start: 0, end: 1, task });
  await until(() => coordinator.ended('again') !== undefined, 'the lease ends');
  assert.equal(coordinator.ended('again')?.reason, 'LEASE_END_REASON_COMPLETED');
  assert.equal(coordinator.offers.length, 3);
  assert.ok(coordinator.uploads.has(coordinator.offers[0]?.sha256 ?? ''));
});

test('two agents never share a state directory, and a killed one frees it', async (t) => {
  const { coordinator, start, stateDir } = await scene(t);
  const first = start();
  await until(() => coordinator.attached, 'the agent attaches');
  const second = start();
  assert.equal((await second.exited).code, 7);
  assert.match(
    second.output,
    new RegExp(`state-dir: ${stateDir} is in use by another agent \\(process ${first.child.pid}\\)`),
  );
  await first.kill();
  const { length } = coordinator.hellos;
  start();
  await until(() => coordinator.hellos.length > length, 'the third agent attaches');
});

test('a full disk fails one lease, not one of each slot: all withdraw at once, keep what is spooled, and come back with the room', async (t) => {
  // The audio takes three quarters of it, some chunks the rest.
  const disk = smallDisk(t, 1000);
  if (disk === undefined) return;
  const { coordinator, task, start, spooled } = await scene(t, join(disk, 'state'));
  coordinator.judge = () => null;
  const agent = start('--slots', '3');
  const slots = ['slot-1', 'slot-2', 'slot-3'];
  const states = () => slots.map((slotId) => coordinator.state(slotId));
  await until(() => coordinator.attached, 'the agent attaches');
  coordinator.grant({ leaseId: 'one', slotId: 'slot-1', start: 0, end: 6, task });
  coordinator.grant({ leaseId: 'two', slotId: 'slot-2', start: 6, end: 12, preRoll: 1, task });
  const full = () => agent.lines('"msg":"the disk is full: no slot of this agent takes work until it has room"');
  await until(() => full().length > 0, 'the disk is full');
  await until(() => coordinator.state('slot-3') === 'SLOT_STATE_RECOVERING', 'the slot without a lease withdraws');
  // One more may be on its way there.
  const kept = spooled().length;
  assert.ok(kept > 0);
  // Its last write was in vain; it waits for what it has handed in.
  await until(() => agent.lines('"msg":"the disk is full here, too').length > 0, 'the other one meets it, too');
  coordinator.judge = () => 'CHUNK_VERDICT_COMMITTED';
  coordinator.down();
  await coordinator.up();
  const leases = ['one', 'two'];
  await until(() => leases.every((leaseId) => coordinator.ended(leaseId) !== undefined), 'both leases end');
  const ended = leases.map((leaseId) => coordinator.ended(leaseId));
  const [failed, ...others] = ended.filter((end) => end?.reason === 'LEASE_END_REASON_FAILED');
  assert.deepEqual(others, []);
  assert.equal(failed?.failureClass, 'FAILURE_CLASS_ENVIRONMENT');
  assert.match(failed?.message ?? '', /full|No space left/);
  const back = ended.find((end) => end !== failed);
  assert.equal(back?.reason, 'LEASE_END_REASON_STOPPED');
  assert.match(back?.message ?? '', /disk .* is full/);
  for (const end of ended) {
    const at = coordinator.said.findIndex((sent) => sent.$case === 'leaseEnded' && sent.value.leaseId === end?.leaseId);
    const told = coordinator.said.slice(0, at).findLast((sent) => sent.$case === 'heartbeat');
    const slotId = end?.leaseId === 'one' ? 'slot-1' : 'slot-2';
    const status = told?.value.slots.find((slot) => slot.slotId === slotId);
    assert.equal(status?.state, 'SLOT_STATE_RECOVERING', 'that it takes nothing new is said first');
  }
  assert.ok(leases.flatMap((leaseId) => coordinator.clips(leaseId)).length >= kept);
  assert.deepEqual(spooled(), []);
  await until(() => states().every((state) => state === 'SLOT_STATE_RECOVERING'), 'all of them withdraw');
  assert.equal(full().length, 1, 'one message for all');
  coordinator.grant({ leaseId: 'under-way', slotId: 'slot-3', start: 0, end: 1, task });
  await until(() => coordinator.ended('under-way') !== undefined, 'what was under way is given back');
  assert.equal(coordinator.ended('under-way')?.reason, 'LEASE_END_REASON_STOPPED');
  assert.match(coordinator.ended('under-way')?.message ?? '', /disk .* is full/);

  execFileSync('mount', ['-o', 'remount,size=400m', disk]);
  await until(() => states().every((state) => state === 'SLOT_STATE_IDLE'), 'they come back by themselves');
  coordinator.grant({ leaseId: 'after', slotId: 'slot-3', start: 0, end: 1, task });
  await until(() => coordinator.ended('after') !== undefined, 'they work');
  assert.equal(coordinator.ended('after')?.reason, 'LEASE_END_REASON_COMPLETED');
});
