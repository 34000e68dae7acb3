import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import { JobSpec } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { findFfmpeg } from '@clipfarm/shared/media/ffmpeg';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { putBytes } from '../artifacts/artifact-store-contract.ts';
import { openDirectoryStore } from '../artifacts/directory-store.ts';
import { ffmpegOutput, makeSound } from '../media/media-fixtures.ts';
import { artifactKeys } from './artifact-keys.ts';
import { AudioLibrary } from './audio-library.ts';
import { memoryFarm } from './farm-fixture.ts';
import { InputKeeper } from './input-keeper.ts';
import { Submissions } from './submissions.ts';
import { WorkQueue } from './work-queue.ts';

const IMAGE = '1'.repeat(64);
const AUDIO = '2'.repeat(64);
const spec = JobSpec.fromPartial({ name: 'talk', imageSha256: IMAGE, audioSha256: AUDIO });

/** A farm with a portrait and a second of sound, whose places for media are all taken until `release`. */
async function busyFarm(t: TestContext) {
  const dir = temporaryDirectory(t);
  const ffmpeg = await findFfmpeg();
  const clock = new ManualClock();
  const farm = await memoryFarm(clock);
  const store = await openDirectoryStore(join(dir, 'artifacts'));
  const picture = join(dir, 'p.png');
  await ffmpegOutput(ffmpeg, ['-f', 'lavfi', '-i', 'color=red:s=512x512', '-frames:v', '1', '-update', '1', picture]);
  await putBytes(store, artifactKeys.input(IMAGE), await readFile(picture));
  const sound = await makeSound(ffmpeg, join(dir, 'a.wav'), { seconds: 1, sampleRate: 48_000, channels: 1 });
  await putBytes(store, artifactKeys.input(AUDIO), await readFile(sound));
  const queue = new WorkQueue({ all: 1, notUrgent: 1 });
  const held: { readonly bytes: number; readonly what: string }[] = [];
  const room = {
    hold: <T>({ bytes, what }: { readonly bytes: number; readonly what: string }, work: () => Promise<T>) => {
      held.push({ bytes, what });
      return work();
    },
  };
  const audio = new AudioLibrary({ dir: join(dir, 'decoded'), store, ffmpeg, room, queue, needed: () => new Set() });
  const inputs = new InputKeeper({ store, clock, keepMillis: null });
  const submissions = new Submissions({ ...farm, store, inputs, audio, ffmpeg, room, queue, drawSeed: () => 1 });
  const place = Promise.withResolvers<void>();
  const taken = queue.run(() => place.promise);
  const release = () => {
    place.resolve();
    return taken;
  };
  /** Waits until so many wait for a place. */
  const untilWaiting = async (count: number) => {
    while (queue.waiting !== count) await new Promise((resolve) => setImmediate(resolve));
  };
  return { submissions, jobs: farm.jobs, held, release, untilWaiting };
}

for (const [name, call] of [
  ['a plan', (submissions: Submissions, signal: AbortSignal) => submissions.plan(spec, signal)],
  ['an order', (submissions: Submissions, signal: AbortSignal) => submissions.submit(spec, '', signal)],
] as const) {
  test(`${name} that nobody waits for any more takes no place, and nothing is accepted`, async (t) => {
    const { submissions, jobs, held, release, untilWaiting } = await busyFarm(t);
    const abort = new AbortController();
    const answer = assert.rejects(call(submissions, abort.signal), { message: 'the client cancelled the call' });
    await untilWaiting(1);
    abort.abort(new FarmError('unavailable', 'the client cancelled the call'));
    await answer;
    await untilWaiting(0);
    await release();
    assert.deepEqual([jobs.all(), held], [[], []]);
  });
}

test('an order waits for its turn, and has room for both kinds of sound', async (t) => {
  const { submissions, held, release, untilWaiting } = await busyFarm(t);
  const answer = submissions.submit(spec, '', new AbortController().signal);
  await untilWaiting(1);
  await release();
  const { job } = await answer;
  assert.equal(job.definition.audioSamples, 48_000);
  const [decoded, model] = held;
  assert.deepEqual(decoded, { bytes: 4 * 96_000, what: 'bytes of decoded sound' });
  // The store's file has a header of 78 bytes at most.
  const { bytes } = job.definition.modelAudio;
  assert.equal(model?.what, "bytes of the model's sound");
  assert.ok(bytes - (model?.bytes ?? 0) >= 0 && bytes - (model?.bytes ?? 0) <= 78, `${bytes} of ${model?.bytes}`);
});
