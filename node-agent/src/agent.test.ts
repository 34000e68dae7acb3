import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { inspectChunk } from '@clipfarm/shared/media/chunk';
import { jobHash, readStamp } from '../runner/synthetic/stamp.ts';
import { grayFrames, processesOf } from './testing/agent-process.ts';
import { type GrantFields, until } from './testing/fake-coordinator.ts';
import { BASE_SEED, type Scene, SIDE, scene, slowly } from './testing/scene.ts';

/** Frame numbers that the stamps of a chunk show, after checking everything else in them. */
async function stampedFrames({ coordinator, stateDir }: Scene, clip: number, span: number): Promise<number[]> {
  const offer = coordinator.offers.find((candidate) => candidate.clip === clip);
  const content = coordinator.uploads.get(offer?.sha256 ?? '');
  assert.ok(offer !== undefined && content !== undefined, `clip ${clip} was uploaded`);
  const path = join(stateDir, 'received.mp4');
  writeFileSync(path, content);
  const info = await inspectChunk(path);
  assert.deepEqual([info.width, info.height, info.frames, info.bytes], [SIDE, SIDE, offer.frames, offer.bytes]);
  const gray = await grayFrames(path);
  assert.equal(gray.length, SIDE * SIDE * offer.frames);
  return Array.from({ length: offer.frames }, (_, i) => {
    const stamp = readStamp(gray.subarray(i * SIDE * SIDE, (i + 1) * SIDE * SIDE), SIDE, SIDE);
    assert.deepEqual(stamp, { job: jobHash('job-1'), frame: stamp?.frame, clip, span, seed: BASE_SEED + clip });
    return stamp?.frame ?? -1;
  });
}

function range(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}

test('leases are delivered with exactly the right frames, the anchor first, on one warm runner', async (t) => {
  const now = await scene(t);
  const { coordinator, task } = now;
  const agent = now.start();
  await until(() => coordinator.attached, 'the agent attaches');
  const [hello] = coordinator.hellos;
  assert.match(hello?.nodeId ?? '', /^node-/);
  assert.deepEqual(
    hello?.slots.map(({ slotId, profile }) => [slotId, profile]),
    [['slot-1', 'synthetic']],
  );

  coordinator.grant({ leaseId: 'first', span: 0, start: 0, end: 2, preRoll: 0, task: { ...task, makeAnchor: true } });
  await until(() => coordinator.ended('first') !== undefined, 'the first lease ends');
  assert.equal(coordinator.ended('first')?.reason, 'LEASE_END_REASON_COMPLETED');
  const order = coordinator.received.map((sent) => sent.$case);
  assert.ok(order.indexOf('anchorReady') < order.indexOf('chunkReady'), 'the anchor is offered before its clip');
  const anchorReady = coordinator.received.find((sent) => sent.$case === 'anchorReady');
  const anchor = coordinator.uploads.get(anchorReady?.value.sha256 ?? '');
  assert.deepEqual([anchor?.readUInt32BE(16), anchor?.readUInt32BE(20)], [SIDE, SIDE]);
  // The first generated frame stands for the first four frames of the job.
  assert.deepEqual(await stampedFrames(now, 0, 0), [3, 3, 3, 3, ...range(4, 44)]);
  assert.deepEqual(await stampedFrames(now, 1, 0), range(48, 48));

  const anchored = { ...task, anchor: coordinator.input(anchor ?? Buffer.alloc(0)) };
  coordinator.grant({ leaseId: 'second', span: 3, start: 9, end: 12, preRoll: 1, task: anchored });
  await until(() => coordinator.ended('second') !== undefined, 'the second lease ends');
  assert.deepEqual(coordinator.clips('second'), [9, 10, 11]);
  assert.deepEqual(await stampedFrames(now, 9, 3), range(432, 48));
  assert.deepEqual(await stampedFrames(now, 11, 3), range(528, 38));
  assert.ok(coordinator.offers.every(({ renderSeconds }) => renderSeconds > 0));

  coordinator.grant({ leaseId: 'first', start: 0, end: 2, task });
  const reports = () => coordinator.received.filter((sent) => sent.$case === 'leaseEnded');
  await until(() => reports().length === 3, 'a repeated grant of an ended lease is answered as before');
  assert.equal(coordinator.offers.filter(({ leaseId }) => leaseId === 'first').length, 2);

  await until(() => agent.lines('"runner is loaded"').length > 0, 'the log is read');
  assert.equal(agent.lines('"runner is loaded"').length, 1);
  assert.equal(new Set(coordinator.fetched).size, coordinator.fetched.length, 'every input is fetched once');
  assert.deepEqual(now.spooled(), []);
});

