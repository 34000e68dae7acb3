import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, before, test } from 'node:test';
import { FarmError } from '@clipfarm/shared/errors';
import { type Ffmpeg, findFfmpeg } from '@clipfarm/shared/media/ffmpeg';
import { withLimits } from '@clipfarm/shared/media/limited';
import { ingestAudio, modelWav } from './ingest.ts';
import { ffmpegOutput, makeSound } from './media-fixtures.ts';
import { readWavInfo } from './wav.ts';

let ffmpeg: Ffmpeg;
let dir: string;

before(async () => {
  ffmpeg = await findFfmpeg();
  dir = await mkdtemp(join(tmpdir(), 'clipfarm-ingest-'));
});

after(() => rm(dir, { recursive: true, force: true }));

const sounds = [
  { name: 'a.wav', seconds: 0.5, sampleRate: 48_000, channels: 1, options: [], exact: true },
  { name: 'b.wav', seconds: 2, sampleRate: 8000, channels: 2, options: ['-c:a', 'pcm_u8'], exact: true },
  { name: 'c.wav', seconds: 1, sampleRate: 96_000, channels: 6, options: ['-c:a', 'pcm_f32le'], exact: true },
  { name: 'a.flac', seconds: 1.3, sampleRate: 44_100, channels: 2, options: [], exact: true },
  { name: 'a.m4a', seconds: 1.5, sampleRate: 44_100, channels: 2, options: ['-c:a', 'aac'], exact: false },
  { name: 'b.m4a', seconds: 3, sampleRate: 8000, channels: 1, options: ['-c:a', 'aac'], exact: false },
  { name: 'a.aac', seconds: 1, sampleRate: 48_000, channels: 2, options: ['-c:a', 'aac', '-f', 'adts'], exact: false },
  { name: 'a.ogg', seconds: 1.2, sampleRate: 48_000, channels: 1, options: ['-c:a', 'libopus'], exact: false },
  { name: 'a.mp3', seconds: 1.1, sampleRate: 44_100, channels: 2, options: ['-c:a', 'libmp3lame'], exact: false },
  {
    name: 'untagged.mp3',
    seconds: 2.5,
    sampleRate: 16_000,
    channels: 1,
    options: ['-c:a', 'libmp3lame', '-write_xing', '0', '-id3v2_version', '0'],
    exact: false,
  },
] as const;

for (const sound of sounds) {
  test(`decodes ${sound.name}: ${sound.channels} channels at ${sound.sampleRate} Hz`, async () => {
    const out = join(dir, `out-${sound.name}`);
    await mkdir(out);
    const path = await makeSound(ffmpeg, join(dir, sound.name), sound, sound.options);
    const audio = await ingestAudio(ffmpeg, path, out);
    assert.equal(audio.channels, sound.channels === 1 ? 1 : 2);
    assert.equal(audio.deliveryWav, join(out, 'delivery.wav'));
    // Formats that don't note the encoder's delay come out longer by it, at most two packets of 1152 at 16 kHz.
    const expected = Math.round(sound.seconds * 48_000);
    assert.ok(audio.samples >= expected && audio.samples - expected <= (sound.exact ? 0 : 8000), `${audio.samples}`);
    const wav = await readWavInfo(audio.deliveryWav);
    assert.deepEqual(wav, { channels: audio.channels, sampleRate: 48_000, samples: audio.samples });
  });
}

test('the same upload is decoded to the same bytes', async () => {
  const path = await makeSound(ffmpeg, join(dir, 'same.mp3'), { seconds: 1, sampleRate: 44_100, channels: 2 });
  await mkdir(join(dir, 'same1'));
  await mkdir(join(dir, 'same2'));
  const first = await ingestAudio(ffmpeg, path, join(dir, 'same1'));
  const second = await ingestAudio(ffmpeg, path, join(dir, 'same2'));
  assert.deepEqual(await readFile(first.deliveryWav), await readFile(second.deliveryWav));
});

