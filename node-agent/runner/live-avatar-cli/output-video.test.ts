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

test('a video that is damaged in its middle is refused', async () => {
  const damaged = join(dir, 'damaged.mp4');
  const data = await readFile(await make('sound.mp4'));
  const middle = data.indexOf('mdat') + Math.floor(data.length / 3);
  data.fill(0xff, middle, middle + 400);
  await writeFile(damaged, data);
  await assert.rejects(decode(damaged, [9, 12, 12, 12]), { errorClass: 'crash' });
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
