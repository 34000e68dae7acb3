import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { callUnary } from '@clipfarm/shared/rpc/client-call';
import { Farm, until } from '../harness/farm.ts';
import { cutAudio, prove } from '../harness/media.ts';

describe('an operator', () => {
  let farm: Farm;
  let audio: string;
  before(async () => {
    farm = await Farm.start([
      { name: 'one', pace: 0.4 },
      { name: 'two', pace: 0.4 },
    ]);
    audio = await cutAudio(join(farm.dir, 'talk.wav'), { seconds: 38 });
  });
  after(() => farm[Symbol.asyncDispose]());

  it('submits an urgent job, and it overtakes the one that runs, which loses nothing', async () => {
    const slow = await farm.submit(audio);
    await farm.committed(slow.jobId, 2);
    const urgent = await farm.submit(await cutAudio(join(farm.dir, 'urgent.wav'), { seconds: 11 }), { priority: 50 });
    const done = await farm.finished(urgent.jobId);
    assert.equal(done.state, 'JOB_STATE_COMPLETED');
    const other = await farm.job(slow.jobId);
    assert.equal(other.state, 'JOB_STATE_RENDERING', 'the first job waits behind the urgent one');
    await prove(farm, slow.jobId);
    assert.equal((await farm.job(slow.jobId)).result?.clipsRerendered, 0, 'pre-emption throws nothing away');
  });

  it('pauses and resumes a job', async () => {
    const { jobId } = await farm.submit(audio);
    await farm.committed(jobId, 3);
    const paused = await callUnary(farm.client, farm.client.pauseJob, { jobId });
    assert.equal(paused.job?.state, 'JOB_STATE_PAUSED');
    await until(async () => (await farm.job(jobId)).leases.length === 0, 'the clips in hand are finished');
    const before = (await farm.job(jobId)).clipsCommitted;
    await sleep(1500);
    assert.equal((await farm.job(jobId)).clipsCommitted, before, 'nothing is rendered while it is paused');
    await callUnary(farm.client, farm.client.resumeJob, { jobId });
    await prove(farm, jobId);
  });

  it('cancels a job and takes it up again where it ended', async () => {
    const { jobId } = await farm.submit(audio);
    const { clipsCommitted } = await farm.committed(jobId, 5);
    await callUnary(farm.client, farm.client.cancelJob, { jobId, reason: 'lunch' });
    const cancelled = await farm.job(jobId);
    assert.equal(cancelled.state, 'JOB_STATE_CANCELLED');
    assert.equal(cancelled.stateReason, 'lunch');
    await until(
      async () => (await farm.nodes()).every((n) => n.slots.every((s) => s.state === 'SLOT_STATE_IDLE')),
      'slots are free',
    );
    const retried = await callUnary(farm.client, farm.client.retryJob, { jobId });
    assert.ok((retried.job?.clipsCommitted ?? 0) >= clipsCommitted, 'committed clips are kept');
    await prove(farm, jobId);
  });

  it('drains a node: it finishes its clip, and the others do the rest', async () => {
    const { jobId } = await farm.submit(audio);
    await farm.committed(jobId, 3);
    await callUnary(farm.client, farm.client.drainNode, { nodeId: 'two', reason: 'new fans' });
    await prove(farm, jobId);
    assert.equal((await farm.job(jobId)).result?.clipsRerendered, 0);
  });

  it('gets the same job for the same idempotency key, also after a restart', async () => {
    const first = await farm.submit(audio, {}, undefined, 'only-once');
    await farm.coordinator.kill();
    await farm.startCoordinator();
    const second = await farm.submit(audio, {}, undefined, 'only-once');
    assert.equal(second.jobId, first.jobId);
    await callUnary(farm.client, farm.client.cancelJob, { jobId: first.jobId, reason: '' });
  });
});

it('an agent that joins halfway gets work at once, and a slow one does not hold up the end', async () => {
  await using farm = await Farm.start([
    { name: 'steady', pace: 0.4 },
    { name: 'slow', pace: 4 },
  ]);
  const audio = await cutAudio(join(farm.dir, 'talk.wav'), { seconds: 57 });
  const { jobId } = await farm.submit(audio);
  await farm.committed(jobId, 4);
  await farm.startAgent({ name: 'late', pace: 0.2 });
  await until(async () => {
    const late = (await farm.nodes()).find((node) => node.name === 'late');
    return (await farm.job(jobId)).leases.some((lease) => lease.nodeId === late?.nodeId);
  }, 'the late agent has a lease');
  await prove(farm, jobId);
  const late = (await farm.nodes()).find((node) => node.name === 'late');
  assert.ok((late?.clipsCommitted ?? 0) >= 5, `the late agent made ${late?.clipsCommitted} clips`);
});
