import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import { ChunkManifest } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { hashFile } from '@clipfarm/shared/hash-file';
import { createLogger } from '@clipfarm/shared/log';
import { findFfmpeg } from '@clipfarm/shared/media/ffmpeg';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { createMetrics } from '../admin/metrics.ts';
import { putBytes } from '../artifacts/artifact-store-contract.ts';
import { openDirectoryStore } from '../artifacts/directory-store.ts';
import { makeChunk } from '../media/media-fixtures.ts';
import type { AnchorKeeper } from './anchor-keeper.ts';
import { artifactKeys } from './artifact-keys.ts';
import { ChunkCommitter } from './chunk-committer.ts';
import { attach, commit, grant, memoryFarm, submit } from './farm-fixture.ts';
import { StorageHealth } from './storage-health.ts';

test('a chunk with other headers than the job has is held against no clip and no node', async (t) => {
  const farm = await memoryFarm(new ManualClock());
  const dir = temporaryDirectory(t);
  const store = await openDirectoryStore(join(dir, 'artifacts'));
  const path = await makeChunk(await findFfmpeg(), join(dir, 'c.mp4'), { width: 64, height: 64, frames: 48 });
  const data = await readFile(path);
  const content = { sha256: await hashFile(path), bytes: data.length };
  const anchors = { ensure: async () => {} } satisfies Partial<AnchorKeeper>;
  const log = createLogger({ name: 'test', level: 'silent' });
  const made = { metrics: createMetrics(), storage: new StorageHealth(log), log };
  const committer = new ChunkCommitter({ ...farm, store, anchors: anchors as unknown as AnchorKeeper, ...made });
  for (const nodeId of ['first', 'n']) await attach(farm, nodeId);
  const job = await submit(farm, { clips: 4, width: 64, height: 64 });
  const { jobId } = job.definition;
  const first = await grant(farm, job, { nodeId: 'first', slotId: '0', start: 0, end: 2 });
  await commit(farm, job, first, 0, 1);
  const leaseId = await grant(farm, job, { nodeId: 'n', slotId: '0', start: 2, end: 4 });
  await putBytes(store, artifactKeys.chunk(jobId, 2, content.sha256), data);
  const answer = await committer.offer(
    'n',
    ChunkManifest.fromPartial({ jobId, leaseId, clip: 2, ...content, frames: 48 }),
  );
  assert.equal(answer.verdict, 'CHUNK_VERDICT_REJECTED');
  const [failure = assert.fail()] = job.failures;
  assert.equal(failure.failureClass, 'other_encoder');
  assert.match(failure.message, /what node first committed/);
  const again = { ...failure, jobId };
  const untilOf = async (clip: number) => farm.nodes.noteFailure('n', { ...again, clip });
  for (const clip of [1, 2, 3, 4, 5]) assert.equal(await untilOf(clip), null, 'it is not quarantined');
});

test('a clip counts whatever its node says of the time that it took; what can be none is not measured', async (t) => {
  const farm = await memoryFarm(new ManualClock());
  const dir = temporaryDirectory(t);
  const store = await openDirectoryStore(join(dir, 'artifacts'));
  const path = await makeChunk(await findFfmpeg(), join(dir, 'c.mp4'), { width: 64, height: 64, frames: 48 });
  const data = await readFile(path);
  const content = { sha256: await hashFile(path), bytes: data.length };
  const ensured: string[] = [];
  const anchors = { ensure: async (job) => void ensured.push(job.definition.jobId) } satisfies Partial<AnchorKeeper>;
  const metrics = createMetrics();
  const log = createLogger({ name: 'test', level: 'silent' });
  const storage = new StorageHealth(log);
  const parts = { ...farm, store, anchors: anchors as unknown as AnchorKeeper, metrics, storage, log };
  const committer = new ChunkCommitter(parts);
  await attach(farm, 'n');
  const times = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -1, 0, 1e300, 2];
  for (const [n, renderSeconds] of times.entries()) {
    const jobId = `job-${n}`;
    const job = await submit(farm, { jobId, clips: 2, width: 64, height: 64 });
    const leaseId = await grant(farm, job, { nodeId: 'n', slotId: '0', start: 0, end: 2 });
    await putBytes(store, artifactKeys.chunk(jobId, 0, content.sha256), data);
    const manifest = ChunkManifest.fromPartial({ jobId, leaseId, clip: 0, ...content, frames: 48, renderSeconds });
    const answer = await committer.offer('n', manifest);
    assert.deepEqual(answer, { verdict: 'CHUNK_VERDICT_COMMITTED', reason: '' }, `${renderSeconds}`);
  }
  assert.deepEqual(
    ensured,
    times.map((_, n) => `job-${n}`),
  );
  const { values } = await metrics.clipRenderSeconds.get();
  const of = (end: string) => values.find(({ metricName }) => metricName?.endsWith(end))?.value;
  assert.deepEqual([of('_count'), of('_sum')], [1, 2]);
  assert.equal(farm.nodes.get('n')?.clipsCommitted, times.length);
});