test('a slot says what its runner is at until the model is loaded, and only then that it is idle', async (t) => {
  const { coordinator, start } = await scene(t);
  const said = () => coordinator.said.flatMap((sent) => (sent.$case === 'heartbeat' ? sent.value.slots : []));
  const slow = start('--load-seconds', '3600');
  await until(
    () => /^the model is being loaded: text encoder, \d %$/.test(said().at(-1)?.stateReason ?? ''),
    'it loads',
  );
  assert.ok(said().every(({ state }) => state === 'SLOT_STATE_LOADING'));
  await slow.kill();
  await until(() => !coordinator.attached, 'the coordinator notices');
  start();
  await until(() => coordinator.state() === 'SLOT_STATE_IDLE', 'the slot is idle');
  const before = said().filter(({ state }) => state !== 'SLOT_STATE_IDLE');
  assert.ok(before.every(({ state }) => state === 'SLOT_STATE_LOADING'));
  assert.equal(said().at(-1)?.stateReason, '');
});

test('what a slot learns of its runner between Hello and Welcome is told after the Welcome', async (t) => {
  const { coordinator, start } = await scene(t);
  const loaded = Promise.withResolvers<void>();
  coordinator.ready = loaded.promise;
  const agent = start();
  await until(() => agent.lines('"runner is loaded"').length > 0, 'the runner is loaded');
  loaded.resolve();
  await until(() => coordinator.slot()?.runnerVersions.node !== undefined, 'the slot is told anew');
});

test('a lease that follows on the last one goes on in its model call and says so with every chunk', async (t) => {
  const now = await scene(t);
  const { coordinator, task } = now;
  now.start();
  await until(() => coordinator.attached, 'the agent attaches');
  const granted = async (fields: GrantFields & { readonly leaseId: string }): Promise<readonly unknown[]> => {
    coordinator.grant({ task, ...fields });
    await until(() => coordinator.ended(fields.leaseId) !== undefined, `lease ${fields.leaseId} ends`);
    return coordinator.offers.filter(({ leaseId }) => leaseId === fields.leaseId).map(({ clip, span }) => [clip, span]);
  };
  assert.deepEqual(await granted({ leaseId: 'a', span: 0, start: 0, end: 2 }), [
    [0, 0],
    [1, 0],
  ]);
  const open = () => coordinator.said.findLast((sent) => sent.$case === 'heartbeat')?.value.slots[0]?.openLeaseId;
  await until(() => open() === 'a', 'the slot tells which call is open');
  // Its own span is 1, and it has pre-roll in case that the call is open no longer.
  const follows = { span: 1, start: 2, end: 3, preRoll: 1, continues: 'a' };
  assert.deepEqual(await granted({ leaseId: 'b', ...follows }), [[2, 0]]);
  assert.deepEqual(await granted({ leaseId: 'c', ...follows, span: 2, start: 3, end: 4, continues: 'b' }), [[3, 0]]);
  assert.deepEqual(await stampedFrames(now, 2, 0), range(96, 48));
  assert.deepEqual(await stampedFrames(now, 3, 0), range(144, 48));
  // Lease a is not the last one any more.
  assert.deepEqual(await granted({ leaseId: 'd', ...follows, span: 3, start: 6, end: 7 }), [[6, 3]]);
  assert.deepEqual(await stampedFrames(now, 6, 3), range(288, 48));
  const slot = coordinator.slot();
  assert.partialDeepStrictEqual(slot, { runnerKind: 'synthetic', continues: true, fixedEnd: false });
  assert.match(slot?.runnerVersions.node ?? '', /^2/);
});

