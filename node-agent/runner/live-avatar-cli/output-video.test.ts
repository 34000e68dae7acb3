import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { runTool } from '@clipfarm/shared/process';
import { checkVideo, decodeVideo } from './output-video.ts';

const expected = { width: 128, height: 64, frames: 45 };
const { signal } = new AbortController();
let dir: string;

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'output-'));
});
after(() => rm(dir, { recursive: true, force: true }));

/** A video as imageio writes it, with differences. */
async function make(
  name: string,
  change: { size?: string; rate?: number; seconds?: number; more?: string[] } = {},
): Promise<string> {
  const { size = '128x64', rate = 25, seconds = 45 / rate, more = [] } = change;
  const path = join(dir, name);
  const source = `testsrc2=s=${size}:r=${rate}:d=${seconds}`;
  const encoder = ['-vcodec', 'libx264', '-pix_fmt', 'yuv420p', '-crf', '10'];
  await runTool('ffmpeg', ['-y', '-v', 'error', '-f', 'lavfi', '-i', source, ...encoder, ...more, path], {
    timeoutMs: 60_000,
  });
  return path;
}

async function makeSound(): Promise<string> {
  const path = join(dir, 'sound.m4a');
  await runTool('ffmpeg', ['-y', '-v', 'error', '-f', 'lavfi', '-i', 'sine=d=1', '-c:a', 'aac', path], {
    timeoutMs: 60_000,
  });
  return path;
}

const check = (path: string) => checkVideo('ffprobe', path, expected, { signal, timeoutMs: 60_000 });

async function decode(path: string, counts: readonly number[]): Promise<number[]> {
  const sizes: number[] = [];
  for await (const frames of decodeVideo('ffmpeg', path, expected, counts, signal)) sizes.push(frames.length);
  return sizes;
}

test("upstream's video without sound is accepted with a remark", async () => {
  assert.deepEqual(await check(await make('good.mp4')), ['upstream could not add the audio to its video']);
});

test('a video that is not what the call must have made is refused with both', async () => {
  const refuse = async (path: string, message: RegExp) => {
    await assert.rejects(check(path), { errorClass: 'crash', message });
  };
  await refuse(
    await make('size.mp4', { size: '192x64' }),
    /holds h264 192x64 .*; h264 128x64 yuv420p at 25\/1 frames\/s was expected/,
  );
  await refuse(await make('rate.mp4', { rate: 30 }), /at 30\/1 frames\/s/);
  await refuse(await make('short.mp4', { seconds: 1 }), /has 25 frames; 45 were expected/);
  await refuse(await make('long.mp4', { seconds: 2 }), /has 50 frames/);
  await refuse(await make('444.mp4', { more: ['-pix_fmt', 'yuv444p'] }), /yuv444p/);
  await refuse(await makeSound(), /holds 0 video streams; 1 was expected/);
  const cut = join(dir, 'cut.mp4');
  await writeFile(cut, (await readFile(await make('whole.mp4'))).subarray(0, -500));
  await refuse(cut, /can't be read/);
});

test('frames come in the pieces that were asked for, and no more of them', async () => {
  const path = await make('pieces.mp4');
  const frame = 128 * 64 * 3;
  assert.deepEqual(
    await decode(path, [9, 12, 12, 12]),
    [9, 12, 12, 12].map((count) => count * frame),
  );
  assert.deepEqual(await decode(path, [9]), [9 * frame]);
  assert.deepEqual(await decode(path, []), []);
  await assert.rejects(decode(path, [40, 40]), { errorClass: 'crash', message: /can't be decoded to its end/ });
});

/** Where the NAL units of a file as ffmpeg writes it are, their lengths of four bytes included. */
function nalUnits(data: Buffer): { readonly at: number; readonly type: number; readonly bytes: number }[] {
  const media = data.indexOf('mdat');
  const end = media - 4 + data.readUInt32BE(media - 4);
  const units = [];
  for (let at = media + 4; at < end; ) {
    const bytes = data.readUInt32BE(at);
    units.push({ at, type: (data[at + 4] ?? 0) & 0x1f, bytes });
    at += 4 + bytes;
  }
  return units;
}

test('a video that is damaged in its middle is refused', async () => {
  const whole = await readFile(await make('damaged.mp4'));
  const units = nalUnits(whole);
  const slices = units.filter(({ type }) => type === 1);
  const slice = slices[slices.length >> 1];
  const key = units.find(({ type }) => type === 5);
  assert.ok(slice !== undefined && key !== undefined, 'slices of both kinds');
  const damage: Record<string, (data: Buffer) => void> = {
    'a length that leaves the file': (data) => data.fill(0xff, slice.at, slice.at + 4),
    'a slice that says nothing': (data) => data.fill(0, slice.at + 5, slice.at + 4 + slice.bytes),
    // FFmpeg covers this up, and says so, unless it is told to explode.
    'a key frame with a hole': (data) =>
      data.fill(0, key.at + 4 + Math.floor(key.bytes / 3), key.at + 4 + Math.floor((2 * key.bytes) / 3)),
  };
  for (const [name, change] of Object.entries(damage)) {
    const path = join(dir, 'damaged.mp4');
    const data = Buffer.from(whole);
    change(data);
    await writeFile(path, data);
    await assert.rejects(decode(path, [9, 12, 12, 12]), { errorClass: 'crash' }, name);
  }
});

test('decoding ends at once when it is cancelled', async () => {
  const cancel = new AbortController();
  const pieces = decodeVideo('ffmpeg', await make('cancel.mp4'), expected, [9, 12, 12, 12], cancel.signal);
  await pieces.next();
  cancel.abort();
  await assert.rejects(async () => {
    for (;;) if ((await pieces.next()).done) return;
  });
});
