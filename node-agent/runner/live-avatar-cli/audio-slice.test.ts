import assert from 'node:assert/strict';
import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { framesForSamples, modelAudioSamples, upstreamClipCount } from '@clipfarm/shared/model/clip';
import fc from 'fast-check';
import { wavLayout } from '../common/wav.ts';
import { writeWav } from '../synthetic/testdata/media.ts';
import { CLIP_SAMPLES, MARGIN_SAMPLES, sliceOf, writeSlice } from './audio-slice.ts';

const spans = fc
  .record({
    clips: fc.integer({ min: 1, max: 400 }),
    a: fc.nat(),
    b: fc.nat(),
    preRoll: fc.integer({ min: 1, max: 4 }),
  })
  .map(({ clips, a, b, preRoll }) => {
    const start = a % clips;
    const end = start + 1 + (b % (clips - start));
    return { clips, start, end, preRoll: Math.min(start, preRoll) };
  });

test('upstream finds every clip of the call in its slice, and its video is shorter than the slice', () => {
  fc.assert(
    fc.property(spans, (span) => {
      const slice = sliceOf(span, modelAudioSamples(span.clips));
      const clips = span.end - span.start + span.preRoll;
      const length = slice.taken + slice.silence;
      assert.equal(slice.first, 30_720 * (span.start - span.preRoll));
      assert.ok(slice.taken > 0 && slice.silence < CLIP_SAMPLES + MARGIN_SAMPLES);
      assert.ok(upstreamClipCount(length) >= clips);
      assert.ok(framesForSamples(length, 16_000) >= 48 * clips);
    }),
  );
});

test('a slice holds the samples of its clips and two seconds of what follows', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'slice-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  // Each sample tells its place.
  const source = await writeWav(
    directory,
    10 * 1.92,
    (time) => ((Math.round(time * 16_000) % 30_011) - 15_000) / 32_767,
  );
  const samples = (file: Buffer): Int16Array => {
    const layout = wavLayout(file, file.length);
    return Int16Array.from({ length: layout.samples }, (_, i) => file.readInt16LE(layout.offset + 2 * i));
  };
  const whole = samples(await readFile(source));
  const middle = join(directory, 'middle.wav');
  await writeSlice(source, { start: 3, end: 5, preRoll: 1 }, middle);
  assert.deepEqual(samples(await readFile(middle)), whole.slice(2 * CLIP_SAMPLES, 5 * CLIP_SAMPLES + MARGIN_SAMPLES));

  const end = join(directory, 'end.wav');
  await writeSlice(source, { start: 9, end: 10, preRoll: 1 }, end);
  const last = samples(await readFile(end));
  assert.deepEqual(last.slice(0, 2 * CLIP_SAMPLES), whole.slice(8 * CLIP_SAMPLES));
  assert.ok(
    last.length === 2 * CLIP_SAMPLES + MARGIN_SAMPLES && last.slice(2 * CLIP_SAMPLES).every((value) => value === 0),
  );

  await assert.rejects(writeSlice(source, { start: 11, end: 12, preRoll: 1 }, join(directory, 'x.wav')), {
    code: 'invalid_argument',
    field: 'audioPath',
  });
  await (await open(join(directory, 'text.wav'), 'w')).close();
  await assert.rejects(
    writeSlice(join(directory, 'text.wav'), { start: 0, end: 1, preRoll: 0 }, join(directory, 'y.wav')),
    {
      message: /no RIFF WAVE/,
    },
  );
});
