import assert from 'node:assert/strict';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { it } from 'node:test';
import { Farm, PATIENT } from '../harness/farm.ts';
import { cutAudio, prove } from '../harness/media.ts';

it('a coordinator that comes back stitches on at once, and has a chunk rendered again that its disk has altered', async () => {
  await using farm = await Farm.start([{ name: 'one', pace: 0.4 }], PATIENT);
  const audio = await cutAudio(join(farm.dir, 'talk.wav'), { seconds: 30 });
  const { jobId } = await farm.submit(audio);
  await farm.committed(jobId, 4);
  await farm.coordinator.kill();
  await flipOneBit(await storedChunk(farm, jobId, 1));
  await farm.startCoordinator();
  assert.equal(await prove(farm, jobId), 0, 'what is rendered again for a lost chunk is not wasted');
  const log = farm.coordinator.output();
  assert.ok(/"clip":1,[^\n]*the chunk has the SHA-256/.test(log), 'the log says what was wrong with which clip');
  const metrics = await (await fetch(`http://${farm.admin}/metrics`)).text();
  assert.match(metrics, /^clipfarm_clips_lost_total 1$/m);
  assert.ok(!log.includes('stitching failed'), 'nothing but the clip was begun anew');
});

it('agents work for a coordinator whose journal was lost, and for a job that is submitted again', async () => {
  await using farm = await Farm.start([{ name: 'one', pace: 0.3 }]);
  const audio = await cutAudio(join(farm.dir, 'talk.wav'), { seconds: 15 });
  // Two starts, so that the agent has seen a higher term than the new journal begins with.
  await farm.coordinator.stop();
  await farm.startCoordinator();
  await farm.waitForNodes(1);
  await farm.submit(audio);
  await farm.coordinator.kill();
  await rm(join(farm.dir, 'coordinator'), { recursive: true });
  await farm.startCoordinator();
  await farm.waitForNodes(1);
  const { jobId } = await farm.submit(audio);
  await prove(farm, jobId);
  assert.match(farm.agent('one').output(), /the coordinator has another journal/);
});

/** Path of a committed clip's chunk in the coordinator's directory store. */
async function storedChunk(farm: Farm, jobId: string, clip: number): Promise<string> {
  const chunks = join(farm.dir, 'coordinator/artifacts/files/jobs', jobId, 'chunks');
  const found = (await readdir(chunks, { recursive: true })).find((name) => new RegExp(`^0*${clip}[/-]`).test(name));
  assert.ok(found, `no chunk of clip ${clip} among ${await readdir(chunks)}`);
  return join(chunks, found);
}

/** Alters a file as a bad disk does: same size, same time of change, one bit. */
async function flipOneBit(path: string): Promise<void> {
  const bytes = await readFile(path);
  const at = bytes.length - 20;
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
  await writeFile(path, bytes);
}
