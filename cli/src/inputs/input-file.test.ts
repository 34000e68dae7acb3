import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, readdirSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { InputKind } from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { mp4, pngHeader, wav, writeSample } from '../testing/media-files.ts';
import { inspectAudio, inspectImage } from './input-file.ts';
import { checkOutput } from './output-file.ts';

test('a portrait and a speech are described by kind, size and hash', async (t) => {
  const dir = temporaryDirectory(t);
  const content = wav(3200);
  const audio = await inspectAudio(writeSample(dir, 'talk.wav', content));
  assert.equal(audio.kind, InputKind.INPUT_KIND_AUDIO);
  assert.equal(audio.bytes, content.length);
  assert.equal(audio.sha256, createHash('sha256').update(content).digest('hex'));
  const image = await inspectImage(writeSample(dir, 'me.png', pngHeader(1280, 720)));
  assert.equal(image.kind, InputKind.INPUT_KIND_IMAGE);
});

test('what is missing, empty, a directory, a pipe or too large is refused with its name and what is accepted', async (t) => {
  const dir = temporaryDirectory(t);
  const large = writeSample(dir, 'large.png', pngHeader(512, 512));
  truncateSync(large, 50_000_001);
  mkdirSync(join(dir, 'folder'));
  execFileSync('mkfifo', [join(dir, 'pipe')]);
  const cases: [path: string, message: RegExp][] = [
    [
      join(dir, 'none.png'),
      /^image: ".*none\.png" does not exist; accepted: a PNG, JPEG or WebP file of at most 50\.0 MB$/,
    ],
    [writeSample(dir, 'empty.png', ''), /is empty/],
    [join(dir, 'folder'), /is a directory/],
    [join(dir, 'pipe'), /is no regular file/],
    [large, /has 50\.0 MB; accepted: .* of at most 50\.0 MB/],
    [join(large, 'x'), /does not exist/],
  ];
  for (const [path, message] of cases) {
    await assert.rejects(inspectImage(path), { code: 'invalid_argument', field: 'image', message });
  }
});

test('a file that may not be read is refused', async (t) => {
  const path = writeSample(temporaryDirectory(t), 'me.png', pngHeader(512, 512));
  chmodSync(path, 0);
  // Root may read everything, so the check is made as nobody.
  const isRoot = process.geteuid?.() === 0;
  if (isRoot) process.seteuid?.(65_534);
  try {
    await assert.rejects(inspectImage(path), { field: 'image', message: /may not be read by this user/ });
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
});

test('a picture that ends in the middle and a speech without a sample are refused before they are sent', async (t) => {
  const dir = temporaryDirectory(t);
  for (const bytes of [30, 40, 44]) {
    const path = writeSample(dir, `${bytes}.png`, pngHeader(512, 512).subarray(0, bytes));
    await assert.rejects(inspectImage(path), { field: 'image', message: /ends in the middle.*accepted: a PNG/ });
  }
  await inspectImage(writeSample(dir, 'whole.png', pngHeader(512, 512).subarray(0, 45)));
  for (const empty of [wav(0), wav(0).subarray(0, 30), wav(100).subarray(0, 44)]) {
    const path = writeSample(dir, 'empty.wav', empty);
    await assert.rejects(inspectAudio(path), { field: 'audio', message: /holds no sound at all; accepted: a WAV/ });
  }
  const streamed = wav(3200);
  streamed.writeUInt32LE(0xff_ff_ff_ff, 40);
  await inspectAudio(writeSample(dir, 'streamed.wav', streamed));
});

test('files of the wrong kind are refused with a way out', async (t) => {
  const dir = temporaryDirectory(t);
  const sound = writeSample(dir, 'talk.wav', wav(100));
  const picture = writeSample(dir, 'me.png', pngHeader(512, 512));
  const script = writeSample(dir, 'talk.mp3', '#!/bin/sh\n');
  await assert.rejects(inspectImage(sound), {
    message: /is an audio file \(WAV\); accepted: a PNG/,
    hint: /belongs to --audio/,
  });
  await assert.rejects(inspectAudio(picture), {
    message: /is an image file \(PNG\); accepted: a WAV/,
    hint: /belongs to --image/,
  });
  await assert.rejects(inspectAudio(script), { message: /is of no known media format/, hint: /ffmpeg -i/ });
  await assert.rejects(inspectImage(writeSample(dir, 'me.gif', 'GIF89a....')), { hint: /portrait\.png/ });
});

test('an MP4 counts as audio exactly when it has no video track', async (t) => {
  const dir = temporaryDirectory(t);
  const check = (name: string, content: Buffer) => inspectAudio(writeSample(dir, name, content));
  await check('a.m4a', mp4('M4A ', ['soun']));
  await check('b.m4a', mp4('isom', ['soun']));
  await assert.rejects(check('c.mp4', mp4('isom', ['vide', 'soun'])), {
    message: /is a video file \(MP4\)/,
    hint: /-vn/,
  });
  await assert.rejects(check('d.m4a', mp4('M4A ', ['soun', 'vide'])), { message: /is a video/ });
  await assert.rejects(check('e.mp4', mp4('isom', ['soun']).subarray(0, 100)), { message: /is a video/ });
  await check('f.m4a', mp4('M4A ', ['soun']).subarray(0, 100));
});

test('dimensions that the model cannot take are refused', async (t) => {
  const dir = temporaryDirectory(t);
  const check = (width: number, height: number) =>
    inspectImage(writeSample(dir, `${width}x${height}.png`, pngHeader(width, height)));
  await assert.rejects(check(100, 100), { field: 'image', message: /image is 100x100 pixels; accepted: / });
  await assert.rejects(check(3000, 300), { field: 'image', message: /aspect/ });
  await assert.rejects(inspectImage(writeSample(dir, 'cut.png', pngHeader(512, 512).subarray(0, 12))), {
    field: 'image',
    message: /dimensions of .* can't be read/,
  });
});

test('an output must be new, in a directory that exists, unless it is to be replaced', async (t) => {
  const dir = temporaryDirectory(t);
  const existing = writeSample(dir, 'out.mp4', 'x');
  await checkOutput(join(dir, 'new.mp4'), false);
  await checkOutput(existing, true);
  await assert.rejects(checkOutput(existing, false), { field: 'output', message: /exists/, hint: /--force/ });
  await assert.rejects(checkOutput(join(dir, 'no', 'out.mp4'), true), { message: /no directory/, hint: /mkdir -p/ });
  await assert.rejects(checkOutput(dir, true), { message: /no regular file/ });
  for (const path of ['', `${join(dir, 'new')}/`]) {
    await assert.rejects(checkOutput(path, false), { message: /names no file; accepted: / });
  }
  await assert.rejects(checkOutput(join(dir, 'x'.repeat(300)), false), { message: /can't be made \(ENAMETOOLONG/ });
  assert.deepEqual(readdirSync(dir), ['out.mp4'], 'a check leaves nothing behind');
});
