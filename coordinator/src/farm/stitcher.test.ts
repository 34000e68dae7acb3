import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ManualClock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import { hashFile } from '@clipfarm/shared/hash-file';
import { createLogger } from '@clipfarm/shared/log';
import { findFfmpeg } from '@clipfarm/shared/media/ffmpeg';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { createMetrics } from '../admin/metrics.ts';
import type { ArtifactStore } from '../artifacts/artifact-store.ts';
import { putBytes } from '../artifacts/artifact-store-contract.ts';
import { openDirectoryStore } from '../artifacts/directory-store.ts';
import { makeChunks, makeSound } from '../media/media-fixtures.ts';
import { artifactKeys } from './artifact-keys.ts';
import { grant, memoryFarm, submit } from './farm-fixture.ts';
import { Stitcher } from './stitcher.ts';
import { StorageHealth } from './storage-health.ts';
import { WorkQueue } from './work-queue.ts';

const size = { width: 64, height: 64, frames: 144 };

/** A job of three clips, none of which is committed yet, and who stitches it; what it fetches, encodes and stores is counted. */
async function place(t: TestContext) {
  const dir = temporaryDirectory(t);
  const ffmpeg = await findFfmpeg();
  const clock = new ManualClock();
  const farm = await memoryFarm(clock);
  const inner = await openDirectoryStore(join(dir, 'artifacts'));
  const job = await submit(farm, { clips: 3, width: size.width, height: size.height });
  const leaseId = await grant(farm, job, { nodeId: 'n', slotId: '0', start: 0, end: 3 });
  const chunks = await makeChunks(ffmpeg, dir, size);
  const deliveryWav = await makeSound(ffmpeg, join(dir, 'a.wav'), { seconds: 5.76, sampleRate: 48_000, channels: 1 });
  const trouble = { put: false, fetch: new Set<number>() };
  /** What does not come back by itself; `begun` once it is called. */
  const hang: { at: 'fetch' | 'put' | 'check' | null; begun: boolean } = { at: null, begun: false };
  const hangs = (signal?: AbortSignal) => {
    hang.begun = true;
    return new Promise<never>((_, reject) => signal?.addEventListener('abort', () => reject(failure())));
  };
  const count = { sounds: 0, puts: 0, fetches: [0, 0, 0] };
  const failure = () => new FarmError('unavailable', 'the store does not answer');
  const store: ArtifactStore = Object.assign(Object.create(inner), {
    putFile: async (...args: Parameters<ArtifactStore['putFile']>) => {
      count.puts += 1;
      if (trouble.put) throw failure();
      if (hang.at === 'put') return hangs(args[3]);
      return inner.putFile(...args);
    },
    localFile: async (key: string) => {
      const clip = keys.indexOf(key);
      count.fetches[clip] = (count.fetches[clip] ?? 0) + 1;
      if (trouble.fetch.has(clip)) throw failure();
      if (hang.at === 'fetch') return hangs();
      return inner.localFile(key);
    },
    remove: (key: string) => inner.remove(key),
    removePrefix: (prefix: string) => inner.removePrefix(prefix),
  });
  const sleeper = join(dir, 'sleeper');
  await writeFile(sleeper, '#!/bin/sh\nexec sleep 3600\n', { mode: 0o755 });
  const log = createLogger({ name: 'test', level: 'silent' });
  const audio = {
    get: async () => {
      count.sounds += 1;
      return { deliveryWav, samples: size.frames * 1920, channels: 1 };
    },
    drop: async () => {},
  };
  const queue = new WorkQueue({ all: 2, notUrgent: 1 });
  const parts = {
    ...farm,
    store,
    audio,
    ffmpeg: {
      ...ffmpeg,
      get ffprobe() {
        if (hang.at !== 'check') return ffmpeg.ffprobe;
        hang.begun = true;
        return sleeper;
      },
    },
    queue,
    log,
    metrics: createMetrics(),
    storage: new StorageHealth(log),
  };
  const stitcher = new Stitcher({ ...parts, workDir: join(dir, 'work') });
  await stitcher.clear();
  farm.jobs.onEvent((changed) => stitcher.advance(changed));
  t.after(() => stitcher.stop());
  const keys: string[] = [];
  const contents = await Promise.all(chunks.map((path) => readFile(path)));
  const hashes = await Promise.all(chunks.map((path) => hashFile(path)));
  for (const [clip, sha256] of hashes.entries()) {
    keys.push(artifactKeys.chunk('job-1', clip, sha256));
    await putBytes(inner, keys[clip] ?? '', contents[clip] ?? Buffer.alloc(0));
  }
  const commit = async (clip: number, headerHash = 'h') => {
    const chunk = { sha256: hashes[clip] ?? '', bytes: contents[clip]?.length ?? 0 };
    await farm.jobs.execute('job-1', { type: 'commit', chunk: { leaseId, clip, frames: 48, chunk, headerHash } });
  };
  /** Waits until the stitcher has failed and will try again; only its timers are on this clock. */
  const failed = () => until(() => clock.pending === 1);
  const left = () => readdir(join(dir, 'work'));
  return { ...farm, job, inner, left, queue, stitcher, trouble, hang, count, commit, failed };
}

/** Waits until it is so; the test runner's own limit ends what never comes true. Tools run meanwhile. */
async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await sleep(5);
}

