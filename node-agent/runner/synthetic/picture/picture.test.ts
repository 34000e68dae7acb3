import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MouthTrack } from '../speech/mouth-track.ts';
import { stampHeight } from '../stamp.ts';
import { picture } from '../testdata/media.ts';
import { backdropOf } from './backdrop.ts';
import { bannerHeight, drawBanner, timeCode, withoutBanner } from './banner.ts';
import { drawText, textWidth } from './font.ts';
import { type Look, lookOf, tinted } from './look.ts';
import { painterOf } from './painter.ts';
import { poseAt } from './pose.ts';

const PLAIN: Look = { gain: [1, 1, 1], offsetX: 0, offsetY: 0 };

function track(open: number): MouthTrack {
  return { open: new Float32Array(500).fill(open), broad: new Float32Array(500).fill(0.5) };
}

/** Largest difference of two pictures over rows `from` to `to`. */
function difference(a: Uint8Array, b: Uint8Array, width: number, from: number, to: number): number {
  let largest = 0;
  for (let i = from * width * 3; i < to * width * 3; i += 1)
    largest = Math.max(largest, Math.abs((a[i] ?? 0) - (b[i] ?? 0)));
  return largest;
}

test('a backdrop drawn without movement is the picture, and whole pixels of movement are exact', () => {
  const [width, height] = [40, 20];
  const rgb = picture(width, height);
  const backdrop = backdropOf(rgb, width, height, 6);
  const out = new Uint8Array(rgb.length);
  const rows = Float32Array.from({ length: height }, (_, y) => y);
  backdrop.draw(out, new Float32Array(height), rows);
  assert.deepEqual(out, rgb);
  backdrop.draw(
    out,
    new Float32Array(height).fill(3),
    rows.map((y) => y - 2),
  );
  for (let y = 2; y < height; y += 1) {
    for (let x = 3; x < width; x += 1) assert.equal(out[(y * width + x) * 3], rgb[((y - 2) * width + x - 3) * 3]);
  }
});

test('half a pixel of movement lies between the pixels, and any movement stays within the picture', () => {
  const [width, height] = [16, 8];
  const rgb = picture(width, height);
  const backdrop = backdropOf(rgb, width, height, 4);
  const out = new Uint8Array(rgb.length);
  backdrop.draw(
    out,
    new Float32Array(height).fill(-0.5),
    Float32Array.from({ length: height }, (_, y) => y),
  );
  assert.ok(Math.abs((out[15] ?? 0) - ((rgb[15] ?? 0) + (rgb[18] ?? 0)) / 2) <= 1);
  for (const far of [-1000, 1000]) {
    backdrop.draw(out, new Float32Array(height).fill(far), new Float32Array(height).fill(far));
    const row = far < 0 ? 0 : height - 1;
    assert.ok(out.every((value) => rgb.subarray(row * width * 3, (row + 1) * width * 3).includes(value)));
  }
});

test('a span looks a little different from another, less so when anchored, and not at all without drift', () => {
  const deviation = ({ gain, offsetX }: Look): number =>
    Math.max(...gain.map((g) => Math.abs(g - 1))) + Math.abs(offsetX);
  for (let seed = 0; seed < 50; seed += 1) {
    const free = deviation(lookOf(seed, 1, false));
    assert.ok(free > 0 && free < 0.04);
    assert.ok(deviation(lookOf(seed, 1, true)) < 0.4 * free);
    assert.equal(deviation(lookOf(seed, 0, false)), 0);
    assert.deepEqual(lookOf(seed, 1, false), lookOf(seed, 1, false));
    assert.notDeepEqual(lookOf(seed, 1, false), lookOf(seed + 1, 1, false));
  }
});

test('a gain multiplies and stays within a byte', () => {
  const rgb = Uint8Array.of(0, 100, 250, 10, 255, 1);
  assert.deepEqual([...tinted(rgb, { ...PLAIN, gain: [2, 1.5, 1.1] })], [0, 150, 255, 20, 255, 1]);
});

