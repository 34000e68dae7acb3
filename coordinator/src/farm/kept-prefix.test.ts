import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import { hashFile } from '@clipfarm/shared/hash-file';
import { findFfmpeg } from '@clipfarm/shared/media/ffmpeg';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { putBytes } from '../artifacts/artifact-store-contract.ts';
import { openDirectoryStore } from '../artifacts/directory-store.ts';
import { frameHashes, makeChunks, makeSound } from '../media/media-fixtures.ts';
import { artifactKeys } from './artifact-keys.ts';
import { AudioLibrary } from './audio-library.ts';
import { grant, memoryFarm, submit } from './farm-fixture.ts';
import { KeptPrefixes } from './kept-prefix.ts';
import { WorkQueue } from './work-queue.ts';

const anyRoom = { hold: <T>(_: unknown, work: () => Promise<T>) => work() };

const AUDIO = 'a'.repeat(64);
const size = { width: 64, height: 64, frames: 240 };

/** A cancelled job of five clips, of which the first three and the last are stored. */
async function cancelledJob(t: TestContext) {
  const dir = temporaryDirectory(t);
  const ffmpeg = await findFfmpeg();
  const store = await openDirectoryStore(join(dir, 'artifacts'));
  const farm = await memoryFarm(new ManualClock());
  const job = await submit(farm, { clips: 5, audioSha256: AUDIO, width: size.width, height: size.height });
  const { jobId } = job.definition;
  const sound = { seconds: 9.6, sampleRate: 48_000, channels: 1 };
  await putBytes(store, artifactKeys.input(AUDIO), await readFile(await makeSound(ffmpeg, join(dir, 'a.wav'), sound)));
  const leaseId = await grant(farm, job, { nodeId: 'n', slotId: '0', start: 0, end: 5 });
  const chunks = await makeChunks(ffmpeg, dir, size);
  const keys = new Map<number, string>();
  for (const clip of [0, 1, 2, 4]) {
    const content = await readFile(chunks[clip] ?? assert.fail());
    const chunk = { sha256: await hashFile(chunks[clip] ?? assert.fail()), bytes: content.length };
    const key = artifactKeys.chunk(jobId, clip, chunk.sha256);
    await putBytes(store, key, content);
    keys.set(clip, key);
    const offered = { leaseId, clip, frames: 48, chunk, headerHash: 'h' };
    await farm.jobs.execute(jobId, { type: 'commit', chunk: offered });
  }
  await farm.jobs.execute(jobId, { type: 'cancel', reason: 'lunch' });
  const decoded = join(dir, 'decoded');
  const workDir = join(dir, 'work');
  const queue = new WorkQueue({ all: 2, notUrgent: 1 });
  const audio = new AudioLibrary({ dir: decoded, store, ffmpeg, room: anyRoom, queue, needed: () => new Set() });
  const kept = new KeptPrefixes({ jobs: farm.jobs, store, audio, ffmpeg, queue, workDir });
  const frames = async (count: number) =>
    (await Promise.all(chunks.slice(0, count).map((chunk) => frameHashes(ffmpeg, chunk)))).flat();
  const read = async (signal = new AbortController().signal) => {
    await using prefix = await kept.of(job, signal);
    const path = join(dir, 'out.mp4');
    await writeFile(path, prefix.pieces());
    return { clips: prefix.clips, frames: await frameHashes(ffmpeg, path) };
  };
  return { job, store, keys, frames, read, left: async () => [await readdir(workDir), await readdir(decoded)] };
}

test('of a job that was cancelled, the clips before the first gap are a video, and nothing stays behind', async (t) => {
  const { read, frames, left } = await cancelledJob(t);
  assert.deepEqual(await read(), { clips: 3, frames: await frames(3) });
  assert.deepEqual(await left(), [[], []]);
});

test('a chunk that is gone ends the beginning before it; without the first there is none', async (t) => {
  const { read, frames, store, keys, left } = await cancelledJob(t);
  await store.remove(keys.get(2) ?? assert.fail());
  assert.deepEqual(await read(), { clips: 2, frames: await frames(2) });
  await store.remove(keys.get(0) ?? assert.fail());
  await assert.rejects(read(), { code: 'failed_precondition', message: /no clip is appended/ });
  assert.deepEqual(await left(), [[], []]);
});

test('who has left is not waited for, and several at once each get it', async (t) => {
  const { read } = await cancelledJob(t);
  await assert.rejects(read(AbortSignal.abort(new Error('gone'))), /gone/);
  const both = await Promise.all([read(), read()]);
  assert.deepEqual(
    both.map(({ clips }) => clips),
    [3, 3],
  );
});