test('an album cover is no video', async () => {
  const cover = join(dir, 'cover.png');
  await ffmpegOutput(ffmpeg, ['-f', 'lavfi', '-i', 'color=red:s=32x32', '-frames:v', '1', cover]);
  const options = ['-i', cover, '-map', '0:a', '-map', '1:v', '-c:v', 'mjpeg', '-disposition:v', 'attached_pic'];
  const path = await makeSound(
    ffmpeg,
    join(dir, 'cover.mp3'),
    { seconds: 1, sampleRate: 44_100, channels: 2 },
    options,
  );
  assert.equal((await ingestAudio(ffmpeg, path, dir)).channels, 2);
});

test('a video is refused as audio, and the message says what it holds', async () => {
  const path = join(dir, 'talk.mp4');
  const video = [
    '-f',
    'lavfi',
    '-i',
    'color=red:s=64x32:r=25:d=1',
    '-c:v',
    'libx264',
    '-pix_fmt',
    'yuv420p',
    '-shortest',
  ];
  await makeSound(ffmpeg, path, { seconds: 1, sampleRate: 48_000, channels: 1 }, video);
  await assert.rejects(ingestAudio(ffmpeg, path, dir), {
    code: 'invalid_argument',
    field: 'audio',
    message: 'audio: it holds a video stream (h264, 64x32)',
  });
});

test('a WAV that was written into a pipe is read to its end', async () => {
  const path = await makeSound(ffmpeg, join(dir, 'piped.wav'), { seconds: 1, sampleRate: 48_000, channels: 1 });
  const data = await readFile(path);
  data.writeUInt32LE(0xffffffff, 4);
  data.writeUInt32LE(0xffffffff, data.indexOf('data') + 4);
  await writeFile(path, data);
  assert.equal((await ingestAudio(ffmpeg, path, dir)).samples, 48_000);
});