test('while the store does not take the finished video, it is offered ever more rarely, and nothing is made again', async (t) => {
  const { job, clock, stitcher, trouble, count, commit, failed } = await place(t);
  trouble.put = true;
  for (const clip of [0, 1, 2]) await commit(clip);
  for (const [n, pause] of [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000].entries()) {
    await failed();
    assert.equal(count.puts, n + 1);
    clock.advance(pause - 1);
    assert.equal(clock.pending, 1, `a pause of ${pause} ms`);
    clock.advance(1);
  }
  await failed();
  await assert.rejects(stitcher.prefix('job-1'), { message: /the whole video is being checked and stored/ });
  trouble.put = false;
  clock.advance(60_000);
  await until(() => job.status === 'completed');
  assert.deepEqual(count, { sounds: 1, puts: 10, fetches: [1, 1, 1] });
});

test('a video whose first clips are lost is begun anew with what another encoder makes of them', async (t) => {
  const { job, jobs, clock, count, commit } = await place(t);
  await commit(0);
  await until(() => count.fetches[0] === 1);
  await jobs.execute('job-1', { type: 'loseClip', clip: 0, reason: 'damaged' });
  for (const clip of [0, 1, 2]) await commit(clip, 'other');
  await until(() => clock.pending === 1 || job.status === 'completed');
  clock.advance(1000);
  await until(() => job.status === 'completed');
  assert.deepEqual(count.fetches, [2, 1, 1]);
});

test('sound is encoded when it has its turn', async (t) => {
  const { job, queue, count, commit } = await place(t);
  const turn = Promise.withResolvers<void>();
  const other = queue.run(() => turn.promise);
  for (const clip of [0, 1, 2]) await commit(clip);
  await until(() => queue.waiting === 1);
  assert.equal(job.status, 'stitching');
  turn.resolve();
  await other;
  await until(() => job.status === 'completed');
  assert.equal(count.sounds, 1);
});

test('a job that is over leaves the queue, and its sound is not encoded', async (t) => {
  const { jobs, queue, commit } = await place(t);
  const turn = Promise.withResolvers<void>();
  const other = queue.run(() => turn.promise);
  await commit(0);
  await until(() => queue.waiting === 1);
  await jobs.execute('job-1', { type: 'cancel', reason: 'lunch' });
  await until(() => queue.waiting === 0);
  turn.resolve();
  await other;
});

test('where the journal did not take the end, the stored video is not asked for again', async (t) => {
  const { job, jobs, clock, count, commit, failed } = await place(t);
  const execute = jobs.execute.bind(jobs);
  let refusals = 2;
  t.mock.method(jobs, 'execute', async (...args: Parameters<typeof execute>) => {
    if (args[1].type === 'complete' && refusals-- > 0) throw new FarmError('unavailable', 'the journal is away');
    return execute(...args);
  });
  for (const clip of [0, 1, 2]) await commit(clip);
  for (const pause of [1000, 2000]) {
    await failed();
    clock.advance(pause);
  }
  await until(() => job.status === 'completed');
  assert.deepEqual(count, { sounds: 1, puts: 1, fetches: [1, 1, 1] });
});

test('a store that took the video over and failed all the same gets a new one', async (t) => {
  const { job, inner, clock, commit, failed } = await place(t);
  const putFile = inner.putFile.bind(inner);
  let failures = 1;
  t.mock.method(inner, 'putFile', async (...args: Parameters<typeof putFile>) => {
    await putFile(...args);
    if (failures-- > 0) throw new FarmError('internal', 'the disk broke just now');
  });
  for (const clip of [0, 1, 2]) await commit(clip);
  await failed();
  clock.advance(1000);
  await until(() => job.status === 'completed');
});

test('a clip that comes does not end a pause, and one timer is all there is', async (t) => {
  const { job, clock, trouble, count, commit, failed } = await place(t);
  trouble.fetch.add(0);
  await commit(0);
  await failed();
  await commit(1);
  await commit(2);
  assert.equal(clock.pending, 1);
  assert.equal(count.fetches[0], 1);
  clock.advance(999);
  assert.equal(count.fetches[0], 1);
  trouble.fetch.clear();
  clock.advance(1);
  await until(() => job.status === 'completed');
  assert.deepEqual(count, { sounds: 1, puts: 1, fetches: [2, 1, 1] });
});

test('getting as far as before does not make the pauses short again; getting further does', async (t) => {
  const { job, clock, trouble, commit, failed } = await place(t);
  trouble.fetch.add(1);
  await commit(0);
  await commit(1);
  for (const pause of [1000, 2000, 4000]) {
    await failed();
    clock.advance(pause - 1);
    assert.equal(clock.pending, 1, `a pause of ${pause} ms`);
    clock.advance(1);
  }
  await failed();
  await commit(2);
  trouble.fetch = new Set([2]);
  clock.advance(8000);
  await failed();
  trouble.fetch.clear();
  clock.advance(1000);
  await until(() => job.status === 'completed');
});

test('whoever stops waits for no store that does not answer and for no check, and leaves nothing behind', async (t) => {
  for (const at of ['fetch', 'put', 'check'] as const) {
    const { job, stitcher, hang, clock, commit, left } = await place(t);
    hang.at = at;
    for (const clip of [0, 1, 2]) await commit(clip);
    await until(() => hang.begun);
    await stitcher.stop();
    assert.deepEqual([job.status, await left(), clock.pending], ['stitching', [], 0], at);
  }
});
