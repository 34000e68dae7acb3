import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { FarmError } from '@clipfarm/shared/errors';
import { Farm, until } from '../harness/farm.ts';
import { cutAudio } from '../harness/media.ts';

/** The error that the farm answers with when it is asked for a job; null while there is one. */
async function refusal(farm: Farm, jobId: string): Promise<FarmError | null> {
  return farm.job(jobId).then(
    () => null,
    (error: unknown) => FarmError.from(error),
  );
}

test('a finished job and its files go after their time, over a restart, and whoever asks is told', async () => {
  let times: readonly string[] = [];
  await using farm = await Farm.start([{ name: 'one', pace: 0.05 }], { args: async () => times });
  const { jobId } = await farm.submit(await cutAudio(join(farm.dir, 'talk.wav'), { seconds: 6 }));
  const done = await farm.finished(jobId);
  assert.ok((done.keptUntil?.seconds ?? 0) > (done.finishedAt?.seconds ?? 0) + 3600);
  // From now on 3.6 s, and as much for what no job needs.
  times = ['--retain-hours', '0.001', '--retain-inputs-hours', '0.001'];
  await farm.coordinator.kill();
  await farm.startCoordinator();
  await until(async () => (await refusal(farm, jobId))?.code === 'not_found', 'the job expires');
  const stored = async () => {
    const files = await readdir(join(farm.dir, 'coordinator/artifacts/files'), {
      recursive: true,
      withFileTypes: true,
    });
    return files.filter((file) => file.isFile()).map(({ name }) => name);
  };
  await until(async () => (await stored()).length === 0, 'no file is left');
  await farm.coordinator.kill();
  await farm.startCoordinator();
  await farm.findLeader();
  const told = await refusal(farm, jobId);
  assert.equal(told?.code, 'not_found');
  assert.match(told?.message ?? '', new RegExp(`job ${jobId} expired at .* it ended at `));
});