test('a model call starts from the reference as it is and then moves the same in every span of a job', () => {
  const loud = track(1);
  const look = lookOf(9, 1, false);
  const first = poseAt(960, 0, 420, loud, look);
  assert.deepEqual(
    [first.headX, first.headY, first.breath, first.mouthOpen, first.lids].map(Math.abs),
    [0, 0, 0, 0, 0],
  );
  const settled = poseAt(200, 96, 420, loud, PLAIN);
  assert.deepEqual(settled, poseAt(200, 200, 420, loud, PLAIN));
  assert.equal(settled.mouthOpen, 1);
  const drifted = poseAt(200, 96, 420, loud, look);
  assert.ok(Math.abs(drifted.headX - settled.headX - look.offsetX) < 1e-9);
});

test('the eyes blink every few seconds', () => {
  const closed = Array.from({ length: 500 }, (_, frame) => poseAt(frame, 100, 7, track(0), PLAIN).lids === 1);
  const blinks = closed.filter((now, i) => now && closed[i - 1] !== true).length;
  assert.ok(blinks >= 4 && blinks <= 6, `${blinks} blinks in 20 s`);
});

for (const [width, height] of [
  [640, 384],
  [384, 256],
  [256, 256],
  [192, 448],
] as const) {
  test(`the mouth follows the speech, and the banner stays as it is, at ${width}x${height}`, () => {
    const scene = { width, height, reference: picture(width, height), look: PLAIN, baseSeed: 1 };
    const stamp = { job: 1, frame: 20, clip: 0, span: 0, seed: 1 };
    const [silent, speaking] = [0, 0.9].map((open) => {
      const rgb = new Uint8Array(width * height * 3);
      // Frame 6 of a call: the lips are free already, the head hardly moves.
      painterOf({ ...scene, track: track(open) })(rgb, stamp, 6);
      return rgb;
    });
    assert.ok(silent && speaking);
    const mouthRow = Math.round(0.66 * height);
    assert.ok(difference(silent, speaking, width, mouthRow, mouthRow + 8) > 60);
    assert.ok(difference(silent, speaking, width, height - bannerHeight(width), height) === 0);
  });
}

test('a picture that the banner would fill is refused', () => {
  const scene = { width: 64, height: 128, reference: picture(64, 128), look: PLAIN, baseSeed: 1, track: track(0) };
  assert.throws(() => painterOf(scene), {
    code: 'invalid_argument',
    field: 'height',
    message: /^height is 128; at least/,
  });
});

test('the banner of a reference is taken out, the rest of it stays', () => {
  const [width, height] = [384, 256];
  const plain = picture(width, height);
  const stamped = Uint8Array.from(plain);
  drawBanner(stamped, width, height, { job: 1, frame: 2, clip: 3, span: 4, seed: 5 });
  const top = height - bannerHeight(width);
  assert.ok(difference(stamped, plain, width, top, height) > 50);
  const cleaned = withoutBanner(stamped, width, height);
  assert.deepEqual(cleaned, withoutBanner(plain, width, height));
  assert.equal(difference(cleaned, plain, width, 0, top - 4), 0);
});

test('the banner is as high as the stamp where there is room for text beside it', () => {
  assert.equal(bannerHeight(640), stampHeight(640));
  assert.equal(bannerHeight(384), stampHeight(384));
  assert.ok(bannerHeight(256) > stampHeight(256));
});

test('time codes count hours, minutes, seconds and frames', () => {
  const codes = [0, 24, 25, 25 * 60 - 1, 25 * 3600 * 27 + 25 * 61 + 3].map(timeCode);
  assert.deepEqual(codes, ['00:00:00:00', '00:00:00:24', '00:00:01:00', '00:00:59:24', '27:01:01:03']);
});

test('text is drawn dot by dot', () => {
  const width = textWidth('T1', 1);
  const rgb = new Uint8Array(width * 7 * 3);
  drawText(rgb, width, 'T1', 0, 0, 1, [255, 255, 255]);
  const rows = Array.from({ length: 7 }, (_, y) =>
    Array.from({ length: width }, (_, x) => (rgb[(y * width + x) * 3] === 255 ? '#' : '.')).join(''),
  );
  assert.deepEqual(rows, [
    '#####...#..',
    '..#....##..',
    '..#.....#..',
    '..#.....#..',
    '..#.....#..',
    '..#.....#..',
    '..#....###.',
  ]);
});