test('a WAV that is shorter than its header says is refused', async () => {
  const path = await makeSound(ffmpeg, join(dir, 'cut.wav'), { seconds: 1, sampleRate: 48_000, channels: 1 });
  await writeFile(path, (await readFile(path)).subarray(0, 50_000));
  await assert.rejects(ingestAudio(ffmpeg, path, dir), { field: 'audio', message: /can't be decoded to the end/ });
});

test('what is no audio is refused by its first bytes', async () => {
  const path = join(dir, 'notes.wav');
  await writeFile(path, 'just some text');
  await assert.rejects(ingestAudio(ffmpeg, path, dir), {
    code: 'invalid_argument',
    field: 'audio',
    message: 'audio: it begins with 6a75737420736f6d, not like a WAV, FLAC, MP3, M4A, AAC or Ogg file',
  });
  await writeFile(path, '');
  await assert.rejects(ingestAudio(ffmpeg, path, dir), { message: /begins with nothing/ });
});

test('a playlist in disguise opens nothing', async () => {
  const path = join(dir, 'evil.mp3');
  const tag = Buffer.from([0x49, 0x44, 0x33, 4, 0, 0, 0, 0, 0, 0]);
  await writeFile(path, Buffer.concat([tag, Buffer.from('#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n')]));
  await assert.rejects(ingestAudio(ffmpeg, path, dir), { code: 'invalid_argument', field: 'audio' });
});

/** A box of an MP4. */
function box(type: string, ...parts: readonly Buffer[]): Buffer {
  const data = Buffer.concat(parts);
  const head = Buffer.alloc(8);
  head.writeUInt32BE(8 + data.length);
  head.write(type, 4, 'latin1');
  return Buffer.concat([head, data]);
}

/** Numbers of 32 bits; a text is taken as it is. */
function words(...values: readonly (number | string)[]): Buffer {
  return Buffer.concat(
    values.map((value) => (typeof value === 'string' ? Buffer.from(value, 'latin1') : uint32(value))),
  );
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** A track whose tables claim so many samples of two bytes, all in one piece. */
function claimingTrack(id: number, count: number): Buffer {
  const entry = box('ulaw', words(0, 1, 0, 0), Buffer.from([0, 1, 0, 16]), words(0, 48_000 * 65_536));
  const tables = box(
    'stbl',
    box('stsd', words(0, 1), entry),
    box('stts', words(0, 1, count, 1024)),
    box('stsc', words(0, 1, 1, count, 1)),
    box('stsz', words(0, 2, count)),
    box('stco', words(0, 1, 40)),
  );
  const media = box(
    'mdia',
    box('mdhd', words(0, 0, 0, 48_000, count, 0x55c40000)),
    box('hdlr', words(0, 0, 'soun'), Buffer.alloc(13)),
    box('minf', box('smhd', words(0, 0)), tables),
  );
  return box('trak', box('tkhd', words(3, 0, 0, id, 0, count), Buffer.alloc(60)), media);
}

test('a small file whose tables claim very many packets is refused', async () => {
  const path = join(dir, 'tables.m4a');
  const movie = box('moov', box('mvhd', words(0, 0, 0, 48_000, 1), Buffer.alloc(80)), claimingTrack(1, 1_000_000));
  const file = Buffer.concat([box('ftyp', words('M4A ', 0, 'M4A ')), box('mdat', Buffer.alloc(4000)), movie]);
  await writeFile(path, file);
  await assert.rejects(ingestAudio(ffmpeg, path, dir), {
    code: 'invalid_argument',
    field: 'audio',
    message: `audio: its tables tell of 1000000 packets of sound, and it has ${file.length} bytes in all`,
  });
});

/** A BMP of one colour, packed: its header and one run of pixels, which the decoder need not even see to make room. */
function hugeBmp(side: number): Buffer {
  const head = Buffer.alloc(54 + 1024);
  head.write('BM', 'latin1');
  head.writeUInt32LE(head.length + 4, 2);
  for (const [at, value] of [
    [10, head.length],
    [14, 40],
    [18, side],
    [22, side],
    [26, 0x00080001],
    [30, 1],
    [34, 4],
    [46, 256],
  ] as const) {
    head.writeUInt32LE(value, at);
  }
  return Buffer.concat([head, Buffer.from([255, 1, 0, 1])]);
}

/** A frame or a tag of ID3, with its length in digits of seven bits. */
function id3(begin: string, data: Buffer, end = ''): Buffer {
  const digits = [21, 14, 7, 0].map((shift) => (data.length >> shift) & 127);
  return Buffer.concat([Buffer.from(begin, 'latin1'), Buffer.from(digits), Buffer.from(end, 'latin1'), data]);
}

test('an album whose covers are small files of huge pictures is refused before they are unpacked', async () => {
  const path = await makeSound(ffmpeg, join(dir, 'covers.mp3'), { seconds: 1, sampleRate: 44_100, channels: 1 }, [
    '-write_xing',
    '0',
    '-id3v2_version',
    '0',
  ]);
  const covers = Array.from({ length: 8 }, (_, i) => {
    const about = Buffer.concat([Buffer.from('\0image/bmp\0'), Buffer.from([3 + i]), Buffer.from(`${i}\0`)]);
    return id3('APIC', Buffer.concat([about, hugeBmp(16_000)]), '\0\0');
  });
  await writeFile(path, Buffer.concat([id3('ID3\x04\0\0', Buffer.concat(covers)), await readFile(path)]));
  await assert.rejects(ingestAudio(ffmpeg, path, dir), {
    code: 'invalid_argument',
    field: 'audio',
    message: /16000x16000 exceeds/,
  });
});

test('an upload is read under limits', async (t) => {
  const limited = await withLimits(ffmpeg);
  if (limited.prlimit === undefined) return t.skip('prlimit is not here');
  const log = join(dir, 'limits.log');
  const stub = async (program: string) => {
    const path = join(dir, `limited-${basename(program)}`);
    await writeFile(path, `#!/bin/sh\n(ulimit -v; ulimit -t) >>${log}\nexec ${program} "$@"\n`, { mode: 0o755 });
    return path;
  };
  const tools = { ...limited, ffmpeg: await stub(ffmpeg.ffmpeg), ffprobe: await stub(ffmpeg.ffprobe) };
  const path = await makeSound(ffmpeg, join(dir, 'limited.wav'), { seconds: 1, sampleRate: 48_000, channels: 1 });
  assert.equal((await ingestAudio(tools, path, dir)).samples, 48_000);
  assert.equal(await readFile(log, 'utf8'), '1048576\n1800\n'.repeat(2));
});

test('room is asked for by what a file says of its length, and once more when it has more', async () => {
  const sound = { seconds: 5, sampleRate: 48_000, channels: 2 };
  const path = await makeSound(ffmpeg, join(dir, 'length.flac'), sound);
  const asked: number[] = [];
  const room = (bytes: number, work: () => Promise<void>) => {
    asked.push(bytes);
    return work();
  };
  const second = 48_000 * 4;
  assert.equal((await ingestAudio(ffmpeg, path, dir, { room, maxSeconds: 100 })).samples, 240_000);
  assert.deepEqual(asked.splice(0), [8 * second]);
  const data = await readFile(path);
  // The last 32 bits of how many samples it has (RFC 9639, 8.2).
  data.writeUInt32BE(4800, 22);
  await writeFile(path, data);
  assert.equal((await ingestAudio(ffmpeg, path, dir, { room, maxSeconds: 100 })).samples, 240_000);
  assert.deepEqual(asked.splice(0), [3 * second, 101 * second]);
  const refuse = () => Promise.reject(new FarmError('resource_exhausted', 'no room'));
  await assert.rejects(ingestAudio(ffmpeg, path, dir, { room: refuse }), { code: 'resource_exhausted' });
});

test('audio without samples is refused', async () => {
  const path = await makeSound(ffmpeg, join(dir, 'empty.wav'), { seconds: 1, sampleRate: 48_000, channels: 1 });
  const header = (await readFile(path)).subarray(0, 44);
  header.write('data', 36, 'latin1');
  header.writeUInt32LE(0, 40);
  await writeFile(path, header);
  await assert.rejects(ingestAudio(ffmpeg, path, dir), { code: 'invalid_argument', field: 'audio' });
});

test('audio over the limit is refused, audio at the limit is not', async () => {
  const path = await makeSound(ffmpeg, join(dir, 'long.wav'), { seconds: 3, sampleRate: 8000, channels: 1 });
  assert.equal((await ingestAudio(ffmpeg, path, dir, { maxSeconds: 3 })).samples, 144_000);
  await assert.rejects(ingestAudio(ffmpeg, path, dir, { maxSeconds: 2 }), { field: 'audio', message: /longer than/ });
});

for (const [name, options] of [
  ['flac', []],
  ['mp3', []],
  ['m4a', ['-c:a', 'aac']],
  ['ogg', ['-c:a', 'libopus']],
] as const) {
  test(`a damaged ${name} is refused instead of being rendered with a hole`, async () => {
    const sound = { seconds: 5, sampleRate: 44_100, channels: 2 };
    const path = await makeSound(ffmpeg, join(dir, `damaged.${name}`), sound, options);
    const data = await readFile(path);
    const middle = Math.floor(data.length / 2);
    data.fill(0, middle, middle + 1000);
    await writeFile(path, data);
    await assert.rejects(ingestAudio(ffmpeg, path, dir), {
      code: 'invalid_argument',
      message: /can't be decoded to the end/,
    });
  });
}

test("the model's audio is 16 kHz mono, padded to what the clips need", async () => {
  const path = await makeSound(ffmpeg, join(dir, 'model.wav'), { seconds: 1, sampleRate: 48_000, channels: 2 });
  const out = join(dir, 'model-out.wav');
  await modelWav(ffmpeg, path, 100, out);
  assert.deepEqual(await readWavInfo(out), { channels: 1, sampleRate: 16_000, samples: 16_000 });
  await modelWav(ffmpeg, path, 30_720, out);
  assert.deepEqual(await readWavInfo(out), { channels: 1, sampleRate: 16_000, samples: 30_720 });
  const data = await readFile(out);
  assert.ok(
    data.subarray(-2 * 14_000).every((byte) => byte === 0),
    'the padding is silence',
  );
});
