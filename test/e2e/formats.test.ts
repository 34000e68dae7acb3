import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { Job } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { Farm } from '../harness/farm.ts';
import { cutAudio, identifyFrames, lagAt, pcmOf, promisedFrames, stampsOf } from '../harness/media.ts';

const talks = [
  { name: 'half a second of 8 kHz mono wav', file: 'a.wav', seconds: 0.5, rate: 8000, channels: 1 },
  { name: 'exactly one clip of 16 kHz mono wav', file: 'b.wav', seconds: 1.92, rate: 16_000, channels: 1 },
  {
    name: 'a little more than one clip, where upstream alone would make only one',
    file: 'c.wav',
    seconds: 1.9405,
    rate: 48_000,
    channels: 1,
  },
  { name: 'five seconds of 44.1 kHz stereo mp3', file: 'd.mp3', seconds: 5, rate: 44_100, channels: 2 },
  { name: 'seven seconds of 22.05 kHz mono m4a', file: 'e.m4a', seconds: 7.3, rate: 22_050, channels: 1 },
  { name: 'twelve seconds of 48 kHz stereo m4a', file: 'f.m4a', seconds: 12.34, rate: 48_000, channels: 2 },
];

describe('a finished video', () => {
  let farm: Farm;
  const jobs = new Map<string, Job>();
  before(async () => {
    farm = await Farm.start([
      { name: 'one', pace: 0 },
      { name: 'two', pace: 0.3 },
    ]);
    // All at once: while one is looked at, the others are rendered.
    for (const talk of talks) {
      jobs.set(talk.name, await farm.submit(await cutAudio(join(farm.dir, talk.file), talk)));
    }
  });
  after(() => farm[Symbol.asyncDispose]());

  for (const talk of talks) {
    it(`has every frame in its place and the sound where it was: ${talk.name}`, async () => {
      const { jobId, spec } = jobs.get(talk.name) ?? assert.fail('it was submitted');
      const { job, path } = await farm.video(jobId);
      const original = await pcmOf(join(farm.dir, talk.file));
      const frames = promisedFrames(original.length);
      assert.equal(job.plan?.frames, frames);
      const { width, height } = job.plan ?? assert.fail('no plan');
      identifyFrames(await stampsOf(path, width, height), { jobId, frames, baseSeed: spec?.settings?.baseSeed ?? -1 });
      const delivered = await pcmOf(path);
      assert.ok(delivered.length >= original.length, `${delivered.length} samples of ${original.length}`);
      assert.ok(delivered.length - original.length < 2048, 'no more than an AAC frame or two of padding');
      for (const at of [0, original.length / 2, original.length]) {
        const { lag, correlation } = lagAt(
          original,
          delivered,
          Math.floor(at),
          Math.min(24_000, original.length - 4800),
        );
        assert.ok(Math.abs(lag) <= 48, `the sound is ${lag} samples late at sample ${at}`);
        assert.ok(correlation > 0.95, `the sound is the original: correlation ${correlation}`);
      }
    });
  }
});
