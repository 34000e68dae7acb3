import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { PrefixHeader } from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
import { responsesOf } from '@clipfarm/shared/rpc/client-call';
import { Farm, PATIENT, patiently, until } from '../harness/farm.ts';
import { cutAudio, identifyFrames, lagAt, pcmOf, prove, stampsOf } from '../harness/media.ts';
import { jobsOfCommits, renderedInVain } from '../harness/rendered.ts';

/** Saves the beginning of a job's video, once that many clips are stitched; checks its size and SHA-256. */
async function downloadBeginning(farm: Farm, jobId: string, clips: number, path: string): Promise<PrefixHeader> {
  let header: PrefixHeader = { clips: 0, frames: 0, bytes: 0 };
  await until(async () => {
    const hash = createHash('sha256');
    const pieces: Buffer[] = [];
    let sha256 = '';
    await patiently(async () => {
      pieces.length = 0;
      for await (const { part } of responsesOf(farm.client.downloadPrefix({ jobId }))) {
        if (part?.$case === 'header') header = part.value;
        else if (part?.$case === 'data') pieces.push(part.value);
        else if (part?.$case === 'sha256') sha256 = part.value;
      }
    });
    const content = Buffer.concat(pieces);
    assert.equal(content.length, header.bytes);
    assert.equal(hash.update(content).digest('hex'), sha256);
    await writeFile(path, content);
    return header.clips === clips;
  }, `${clips} clips are stitched`);
  return header;
}

/** Saves the beginning of a job's video, and checks that it is what was rendered of it: frame by frame, with its sound. */
async function checkBeginning(farm: Farm, jobId: string, audio: string, path: string): Promise<void> {
  const { plan, spec, clipsPrefix } = await farm.job(jobId);
  const { frames } = await downloadBeginning(farm, jobId, clipsPrefix, path);
  assert.equal(frames, clipsPrefix * 48);
  const { width, height } = plan ?? assert.fail('no plan');
  const baseSeed = spec?.settings?.baseSeed ?? -1;
  identifyFrames(await stampsOf(path, width, height), { jobId, frames, baseSeed });
  const [original, sound] = [await pcmOf(audio), await pcmOf(path)];
  // FFmpeg plays the last packet to its end.
  assert.ok(sound.length >= frames * 1920 && sound.length < frames * 1920 + 1024, `${sound.length} samples`);
  const { lag, correlation } = lagAt(original, sound, sound.length / 2);
  assert.ok(Math.abs(lag) < 48 && correlation > 0.9, `lag ${lag}, correlation ${correlation}`);
}

