import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseMp4 } from '@clipfarm/shared/media/mp4-read';
import fc from 'fast-check';
import { box, u16, u32 } from './mp4-box-write.ts';
import { buildMoov, FTYP, playedSamples, type SampleRun } from './mp4-write.ts';

const LIMIT = 64 * 1024 * 1024;
const avcC = Buffer.from([1, 100, 0, 30, 255, 225, 0]);
const sampleEntry = box('mp4a', Buffer.alloc(16), u16(2, 16), u32(0, 48_000 * 0x10000));

/** A movie of these runs whose samples all have 100 bytes. */
function movieOf(videoRuns: readonly SampleRun[], audioRuns: readonly SampleRun[]) {
  const count = (runs: readonly SampleRun[]) => runs.reduce((sum, run) => sum + run.samples, 0);
  const video = { width: 704, height: 384, avcC, sizes: new Uint32Array(count(videoRuns)).fill(100), runs: videoRuns };
  const durations = new Uint32Array(count(audioRuns)).fill(1024);
  const sizes = new Uint32Array(durations.length).fill(100);
  const audio = { sampleEntry, durations, sizes, priming: 1024, runs: audioRuns };
  return { audio, moov: buildMoov(video, audio) };
}

test('what is written is read back', () => {
  const run = fc.record({ offset: fc.integer({ min: 0, max: 2 ** 45 }), samples: fc.integer({ min: 1, max: 60 }) });
  const runs = fc.array(run, { minLength: 1, maxLength: 30 });
  fc.assert(
    fc.property(runs, runs, (videoRuns, audioRuns) => {
      const { movie } = parseMp4(Buffer.concat([FTYP, movieOf(videoRuns, audioRuns).moov]), LIMIT);
      for (const [index, written] of [videoRuns, audioRuns].entries()) {
        const track = movie.tracks[index];
        assert.ok(track);
        const offsets = written.flatMap(({ offset, samples }) =>
          Array.from({ length: samples }, (_, i) => offset + i * 100),
        );
        assert.deepEqual([...track.samples.offsets], offsets);
        assert.ok(track.samples.sizes.every((size) => size === 100));
      }
    }),
    { numRuns: 200 },
  );
});

test('places beyond 4 GiB get 64 bits, others stay at 32', () => {
  const audioRuns = [{ offset: 48, samples: 3 }];
  const near = movieOf([{ offset: 2 ** 32 - 1, samples: 48 }], audioRuns).moov;
  assert.ok(!near.includes('co64'));
  const far = movieOf(
    [
      { offset: 48, samples: 48 },
      { offset: 2 ** 32, samples: 2 },
    ],
    audioRuns,
  ).moov;
  assert.ok(far.includes('co64'));
  const { movie } = parseMp4(Buffer.concat([FTYP, far]), LIMIT);
  assert.deepEqual([...(movie.tracks[0]?.samples.offsets.slice(47) ?? [])], [48 + 4700, 2 ** 32, 2 ** 32 + 100]);
});

test('the tables say 25 frames a second, one key frame a clip, and hide the delay of the encoder', () => {
  const { audio, moov } = movieOf(
    [
      { offset: 48, samples: 48 },
      { offset: 9000, samples: 5 },
    ],
    [{ offset: 99, samples: 101 }],
  );
  const { timescale, tracks } = parseMp4(Buffer.concat([FTYP, moov]), LIMIT).movie;
  const [video, sound] = tracks;
  assert.ok(video && sound);
  assert.equal(timescale, 48_000);
  assert.equal(video.timescale, 12_800);
  assert.deepEqual(video.edits, []);
  assert.ok(video.samples.durations.every((ticks) => ticks === 512));
  assert.deepEqual(
    [...video.samples.sync.keys()].filter((i) => video.samples.sync[i] === 1),
    [0, 48],
  );
  assert.deepEqual(video.format, { kind: 'video', width: 704, height: 384, avcC });
  assert.equal(playedSamples(audio), 100 * 1024);
  assert.deepEqual(sound.edits, [{ duration: 100 * 1024, mediaTime: 1024, rate: 1 }]);
  assert.deepEqual(sound.format, { kind: 'audio', channels: 2, sampleRate: 48_000 });
});

test('the tables of four hours fit into what is kept free for them', () => {
  const frames = 4 * 3600 * 25;
  const clip = (_: unknown, i: number) => ({ offset: 2 ** 32 + i * 100_000, samples: 48 });
  // Runs of 89, 90 and 91 packets, so that no two neighbours share an entry.
  const sound = (_: unknown, i: number) => ({ offset: 2 ** 33 + i * 100_000, samples: 89 + (i % 3) });
  const { moov } = movieOf(Array.from({ length: frames / 48 }, clip), Array.from({ length: frames / 48 }, sound));
  assert.ok(moov.length < 16 * frames + (5 * frames * 1920) / 1024, `${moov.length}`);
});