test('a shrink ends the lease at the new end', async (t) => {
  const { coordinator, task, startHeldUp } = await scene(t);
  const agent = await startHeldUp();
  await until(() => coordinator.attached, 'the agent attaches');
  coordinator.grant({ leaseId: 'shrunk', start: 0, end: 12, task });
  await until(() => coordinator.clips('shrunk').length > 0, 'the lease is held up');
  for (const end of [4, 3, 3, 7]) coordinator.say({ $case: 'shrink', value: { term: 1, leaseId: 'shrunk', end } });
  coordinator.commitAll();
  await until(() => coordinator.ended('shrunk') !== undefined, 'the shrunk lease ends');
  assert.deepEqual(coordinator.clips('shrunk'), [0, 1, 2]);
  assert.equal(coordinator.ended('shrunk')?.reason, 'LEASE_END_REASON_COMPLETED');
  await until(() => agent.lines('"msg":"lease shrunk"').length >= 2, 'the log is read');
  const logged = agent.lines('"msg":"lease shrunk"').map((line) => JSON.parse(line));
  // A repeat changes nothing, and an end never grows.
  assert.deepEqual(
    logged.map(({ slot_id, job_id, lease_id, end_before, end }) => [slot_id, job_id, lease_id, end_before, end]),
    [
      ['slot-1', 'job-1', 'shrunk', 12, 4],
      ['slot-1', 'job-1', 'shrunk', 4, 3],
    ],
  );
});

test('a revoke ends the lease at once, and the slot goes on', async (t) => {
  const { coordinator, task, startHeldUp } = await scene(t);
  const agent = await startHeldUp();
  await until(() => coordinator.attached, 'the agent attaches');
  coordinator.grant({ leaseId: 'revoked', start: 0, end: 12, task });
  await until(() => coordinator.clips('revoked').length > 0, 'the lease is held up');
  coordinator.say({ $case: 'revoke', value: { term: 1, leaseId: 'revoked', reason: 'not needed' } });
  await until(() => coordinator.ended('revoked') !== undefined, 'the revoked lease ends');
  assert.equal(coordinator.ended('revoked')?.reason, 'LEASE_END_REASON_STOPPED');
  assert.equal(coordinator.ended('revoked')?.message, 'not needed');
  await until(() => agent.lines('"msg":"lease revoked"').length > 0, 'the log is read');
  const [logged] = agent.lines('"msg":"lease revoked"').map((line) => JSON.parse(line));
  assert.deepEqual([logged?.job_id, logged?.lease_id, logged?.reason], ['job-1', 'revoked', 'not needed']);

  coordinator.commitAll();
  coordinator.grant({ leaseId: 'next', start: 5, end: 6, preRoll: 1, task });
  await until(() => coordinator.ended('next') !== undefined, 'the next lease ends');
  assert.deepEqual(coordinator.clips('next'), [5]);
});

test('a broken link does not stop the render: chunks wait in the spool and are handed in on return', async (t) => {
  const { coordinator, task, start, spooled } = await scene(t);
  start();
  await until(() => coordinator.attached, 'the agent attaches');
  // Breaks off with the first chunk, however fast the agent is, so that everything is rendered without a link.
  coordinator.judge = () => {
    coordinator.down();
    return null;
  };
  coordinator.grant({ leaseId: 'long', start: 0, end: 7, task });
  await until(() => spooled().length === 7, 'every chunk is in the spool');
  assert.equal(coordinator.attached, false);
  assert.equal(coordinator.ended('long'), undefined);
  coordinator.judge = () => 'CHUNK_VERDICT_COMMITTED';
  await coordinator.up();
  await until(() => coordinator.ended('long') !== undefined, 'the lease ends');
  const hello = coordinator.hellos.at(-1);
  assert.equal(hello?.spooledChunks, 7);
  assert.deepEqual(
    hello?.leases.map(({ leaseId }) => leaseId),
    ['long'],
  );
  assert.deepEqual(coordinator.clips('long'), range(0, 7));
  assert.equal(coordinator.ended('long')?.reason, 'LEASE_END_REASON_COMPLETED');
  await until(() => spooled().length === 0, 'the spool is empty');
});

test('a lease that was given up while there was no contact is stopped on return', async (t) => {
  const { coordinator, task, startHeldUp } = await scene(t);
  await startHeldUp();
  await until(() => coordinator.attached, 'the agent attaches');
  coordinator.grant({ leaseId: 'given-up', start: 0, end: 12, task });
  await until(() => coordinator.clips('given-up').length > 0, 'the lease is held up');
  coordinator.down();
  coordinator.valid.clear();
  await coordinator.up();
  await until(() => coordinator.ended('given-up') !== undefined, 'the lease ends');
  assert.equal(coordinator.ended('given-up')?.reason, 'LEASE_END_REASON_STOPPED');
  assert.match(coordinator.ended('given-up')?.message ?? '', /gave the lease up/);
  assert.ok(coordinator.clips('given-up').length < 12);
});