describe('an operator', () => {
  let farm: Farm;
  let audio: string;
  before(async () => {
    farm = await Farm.start([{ name: 'one', pace: 0.8 }], PATIENT);
    audio = await cutAudio(join(farm.dir, 'talk.wav'), { seconds: 23 });
  });
  after(() => farm[Symbol.asyncDispose]());

  it('makes a job urgent, and it overtakes the one that runs, which loses nothing', async () => {
    const slow = await farm.submit(await cutAudio(join(farm.dir, 'slow.wav'), { seconds: 15 }));
    const urgent = await farm.submit(await cutAudio(join(farm.dir, 'urgent.wav'), { seconds: 4 }));
    await farm.committed(slow.jobId, 1);
    await farm.call(farm.client.setJobPriority, { jobId: urgent.jobId, priority: 50 });
    await prove(farm, urgent.jobId);
    await prove(farm, slow.jobId);
    const order = jobsOfCommits(farm);
    assert.ok(order.lastIndexOf(urgent.jobId) < order.lastIndexOf(slow.jobId), 'it is rendered first');
    assert.deepEqual(renderedInVain(farm, slow.jobId), [], 'pre-emption throws nothing away');
  });

  it('pauses and resumes a job', async () => {
    await farm.startAgent({ name: 'two', pace: 0.8 });
    await farm.waitForNodes(2);
    const { jobId } = await farm.submit(audio);
    await farm.committed(jobId, 3);
    const paused = await farm.call(farm.client.pauseJob, { jobId });
    assert.equal(paused.job?.state, 'JOB_STATE_PAUSED');
    await until(async () => (await farm.job(jobId)).leases.length === 0, 'the clips in hand are finished');
    const before = (await farm.job(jobId)).clipsCommitted;
    const other = await farm.submit(await cutAudio(join(farm.dir, 'other.wav'), { seconds: 1 }));
    await farm.finished(other.jobId);
    assert.equal((await farm.job(jobId)).clipsCommitted, before, 'nothing is rendered while it is paused');
    await farm.call(farm.client.resumeJob, { jobId });
    await prove(farm, jobId);
  });

  it('gets what is there of a video while the rest is rendered, frame by frame and with its sound', async () => {
    const { jobId } = await farm.submit(audio);
    await until(async () => (await farm.job(jobId)).clipsPrefix >= 2, 'two clips from the beginning are there');
    // Held, so that the job is not over before it was looked at.
    await farm.call(farm.client.pauseJob, { jobId });
    await until(async () => (await farm.job(jobId)).leases.length === 0, 'the clips in hand are finished');
    const path = join(farm.dir, 'beginning.mp4');
    await checkBeginning(farm, jobId, audio, path);
    await farm.call(farm.client.resumeJob, { jobId });
    await prove(farm, jobId);
    await assert.rejects(downloadBeginning(farm, jobId, 1, path), /it is completed/);
    const other = await farm.submit(audio);
    await farm.call(farm.client.cancelJob, { jobId: other.jobId, reason: '' });
    const wayOn = {
      message: /its first clip was not rendered/,
      hint: `Take it up where it ended with: clipfarm job retry ${other.jobId}`,
    };
    await assert.rejects(downloadBeginning(farm, other.jobId, 1, path), wayOn);
  });

  it('cancels a job and takes it up again where it ended', async () => {
    const { jobId } = await farm.submit(audio);
    const { clipsCommitted } = await farm.committed(jobId, 4);
    await farm.call(farm.client.cancelJob, { jobId, reason: 'lunch' });
    const cancelled = await farm.job(jobId);
    assert.equal(cancelled.state, 'JOB_STATE_CANCELLED');
    assert.equal(cancelled.stateReason, 'lunch');
    const path = join(farm.dir, 'until-lunch.mp4');
    await checkBeginning(farm, jobId, audio, path);
    // Another process has no file that ever grew from these clips.
    await farm.coordinator.kill();
    await farm.startCoordinator();
    await checkBeginning(farm, jobId, audio, path);
    assert.deepEqual(await readdir(join(farm.dir, 'coordinator', 'work')), [], 'nothing stays behind');
    await farm.waitForNodes(2);
    await until(
      async () => (await farm.nodes()).every((n) => n.slots.every((s) => s.state === 'SLOT_STATE_IDLE')),
      'slots are free',
    );
    const retried = await farm.call(farm.client.retryJob, { jobId });
    assert.ok((retried.job?.clipsCommitted ?? 0) >= clipsCommitted, 'committed clips are kept');
    await prove(farm, jobId);
  });

  it('drains a node: it finishes its clip, and the others do the rest', async () => {
    const { jobId } = await farm.submit(audio);
    await farm.committed(jobId, 3);
    await farm.call(farm.client.drainNode, { nodeId: 'two', reason: 'new fans', knowsLeft: true });
    await prove(farm, jobId);
    assert.deepEqual(renderedInVain(farm, jobId), []);
  });

  it('gets the same job for the same idempotency key, also after a restart', async () => {
    const first = await farm.submit(audio, {}, undefined, 'only-once');
    await farm.coordinator.kill();
    await farm.startCoordinator();
    const second = await farm.submit(audio, {}, undefined, 'only-once');
    assert.equal(second.jobId, first.jobId);
    await assert.rejects(farm.submit(audio, { prompt: 'other words' }, undefined, 'only-once'), /another prompt/);
    const log = farm.coordinator.output();
    assert.match(log, new RegExp(`"job_id":"${first.jobId}",[^\\n]*"msg":"job ordered once more: its idempotency key`));
    assert.match(log, /"code":"conflict",[^\n]*another prompt[^\n]*"msg":"job refused"/);
  });
});

it('an agent that joins halfway gets work at once, and a slow one does not hold up the end', async () => {
  await using farm = await Farm.start([
    { name: 'steady', pace: 1.5 },
    { name: 'slow', pace: 6 },
  ]);
  const audio = await cutAudio(join(farm.dir, 'talk.wav'), { seconds: 40 });
  const { jobId } = await farm.submit(audio);
  await farm.committed(jobId, 1);
  await farm.startAgent({ name: 'late', pace: 0.2 });
  await until(async () => {
    const late = (await farm.nodes()).find((node) => node.name === 'late');
    return (await farm.job(jobId)).leases.some((lease) => lease.nodeId === late?.nodeId);
  }, 'the late agent has a lease');
  await prove(farm, jobId);
  const late = (await farm.nodes()).find((node) => node.name === 'late');
  assert.ok((late?.clipsCommitted ?? 0) >= 5, `the late agent made ${late?.clipsCommitted} clips`);
});
