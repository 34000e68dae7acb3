import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  CLIP_FRAMES,
  clipsForFrames,
  DELIVERY_SAMPLE_RATE,
  FPS,
  framesForSamples,
  framesInClip,
  MAX_BASE_SEED,
  MODEL_SAMPLE_RATE,
  modelAudioSamples,
  seedOfClip,
  upstreamClipCount,
} from './clip.ts';

const invalid = (field: string) => ({ name: 'FarmError', code: 'invalid_argument', field });

test('the frames of an audio are 25 a second, rounded half up', () => {
  assert.equal(framesForSamples(0, 48_000), 0);
  assert.equal(framesForSamples(48_000, 48_000), 25);
  assert.equal(framesForSamples(959, 48_000), 0);
  assert.equal(framesForSamples(960, 48_000), 1);
  assert.equal(framesForSamples(2879, 48_000), 1);
  assert.equal(framesForSamples(2880, 48_000), 2);
  assert.equal(framesForSamples(441, 44_100), 0);
  assert.equal(framesForSamples(882, 44_100), 1);
  assert.equal(framesForSamples(92_160, 48_000), CLIP_FRAMES);
});

test('frames are exact for every length and sample rate', () => {
  const samples = fc.maxSafeNat();
  const rate = fc.constantFrom(8000, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000);
  fc.assert(
    fc.property(samples, rate, (count, sampleRate) => {
      const twice = 50n * BigInt(count);
      const exact = (twice + BigInt(sampleRate)) / (2n * BigInt(sampleRate));
      assert.equal(BigInt(framesForSamples(count, sampleRate)), exact);
    }),
  );
});

test('a sample count that is no count is refused', () => {
  assert.throws(() => framesForSamples(-1, 48_000), invalid('samples'));
  assert.throws(() => framesForSamples(1.5, 48_000), invalid('samples'));
  assert.throws(() => framesForSamples(Number.NaN, 48_000), invalid('samples'));
  assert.throws(() => framesForSamples(1, 0), invalid('sampleRate'));
});

test('the clips of a job hold its frames exactly', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 100_000 }), (frames) => {
      const clips = clipsForFrames(frames);
      let sum = 0;
      for (let clip = 0; clip < clips; clip += 1) {
        const inClip = framesInClip(clip, frames);
        assert.ok(inClip >= 1 && inClip <= CLIP_FRAMES);
        if (clip < clips - 1) assert.equal(inClip, CLIP_FRAMES);
        sum += inClip;
      }
      assert.equal(sum, frames);
    }),
  );
});

test('a clip outside the job has no frames', () => {
  assert.equal(clipsForFrames(0), 0);
  assert.throws(() => framesInClip(2, 96), invalid('clip'));
  assert.throws(() => framesInClip(-1, 96), invalid('clip'));
});

/** Seconds of audio and clips, as upstream's own functions gave them. */
const UPSTREAM_CLIPS = [
  [1.0, 1],
  [1.92, 1],
  [1.95, 2],
  [3.84, 2],
  [5.0, 3],
  [9.6, 5],
  [10.0, 6],
  [11.6, 7],
  [30.0, 16],
  [57.6, 30],
  [60.0, 32],
  [192, 100],
  [300, 157],
  [600, 313],
  [3600, 1875],
] as const;

for (const [seconds, clips] of UPSTREAM_CLIPS) {
  test(`upstream makes ${clips} clips of ${seconds} s`, () => {
    assert.equal(upstreamClipCount(Math.round(seconds * MODEL_SAMPLE_RATE)), clips);
  });
}

test('upstream makes nothing of audio too short for one feature', () => {
  assert.equal(upstreamClipCount(0), 0);
  assert.equal(upstreamClipCount(719), 0);
  assert.equal(upstreamClipCount(720), 1);
});

test('the padded audio has just enough samples for its clips', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1_000_000 }), (clips) => {
      const samples = modelAudioSamples(clips);
      assert.ok(upstreamClipCount(samples) >= clips);
      assert.ok(upstreamClipCount(samples - 1) < clips);
    }),
  );
});

test('the padding allows for upstream losing a feature to floating point', () => {
  assert.equal(upstreamClipCount(4_270_480), 139);
  assert.equal(modelAudioSamples(140), 4_270_800);
  assert.equal(upstreamClipCount(4_270_800), 140);
});

test('audio of every length, padded, gives upstream every clip that the video needs', () => {
  fc.assert(
    fc.property(fc.integer({ min: 960, max: 48_000 * 7200 }), (samples48k) => {
      const clips = clipsForFrames(framesForSamples(samples48k, DELIVERY_SAMPLE_RATE));
      const samples16k = Math.floor(samples48k / 3);
      const padded = Math.max(samples16k, modelAudioSamples(clips));
      assert.ok(upstreamClipCount(padded) >= clips);
    }),
  );
});

test('without padding there are lengths at which upstream makes a clip too few', () => {
  const samples16k = 31_040;
  assert.equal(clipsForFrames(framesForSamples(samples16k, MODEL_SAMPLE_RATE)), 2);
  assert.equal(upstreamClipCount(samples16k), 1);
  assert.equal(upstreamClipCount(modelAudioSamples(2)), 2);
});

test('the seed of a clip counts up from the base seed and stays exact', () => {
  assert.equal(seedOfClip(420, 0), 420);
  assert.equal(seedOfClip(420, 7), 427);
  assert.equal(seedOfClip(MAX_BASE_SEED, 2 ** 32 - 1), Number.MAX_SAFE_INTEGER);
  assert.throws(() => seedOfClip(MAX_BASE_SEED + 1, 0), invalid('base_seed'));
  assert.throws(() => seedOfClip(-1, 0), invalid('base_seed'));
  assert.throws(() => seedOfClip(1, -1), invalid('clip'));
});

test('a frame is a whole number of samples at both rates', () => {
  assert.equal(MODEL_SAMPLE_RATE % FPS, 0);
  assert.equal(DELIVERY_SAMPLE_RATE % FPS, 0);
});
