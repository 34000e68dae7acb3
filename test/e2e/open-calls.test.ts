import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Farm, PATIENT, until } from '../harness/farm.ts';
import { cutAudio, prove } from '../harness/media.ts';

describe('a slot that goes on in its model call', () => {
  let farm: Farm;
  before(async () => {
    farm = await Farm.start([{ name: 'one', pace: 0.4 }], PATIENT);
  });
  after(() => farm[Symbol.asyncDispose]());

  it('renders a job that was paused as if it had never stopped: every frame once, no join', async () => {
    const { jobId } = await farm.submit(await cutAudio(join(farm.dir, 'talk.wav'), { seconds: 20 }));
    await farm.committed(jobId, 2);
    await farm.call(farm.client.pauseJob, { jobId });
    await until(async () => (await farm.job(jobId)).leases.length === 0, 'the clip in hand is finished');
    const { clipsCommitted } = await farm.job(jobId);
    assert.ok(clipsCommitted < 11, `${clipsCommitted} clips`);
    await farm.call(farm.client.resumeJob, { jobId });
    await prove(farm, jobId);
    const { spans, result } = await farm.job(jobId);
    assert.deepEqual([spans.length, result?.joins, result?.clipsRerendered], [1, 0, 0]);
  });

  it('begins a new call when another job was rendered in between', async () => {
    const first = await farm.submit(await cutAudio(join(farm.dir, 'first.wav'), { seconds: 16 }));
    await farm.committed(first.jobId, 2);
    await farm.call(farm.client.pauseJob, { jobId: first.jobId });
    const other = await farm.submit(await cutAudio(join(farm.dir, 'other.wav'), { seconds: 2 }));
    await farm.finished(other.jobId);
    await farm.call(farm.client.resumeJob, { jobId: first.jobId });
    await prove(farm, first.jobId);
    const { spans, result } = await farm.job(first.jobId);
    assert.deepEqual([spans.length, result?.joins], [2, 1]);
  });
});
