import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ManualClock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import { hashFile } from '@clipfarm/shared/hash-file';
import { createLogger } from '@clipfarm/shared/log';
import { findFfmpeg } from '@clipfarm/shared/media/ffmpeg';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { putBytes } from '../artifacts/artifact-store-contract.ts';
import { openDirectoryStore } from '../artifacts/directory-store.ts';
import { makeChunk } from '../media/media-fixtures.ts';
import { AnchorKeeper } from './anchor-keeper.ts';
import { artifactKeys } from './artifact-keys.ts';
import { grant, memoryFarm, submit } from './farm-fixture.ts';

/** A job whose first clip is committed, and whose agent was gone before it handed in the anchor. */
async function place(t: TestContext) {
  const farm = await memoryFarm(new ManualClock());
  const dir = temporaryDirectory(t);
  const ffmpeg = await findFfmpeg();
  const store = await openDirectoryStore(join(dir, 'artifacts'));
  const data = await readFile(await makeChunk(ffmpeg, join(dir, 'c.mp4'), { width: 64, height: 64, frames: 48 }));
  const sha256 = await hashFile(join(dir, 'c.mp4'));
  const job = await submit(farm, { clips: 2, width: 64, height: 64, anchorMode: 'first_frame' });
  const leaseId = await grant(farm, job, { nodeId: 'n', slotId: 's', start: 0, end: 2 });
  const key = artifactKeys.chunk('job-1', 0, sha256);
  const chunk = { leaseId, clip: 0, frames: 48, chunk: { sha256, bytes: data.length }, headerHash: 'h' };
  await putBytes(store, key, data);
  await farm.jobs.execute('job-1', { type: 'commit', chunk });
  const log = createLogger({ name: 'test', level: 'silent' });
  const anchors = new AnchorKeeper({ ...farm, store, ffmpeg, log });
  t.after(() => anchors.stop());
  return { ...farm, store, key, job, anchors };
}

/** Waits until it is so; the test runner's own limit ends what never comes true. */
async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await nextTurn();
}

test('an anchor that no agent handed in is taken from the first clip', async (t) => {
  const { job, anchors, store } = await place(t);
  await anchors.ensure(job);
  assert.ok(job.anchor && (await store.stat(artifactKeys.anchor('job-1', job.anchor.sha256))));
});

test('where the chunk of the first clip is gone or damaged, the clip is rendered again, and nobody else waits for it', async (t) => {
  for (const what of ['gone', 'damaged'] as const) {
    const { job, anchors, store, key } = await place(t);
    if (what === 'gone') await store.remove(key);
    else await writeFile(await store.localFile(key), 'no video');
    await anchors.ensure(job);
    assert.equal(job.committed.has(0), false, what);
    assert.equal(await store.stat(key), null, what);
  }
});

test('trouble of the host keeps nobody from leading, and the anchor is taken once it is over', async (t) => {
  const { job, anchors, store, clock } = await place(t);
  const trouble = async () => {
    throw new FarmError('resource_exhausted', 'the disk is full');
  };
  t.mock.method(store, 'putFile', trouble, { times: 1 });
  await anchors.ensure(job);
  assert.equal(job.anchor, null);
  clock.advance(5000);
  await until(() => job.anchor !== null);
});

test('a job that was cancelled while its anchor could not be taken gets it when it is retried', async (t) => {
  const { job, jobs, anchors, store, clock } = await place(t);
  const trouble = async () => {
    throw new FarmError('resource_exhausted', 'the disk is full');
  };
  t.mock.method(store, 'putFile', trouble, { times: 1 });
  await anchors.ensure(job);
  assert.match(anchors.problemOf('job-1') ?? '', /the disk is full/);
  await jobs.execute('job-1', { type: 'cancel', reason: 'enough' });
  clock.advance(5000);
  await until(() => anchors.problemOf('job-1') === null);
  assert.equal(job.anchor, null);
  await jobs.execute('job-1', { type: 'retry' });
  await until(() => job.anchor !== null);
  assert.equal(anchors.problemOf('job-1'), null);
});
