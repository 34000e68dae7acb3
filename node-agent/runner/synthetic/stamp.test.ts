import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { clipEncoderArgs, LOCAL_ONLY, QUIET } from '@clipfarm/shared/media/encode';
import { runTool } from '@clipfarm/shared/process';
import fc from 'fast-check';
import { jobHash, readStamp, type Stamp, stampHeight, stampWidth, writeStamp } from './stamp.ts';

const timeoutMs = 60_000;

const stamps: fc.Arbitrary<Stamp> = fc.record({
  job: fc.nat(0xffff),
  frame: fc.nat(0xffffff),
  clip: fc.nat(0xffff),
  span: fc.nat(0xffff),
  seed: fc.nat(0xffffffff),
});

function lumaOf(rgb: Uint8Array): Uint8Array {
  return Uint8Array.from({ length: rgb.length / 3 }, (_, i) => {
    return 0.2126 * (rgb[3 * i] ?? 0) + 0.7152 * (rgb[3 * i + 1] ?? 0) + 0.0722 * (rgb[3 * i + 2] ?? 0);
  });
}

test('a stamp reads back as it was written, at any width', () => {
  fc.assert(
    fc.property(stamps, fc.integer({ min: 32, max: 400 }), (stamp, width) => {
      const height = stampHeight(width) + 3;
      const rgb = new Uint8Array(width * height * 3).fill(120);
      writeStamp(rgb, width, height, stamp);
      assert.deepEqual(readStamp(lumaOf(rgb), width, height), { ...stamp });
    }),
  );
});

test('the strip has at most 32 cells of 8 pixels in a row', () => {
  assert.deepEqual([192, 256, 640].map(stampWidth), [192, 256, 256]);
  assert.deepEqual([192, 256, 640].map(stampHeight), [48, 40, 40]);
});

test('any single damaged cell of the checked part is noticed', () => {
  const [width, height] = [256, 40];
  const rgb = new Uint8Array(width * height * 3);
  writeStamp(rgb, width, height, { job: 1, frame: 2, clip: 3, span: 4, seed: 5 });
  for (let cell = 0; cell < 144; cell += 1) {
    const luma = lumaOf(rgb);
    const [x, y] = [(cell % 32) * 8, Math.floor(cell / 32) * 8];
    for (let row = y; row < y + 8; row += 1) {
      for (let column = x; column < x + 8; column += 1)
        luma[row * width + column] = 255 - (luma[row * width + column] ?? 0);
    }
    const read = readStamp(luma, width, height);
    if (cell < 120) assert.equal(read, null, `cell ${cell}`);
    else assert.deepEqual(read, { job: 1, frame: 2, clip: 3, span: null, seed: 5 }, `cell ${cell}`);
  }
});

test('a blend of two spans still tells the frame, at any mixture', () => {
  const [width, height] = [256, 48];
  const [one, other] = [11, 12].map((span) => {
    const rgb = new Uint8Array(width * height * 3);
    writeStamp(rgb, width, height, { job: 7, frame: 4711, clip: 98, span, seed: 518 });
    return lumaOf(rgb);
  });
  for (let mix = 0; mix <= 1; mix += 1 / 16) {
    const blend = Uint8Array.from(one ?? [], (value, i) => value * (1 - mix) + (other?.[i] ?? 0) * mix);
    const read = readStamp(blend, width, height);
    assert.equal(read?.frame, 4711);
    assert.ok(read?.span === 11 || read?.span === 12 || read?.span === null, `span ${read?.span}`);
  }
});

test('a picture without a stamp reads as null, a picture without room is refused', () => {
  for (const level of [0, 128, 255]) assert.equal(readStamp(new Uint8Array(256 * 64).fill(level), 256, 64), null);
  assert.throws(() => readStamp(new Uint8Array(256 * 39), 256, 39), { code: 'invalid_argument' });
  assert.throws(() => writeStamp(new Uint8Array(10), 256, 64, { job: 0, frame: 0, clip: 0, span: 0, seed: 0 }), {
    code: 'invalid_argument',
  });
});

test('ids of jobs spread over the 16 bits', () => {
  const hashes = new Set(Array.from({ length: 1000 }, (_, i) => jobHash(`job-${i}`)));
  assert.ok(hashes.size > 950);
  assert.ok([...hashes].every((hash) => Number.isInteger(hash) && hash >= 0 && hash <= 0xffff));
});

for (const [width, height] of [
  [256, 256],
  [384, 256],
  [640, 384],
  [192, 448],
] as const) {
  test(`every frame's stamp survives the chunk encoder at ${width}x${height}`, async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'stamp-'));
    t.after(() => rm(directory, { recursive: true, force: true }));
    const frameBytes = width * height * 3;
    const video = Buffer.alloc(frameBytes * 48);
    const expected = Array.from({ length: 48 }, (_, i) => ({
      job: jobHash(`job ${i}`),
      frame: 48 * 700 + i * 131,
      clip: 700 + i,
      span: i % 7,
      seed: (2654435761 * (i + 1)) % 2 ** 32,
    }));
    for (const [i, stamp] of expected.entries()) {
      const rgb = video.subarray(i * frameBytes, (i + 1) * frameBytes);
      for (let at = 0; at < frameBytes; at += 1) rgb[at] = 128 + 100 * Math.sin((at % (width * 3)) / 40 + i / 3);
      writeStamp(rgb, width, height, stamp);
    }
    const output = join(directory, 'clip.mp4');
    await runTool('ffmpeg', clipEncoderArgs({ width, height, output }), { timeoutMs, stdin: video });
    const decode = [...QUIET, ...LOCAL_ONLY, '-i', output, '-f', 'rawvideo', '-pix_fmt', 'gray', 'pipe:1'];
    const gray = (await runTool('ffmpeg', decode, { timeoutMs })).stdout;
    assert.equal(gray.length, width * height * 48);
    const read = expected.map((_, i) =>
      readStamp(gray.subarray(i * width * height, (i + 1) * width * height), width, height),
    );
    assert.deepEqual(read, expected);
  });
}
