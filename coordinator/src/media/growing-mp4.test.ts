import assert from 'node:assert/strict';
import { access, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { hashFile } from '@clipfarm/shared/hash-file';
import { inspectChunk } from '@clipfarm/shared/media/chunk';
import { type Ffmpeg, findFfmpeg } from '@clipfarm/shared/media/ffmpeg';
import { readMp4 } from '@clipfarm/shared/media/mp4-read';
import { runTool } from '@clipfarm/shared/process';
import { encodeDeliveryAudio } from './delivery-audio.ts';
import { GrowingMp4, type GrowingMp4Options } from './growing-mp4.ts';
import { frameHashes, makeChunk, makeChunks, makeSound } from './media-fixtures.ts';
import { verifyVideo } from './verify-video.ts';

/** Generous: other work may have most of the machine. */
const timeoutMs = 60_000;

const size = { width: 64, height: 64, frames: 113 };
const clips = 3;
const audioSamples = 113 * 1920 + 700;

let ffmpeg: Ffmpeg;
let dir: string;
let chunks: readonly string[];
let wav: string;
let m4a: string;
let chunkFrames: readonly string[];

before(async () => {
  ffmpeg = await findFfmpeg();
  dir = await mkdtemp(join(tmpdir(), 'clipfarm-growing-'));
  chunks = await makeChunks(ffmpeg, dir, size);
  const sound = { seconds: audioSamples / 48_000, sampleRate: 48_000, channels: 2 };
  wav = await makeSound(ffmpeg, join(dir, 'sound.wav'), sound);
  m4a = join(dir, 'sound.m4a');
  await encodeDeliveryAudio(ffmpeg, wav, { frames: size.frames, out: m4a });
  chunkFrames = (await Promise.all(chunks.map((chunk) => frameHashes(ffmpeg, chunk)))).flat();
});

after(() => rm(dir, { recursive: true, force: true }));

let files = 0;

async function begin(change: Partial<GrowingMp4Options> = {}): Promise<{ video: GrowingMp4; path: string }> {
  const path = join(dir, `video-${files++}.mp4`);
  const { width, height, frames: totalFrames } = size;
  const audio = Promise.resolve(m4a);
  return { video: await GrowingMp4.create({ path, width, height, totalFrames, clips, audio, ...change }), path };
}

const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

async function decodedSound(path: string): Promise<Buffer> {
  const argv = ['-v', 'error', '-xerror', '-i', path, '-map', '0:a:0', '-f', 's16le', '-'];
  return (await runTool(ffmpeg.ffmpeg, argv, { timeoutMs })).stdout;
}

/** Appends a chunk that is what it is expected to be. */
async function append(video: GrowingMp4, chunk: string): Promise<void> {
  await video.append(chunk, await hashFile(chunk));
}

async function appendAll(video: GrowingMp4): Promise<void> {
  for (const chunk of chunks) await append(video, chunk);
}

test('the video holds exactly the frames of its chunks and exactly the sound', async () => {
  const { video, path } = await begin();
  await appendAll(video);
  const finished = await video.finish();
  assert.equal(finished.path, path);
  assert.equal(finished.bytes, (await readFile(path)).length);
  assert.equal(await isThere(`${path}.part`), false);

  assert.equal(chunkFrames.length, 113);
  assert.equal(new Set(chunkFrames).size, 113, 'every frame differs, so a swap would be seen');
  assert.deepEqual(await frameHashes(ffmpeg, path), chunkFrames);
  const sound = await decodedSound(path);
  assert.deepEqual(sound, await decodedSound(m4a));
  // FFmpeg plays the last packet to its end, padding included.
  const padding = sound.length / 4 - audioSamples;
  assert.ok(padding >= 0 && padding < 1024, `${padding}`);

  const { checks, audioSeconds } = await verifyVideo(ffmpeg, path, { ...size, audioSamples });
  assert.deepEqual(
    checks.filter((check) => !check.ok),
    [],
  );
  assert.ok(checks.length >= 10);
  assert.equal(audioSeconds, audioSamples / 48_000);
});

test('every frame is shown at its time, by the words of ffprobe', async () => {
  const { video, path } = await begin();
  await appendAll(video);
  await video.finish();
  const argv = ['-v', 'error', '-show_entries', 'packet=pts,dts,flags', '-select_streams', 'v', '-of', 'csv=p=0', path];
  const { stdout } = await runTool(ffmpeg.ffprobe, argv, { timeoutMs });
  const packets = stdout
    .toString()
    .trim()
    .split('\n')
    .map((line) => line.split(','));
  assert.deepEqual(
    packets.map(([pts]) => Number(pts)),
    Array.from({ length: 113 }, (_, i) => i * 512),
  );
  assert.deepEqual(
    packets.map(([, dts]) => Number(dts)),
    Array.from({ length: 113 }, (_, i) => i * 512),
  );
  const keys = packets.flatMap(([, , flags], i) => (flags?.startsWith('K') ? [i] : []));
  assert.deepEqual(keys, [0, 48, 96]);
});

test('the same chunks and audio give the same bytes', async () => {
  const early = await begin();
  await appendAll(early.video);
  await early.video.finish();
  const again = await begin();
  await appendAll(again.video);
  await again.video.finish();
  assert.deepEqual(await readFile(early.path), await readFile(again.path));
});

test('the sound of a clip stands beside its frames in the file', async () => {
  const { video, path } = await begin();
  await appendAll(video);
  await video.finish();
  const { movie } = await readMp4(path, 1_000_000);
  const [frames, packets] = movie.tracks.map((track) => track.samples);
  assert.ok(frames && packets);
  for (let packet = 0; packet < packets.count; packet++) {
    // The packet's sound begins at this time; its frame may be the last one, because the sound is a little longer.
    const frame = Math.min(112, Math.floor((Math.max(0, packet * 1024 - 1024) * 25) / 48_000));
    const distance = Math.abs((packets.offsets[packet] ?? 0) - (frames.offsets[frame] ?? 0));
    assert.ok(distance < 60_000, `packet ${packet} is ${distance} bytes from frame ${frame}`);
  }
});

test('audio that comes after the last clip is still complete', async () => {
  const arrival = Promise.withResolvers<string>();
  const { video, path } = await begin({ audio: arrival.promise });
  await appendAll(video);
  const finishing = video.finish();
  arrival.resolve(m4a);
  await finishing;
  assert.deepEqual(await decodedSound(path), await decodedSound(m4a));
  assert.deepEqual(await frameHashes(ffmpeg, path), chunkFrames);
  const { checks } = await verifyVideo(ffmpeg, path, { ...size, audioSamples });
  assert.deepEqual(
    checks.filter((check) => !check.ok),
    [],
  );
});

test('mono sound, and a video that is cut before the sound ends', async () => {
  const mono = await makeSound(ffmpeg, join(dir, 'mono.wav'), { seconds: 9, sampleRate: 48_000, channels: 1 });
  const out = join(dir, 'mono.m4a');
  await encodeDeliveryAudio(ffmpeg, mono, { frames: 96, out });
  const { video, path } = await begin({ totalFrames: 96, clips: 2, audio: Promise.resolve(out) });
  await append(video, chunks[0] ?? '');
  await append(video, chunks[1] ?? '');
  await video.finish();
  assert.equal((await decodedSound(path)).length, 96 * 1920 * 2, '180 packets of 1024 samples');
  const { checks } = await verifyVideo(ffmpeg, path, { ...size, frames: 96, audioSamples: 9 * 48_000 });
  assert.deepEqual(
    checks.filter((check) => !check.ok),
    [],
  );
});

test('a video of one frame', async () => {
  const short = await makeSound(ffmpeg, join(dir, 'short.wav'), { seconds: 0.03, sampleRate: 48_000, channels: 1 });
  const out = join(dir, 'short.m4a');
  await encodeDeliveryAudio(ffmpeg, short, { frames: 1, out });
  const chunk = await makeChunk(ffmpeg, join(dir, 'one.mp4'), { ...size, frames: 1 });
  const { video, path } = await begin({ totalFrames: 1, clips: 1, audio: Promise.resolve(out) });
  await append(video, chunk);
  await video.finish();
  const { checks } = await verifyVideo(ffmpeg, path, { ...size, frames: 1, audioSamples: 1440 });
  assert.deepEqual(
    checks.filter((check) => !check.ok),
    [],
  );
});

test('a chunk that does not fit is refused, and the right one can still be appended', async () => {
  const { video, path } = await begin();
  const [first = '', second = '', third = ''] = chunks;
  await append(video, first);
  await assert.rejects(append(video, third), { field: 'chunk', message: 'the chunk has 17 frames instead of 48' });
  const large = await makeChunk(ffmpeg, join(dir, 'large.mp4'), { width: 128, height: 64, frames: 48 });
  await assert.rejects(append(video, large), {
    field: 'chunk',
    message: 'the chunk is 128x64 pixels instead of 64x64',
  });
  const cut = join(dir, 'cut.mp4');
  await writeFile(cut, (await readFile(second)).subarray(0, -100));
  await assert.rejects(append(video, cut), { code: 'invalid_argument' });
  const other = join(dir, 'other.mp4');
  const recode = [
    '-v',
    'error',
    '-y',
    '-i',
    second,
    '-c:v',
    'libx264',
    '-bf',
    '0',
    '-crf',
    '30',
    '-video_track_timescale',
    '12800',
  ];
  await runTool(ffmpeg.ffmpeg, [...recode, other], { timeoutMs });
  await assert.rejects(append(video, other), {
    field: 'chunk',
    message: /has the stream header [0-9a-f]{64} instead of/,
  });
  await append(video, second);
  await append(video, third);
  await assert.rejects(append(video, third), {
    code: 'failed_precondition',
    message: 'all 3 clips are appended already',
  });
  await video.finish();
  assert.deepEqual(await frameHashes(ffmpeg, path), chunkFrames);
});

test('a chunk whose bytes changed on the disk is refused, although every frame of it still has its place', async () => {
  const { video } = await begin();
  const [path = ''] = chunks;
  const rotten = join(dir, 'rotten.mp4');
  const bytes = await readFile(path);
  const { payload } = await inspectChunk(path);
  const at = payload.offset + payload.bytes - 20;
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
  await writeFile(rotten, bytes);
  await inspectChunk(rotten);
  await assert.rejects(video.append(rotten, await hashFile(path)), {
    code: 'invalid_argument',
    message: /the chunk has the SHA-256 [0-9a-f]{64} instead of [0-9a-f]{64}/,
  });
  await video.close();
});

test('finishing needs every clip', async () => {
  const { video, path } = await begin();
  await assert.rejects(video.finish(), { code: 'failed_precondition', message: 'only 0 of 3 clips are appended' });
  await append(video, chunks[0] ?? '');
  await assert.rejects(video.finish(), { code: 'failed_precondition', message: 'only 1 of 3 clips are appended' });
  await video.close();
  assert.equal(await isThere(path), false);
  assert.equal(await isThere(`${path}.part`), false);
  await assert.rejects(append(video, chunks[1] ?? ''), { code: 'failed_precondition', message: /it is closed/ });
});

test('a finished file stays when it is closed', async () => {
  const { video, path } = await begin();
  await appendAll(video);
  await video.finish();
  await video.close();
  assert.equal(await isThere(path), true);
  await assert.rejects(video.finish(), { code: 'failed_precondition', message: /it is finished/ });
});

test('two calls at a time are refused', async () => {
  const { video } = await begin();
  const [path = ''] = chunks;
  const sha256 = await hashFile(path);
  const first = video.append(path, sha256);
  await assert.rejects(video.append(path, sha256), { code: 'failed_precondition', message: /another call/ });
  await first;
  await video.close();
});

test('the beginning can be read at any time, with exactly its frames and their sound, and the whole stays right', async () => {
  const { video, path } = await begin();
  const whole = await decodedSound(m4a);
  await assert.rejects(video.prefix(), { code: 'failed_precondition', message: /no clip/ });
  for (const [index, chunk] of chunks.entries()) {
    await append(video, chunk);
    const frames = Math.min(size.frames, (index + 1) * 48);
    await using prefix = await video.prefix();
    assert.deepEqual([prefix.clips, prefix.frames], [index + 1, frames]);
    const out = join(dir, `prefix-${index}.mp4`);
    await writeFile(out, prefix.pieces());
    assert.equal((await readFile(out)).length, prefix.bytes);
    assert.deepEqual(await frameHashes(ffmpeg, out), chunkFrames.slice(0, frames));
    const all = frames === size.frames;
    const expected = { ...size, frames, audioSamples: all ? audioSamples : frames * 1920 };
    const { checks } = await verifyVideo(ffmpeg, out, expected);
    assert.deepEqual(
      checks.filter((check) => !check.ok),
      [],
    );
    const sound = await decodedSound(out);
    assert.ok(sound.length >= frames * 1920 * 4);
    assert.deepEqual(sound.subarray(0, frames * 1920 * 4), whole.subarray(0, frames * 1920 * 4));
  }
  await video.finish();
  assert.deepEqual(await frameHashes(ffmpeg, path), chunkFrames);
  assert.deepEqual(await decodedSound(path), whole);
});

test('a beginning that is read while the video grows and is finished stays the same', async () => {
  const { video } = await begin();
  await append(video, chunks[0] ?? assert.fail());
  await using prefix = await video.prefix();
  await using other = await video.prefix();
  const before = Buffer.concat(await Array.fromAsync(other.pieces()));
  for (const chunk of chunks.slice(1)) await append(video, chunk);
  await video.finish();
  assert.deepEqual(Buffer.concat(await Array.fromAsync(prefix.pieces())), before);
});

test('a beginning needs its sound; sound that comes after the clips is put there for it', async () => {
  const audio = Promise.withResolvers<string>();
  const { video } = await begin({ audio: audio.promise });
  await append(video, chunks[0] ?? assert.fail());
  await assert.rejects(video.prefix(), { code: 'failed_precondition', message: /sound is still being encoded/ });
  audio.resolve(m4a);
  await audio.promise;
  await using prefix = await video.prefix();
  const out = join(dir, 'late.mp4');
  await writeFile(out, prefix.pieces());
  const { checks } = await verifyVideo(ffmpeg, out, { ...size, frames: 48, audioSamples: 48 * 1920 });
  assert.deepEqual(
    checks.filter((check) => !check.ok),
    [],
  );
  await video.close();
});

test('audio that fails is reported by the next call', async () => {
  const { video } = await begin({ audio: Promise.reject(new Error('encoder is gone')) });
  await assert.rejects(appendAll(video), { message: /encoder is gone/ });
  await video.close();
});

test('audio of another length is refused', async () => {
  const sound = await makeSound(ffmpeg, join(dir, 'long.wav'), { seconds: 9, sampleRate: 48_000, channels: 1 });
  const out = join(dir, 'long.m4a');
  await encodeDeliveryAudio(ffmpeg, sound, { frames: 225, out });
  const { video } = await begin({ audio: Promise.resolve(out) });
  await assert.rejects(
    async () => {
      await appendAll(video);
      await video.finish();
    },
    { code: 'internal', message: 'the delivery audio has 432000 samples, the video needs about 216960' },
  );
  await video.close();
});

test('frames that do not fill the clips are refused at once', async () => {
  await assert.rejects(begin({ totalFrames: 145 }), { message: '145 frames do not fill 3 clips' });
});

test('verification finds what is wrong', async () => {
  const { video, path } = await begin();
  await appendAll(video);
  await video.finish();
  const failing = async (file: string, change = {}): Promise<readonly string[]> => {
    const { checks } = await verifyVideo(ffmpeg, file, { ...size, audioSamples, ...change });
    return checks.filter((check) => !check.ok).map((check) => check.name);
  };
  assert.deepEqual(await failing(path, { width: 128 }), ['picture size']);
  const counted = await failing(path, { frames: 112 });
  assert.deepEqual(counted, [
    'every frame lasts 1/25 s',
    'sound is as long as the original and the picture, to half a frame',
    'frames counted in the file',
  ]);

  const damaged = join(dir, 'damaged.mp4');
  const data = await readFile(path);
  await writeFile(damaged, data.subarray(0, -500));
  assert.ok((await failing(damaged)).includes('whole file'));
  const zeroed = Buffer.from(data);
  zeroed.fill(0, data.length - 4000, data.length - 2000);
  await writeFile(damaged, zeroed);
  assert.ok((await failing(damaged)).includes('decodes at beginning, middle and end'));
  await writeFile(damaged, 'nothing');
  assert.ok((await failing(damaged)).includes('readable for players'));

  const remuxed = join(dir, 'moov-last.mp4');
  await runTool(ffmpeg.ffmpeg, ['-v', 'error', '-i', path, '-c', 'copy', remuxed], { timeoutMs });
  assert.ok((await failing(remuxed)).includes('playable while it downloads'));
});