test('out of grace a slot stops after the clip in hand and keeps the spool', async (t) => {
  const { coordinator, task, startHeldUp, spooled } = await scene(t);
  coordinator.graceMillis = 200;
  const agent = await startHeldUp();
  await until(() => coordinator.attached, 'the agent attaches');
  // Breaks off with the first chunk of the lease, however late the test.
  coordinator.judge = ({ leaseId }) => {
    if (leaseId === 'left') coordinator.down();
    return null;
  };
  coordinator.grant({ leaseId: 'left', start: 0, end: 12, task });
  await until(() => agent.lines('slots stop after the clip in hand').length > 0, 'grace is over');
  assert.ok(spooled().length > 1, 'its chunk is there, beside the one that holds it up');
  coordinator.valid.clear();
  coordinator.judge = () => 'CHUNK_VERDICT_COMMITTED';
  await coordinator.up();
  await until(() => coordinator.ended('left') !== undefined, 'the lease ends');
  assert.equal(coordinator.ended('left')?.reason, 'LEASE_END_REASON_STOPPED');
  await until(() => spooled().length === 0, 'the chunks are handed in');
  assert.ok(coordinator.clips('left').length < 12);
});

test('after kill -9 nothing is left running, and the next agent hands the spool in', async (t) => {
  const { coordinator, task, start, stateDir, spooled } = await scene(t);
  coordinator.judge = () => null;
  const first = start(...slowly);
  await until(() => coordinator.attached, 'the agent attaches');
  coordinator.grant({ leaseId: 'lost', start: 0, end: 12, task });
  await until(() => spooled().length >= 2, 'two chunks are in the spool');
  await until(() => processesOf(stateDir).length >= 1, 'a runner is at work');
  await first.kill();
  await until(() => processesOf(stateDir).length === 0, 'runner and encoder are gone');
  await until(() => !coordinator.attached, 'everything that the first agent said is read');
  const left = spooled().length;
  const offered = coordinator.received.length;
  coordinator.judge = () => 'CHUNK_VERDICT_COMMITTED';
  start();
  await until(() => spooled().length === 0, 'the spool is handed in');
  const [before, after] = [coordinator.hellos[0], coordinator.hellos.at(-1)];
  assert.equal(after?.nodeId, before?.nodeId);
  assert.equal(after?.spooledChunks, left);
  assert.deepEqual(after?.leases, []);
  const again = coordinator.received.slice(offered).filter((sent) => sent.$case === 'chunkReady');
  assert.equal(again.length, left);
});

test('each clip that the runner rendered is logged and counted, pre-roll apart', async (t) => {
  const { coordinator, task, start } = await scene(t);
  const agent = start('--admin', '127.0.0.1:0');
  await until(() => coordinator.attached, 'the agent attaches');
  coordinator.grant({ leaseId: 'one', start: 5, end: 7, preRoll: 2, task });
  await until(() => coordinator.ended('one') !== undefined, 'the lease ends');
  await until(() => agent.lines('"outcome":"completed"').length > 0, 'the log is read');
  const rendered = agent.lines('"clip rendered"').map((line): unknown => JSON.parse(line));
  const fields = { level: 20, name: 'agent', slot_id: 'slot-1', job_id: 'job-1', lease_id: 'one' };
  assert.partialDeepStrictEqual(
    rendered,
    [3, 4, 5, 6].map((clip) => ({ ...fields, clip, pre_roll: clip < 5, msg: 'clip rendered' })),
  );
  assert.equal(rendered.length, 4);
  const admin = /"admin":"([^"]+)"/.exec(agent.lines('"agent runs"')[0] ?? '')?.[1];
  const metrics = await (await fetch(`http://${admin}/metrics`)).text();
  assert.match(metrics, /^clipfarm_agent_clips_rendered_total\{pre_roll="true"\} 2$/m);
  assert.match(metrics, /^clipfarm_agent_clips_rendered_total\{pre_roll="false"\} 2$/m);
  assert.match(metrics, /^clipfarm_agent_gpu_peak_memory_bytes\{slot="slot-1"\} 0$/m);
  assert.match(metrics, /^clipfarm_agent_runner_host_memory_bytes\{slot="slot-1"\} [1-9]\d{7,}$/m);
});
