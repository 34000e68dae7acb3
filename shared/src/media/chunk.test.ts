import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { FarmError } from '../errors.ts';
import { runTool } from '../process.ts';
import { type ChunkInfo, checkChunk, inspectChunk, parseChunk } from './chunk.ts';
import { clipEncoderArgs, pngEncoderArgs } from './encode.ts';
import { type Ffmpeg, findFfmpeg } from './ffmpeg.ts';
import { parseMp4 } from './mp4-read.ts';

const width = 64;
const height = 32;
const timeoutMs = 60_000;

let ffmpeg: Ffmpeg;
let dir: string;
let chunkPath: string;
let chunk: Buffer;
let info: ChunkInfo;

before(async () => {
  ffmpeg = await findFfmpeg();
  dir = await mkdtemp(join(tmpdir(), 'clipfarm-chunk-'));
  chunkPath = await encode('chunk.mp4', 48);
  chunk = await readFile(chunkPath);
  info = parseChunk(chunk);
});

after(() => rm(dir, { recursive: true, force: true }));

async function encode(name: string, frames: number, change: (args: readonly string[]) => readonly string[] = (a) => a) {
  const output = join(dir, name);
  const stdin = Buffer.alloc(width * height * 3 * frames).map((_, i) => (i * 7 + (i >> 9)) & 255);
  await runTool(ffmpeg.ffmpeg, change(clipEncoderArgs({ width, height, output })), { stdin, timeoutMs });
  return output;
}

/** Replaces one argument; fails when it is not there. */
const swap = (from: string, to: string) => (args: readonly string[]) => {
  assert.ok(
    args.some((arg) => arg.includes(from)),
    `${from} is not among the arguments`,
  );
  return args.map((arg) => arg.replace(from, to));
};

test('a chunk tells its size, frames, header and where its frames lie', async () => {
  assert.deepEqual(await inspectChunk(chunkPath), info);
  assert.equal(info.bytes, chunk.length);
  assert.deepEqual([info.width, info.height, info.frames], [width, height, 48]);
  assert.match(info.headerHash, /^[0-9a-f]{64}$/);
  assert.equal(info.avcC[1], 100, 'High profile');
  assert.equal(info.sampleSizes.length, 48);
  assert.equal(
    info.sampleSizes.reduce((sum, size) => sum + size, 0),
    info.payload.bytes,
  );
  checkChunk(info, { width, height, frames: 48, headerHash: info.headerHash });
});

test('ffprobe agrees with what is read', async () => {
  const fields = 'stream=width,height,nb_frames,pix_fmt,color_space,color_range,has_b_frames,time_base:packet=size';
  const argv = ['-v', 'error', '-show_entries', fields, '-of', 'json', chunkPath];
  const { stdout } = await runTool(ffmpeg.ffprobe, argv, { timeoutMs });
  const { streams, packets } = JSON.parse(stdout.toString()) as { streams: unknown[]; packets: { size: string }[] };
  assert.deepEqual(streams, [
    {
      width,
      height,
      pix_fmt: 'yuv420p',
      color_range: 'tv',
      color_space: 'bt709',
      has_b_frames: 0,
      time_base: '1/12800',
      nb_frames: '48',
    },
  ]);
  assert.deepEqual(
    packets.map(({ size }) => Number(size)),
    [...info.sampleSizes],
  );
});

test('chunks of other lengths and other pictures have the same stream header', async () => {
  for (const frames of [1, 17, 47]) {
    const other = await inspectChunk(await encode(`length-${frames}.mp4`, frames));
    checkChunk(other, { width, height, frames, headerHash: info.headerHash });
  }
  const quality = await inspectChunk(await encode('quality.mp4', 48, swap('16', '28')));
  assert.equal(quality.headerHash, info.headerHash, 'stitchable makes the header independent of the quality');
});

test('what is expected and not found is named', () => {
  const expected = { width, height, frames: 48 };
  const refuse = (change: Partial<typeof expected> & { headerHash?: string }, message: RegExp) =>
    assert.throws(() => checkChunk(info, { ...expected, ...change }), {
      code: 'invalid_argument',
      field: 'chunk',
      message,
    });
  refuse({ frames: 45 }, /^the chunk has 48 frames instead of 45$/);
  refuse({ width: 128 }, /^the chunk is 64x32 pixels instead of 128x32$/);
  refuse({ height: 64 }, /^the chunk is 64x32 pixels instead of 64x64$/);
  refuse({ headerHash: 'ab'.repeat(32) }, /stream header [0-9a-f]{64} instead of abab/);
});

test('chunks that can not be stitched are refused with the reason', async () => {
  const refuse = async (name: string, message: RegExp, change: (args: readonly string[]) => readonly string[]) => {
    const path = await encode(name, 48, change);
    await assert.rejects(inspectChunk(path), { code: 'invalid_argument', message }, name);
  };
  await refuse('bframes.mp4', /reordered frames/, swap('bframes=0', 'bframes=2'));
  await refuse('timescale.mp4', /25 ticks a second instead of 12800/, swap('12800', '25'));
  await refuse('fragments.mp4', /fragmented/, (args) => [
    ...args.slice(0, -1),
    '-movflags',
    '+frag_keyframe',
    ...args.slice(-1),
  ]);
  await refuse('codec.mp4', /holds "mp4v" instead of H.264/, (args) => {
    const at = args.indexOf('-x264-params');
    return swap('libx264', 'mpeg4')(args.toSpliced(at, 2).filter((arg) => arg !== '-preset' && arg !== 'veryfast'));
  });
  const slow = await encode('rate.mp4', 48, (args) => args.map((arg, i) => (args[i - 1] === '-r' ? '24' : arg)));
  await assert.rejects(inspectChunk(slow), { message: /shows frame 0 for \d+ ticks instead of 512/ });

  const tail = join(dir, 'tail.mp4');
  await runTool(ffmpeg.ffmpeg, ['-v', 'error', '-ss', '0.4', '-i', chunkPath, '-c', 'copy', tail], { timeoutMs });
  await assert.rejects(inspectChunk(tail), { message: /edit list|ticks/ });
  const sound = join(dir, 'sound.mp4');
  const silence = ['-f', 'lavfi', '-i', 'anullsrc=d=1', '-c:v', 'copy', '-c:a', 'aac'];
  await runTool(ffmpeg.ffmpeg, ['-v', 'error', '-i', chunkPath, ...silence, sound], { timeoutMs });
  await assert.rejects(inspectChunk(sound), { message: 'the chunk has 2 tracks instead of one' });
});

test('files that are no MP4 at all are refused', async () => {
  const path = join(dir, 'text.mp4');
  for (const content of ['', 'x', 'this is no video file at all']) {
    await writeFile(path, content);
    await assert.rejects(inspectChunk(path), { code: 'invalid_argument' }, JSON.stringify(content));
  }
  await assert.rejects(inspectChunk(join(dir, 'missing.mp4')), { code: 'ENOENT' });
});

/** Parses and lets nothing but a refusal pass. */
function parseOrRefuse(data: Buffer): ChunkInfo | undefined {
  try {
    return parseChunk(data);
  } catch (error) {
    assert.ok(error instanceof FarmError, String(error));
    assert.equal(error.code, 'invalid_argument');
    return undefined;
  }
}

test('a chunk cut off anywhere is refused', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: chunk.length - 1 }), (length) => {
      assert.equal(parseOrRefuse(chunk.subarray(0, length)), undefined);
    }),
    { numRuns: 500 },
  );
});

test('a chunk with bytes added at the end is refused', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 64 }), (extra) => {
      const parsed = parseOrRefuse(Buffer.concat([chunk, extra]));
      // A whole box may follow; players skip it, and the stitcher copies the frames only.
      if (parsed !== undefined) assert.deepEqual({ ...parsed, bytes: info.bytes }, info);
    }),
    { numRuns: 300 },
  );
});

test('any changed byte outside the frames is found, or changes nothing that is used but the header hash', () => {
  const tables = Array.from({ length: chunk.length }, (_, i) => i).filter(
    (i) => i < info.payload.offset || i >= info.payload.offset + info.payload.bytes,
  );
  for (const at of tables) {
    for (const mask of [0x01, 0x10, 0x80, 0xff]) {
      const damaged = Buffer.from(chunk);
      damaged[at] = (damaged[at] ?? 0) ^ mask;
      const parsed = parseOrRefuse(damaged);
      if (parsed === undefined) continue;
      // Width, height and the hash are compared with what is expected by checkChunk.
      const { headerHash, avcC } = parsed;
      const expected = { ...parsed, width, height, headerHash: info.headerHash, avcC: info.avcC };
      assert.deepEqual(expected, info, `byte ${at} changed by ${mask}`);
      assert.equal(headerHash === info.headerHash, avcC.equals(info.avcC));
    }
  }
});

test('random damage anywhere never does more than a refusal', () => {
  const change = fc.record({ at: fc.nat(), value: fc.integer({ min: 0, max: 255 }) });
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 20 }), fc.boolean(), (changes, tablesOnly) => {
      const damaged = Buffer.from(chunk);
      const first = tablesOnly ? info.payload.offset + info.payload.bytes : 0;
      for (const { at, value } of changes) damaged[first + (at % (damaged.length - first))] = value;
      parseOrRefuse(damaged);
    }),
    { numRuns: 3000 },
  );
});

test('random bytes, and random bytes inside of valid boxes, never do more than a refusal', () => {
  const types = [
    'ftyp',
    'moov',
    'trak',
    'mdia',
    'minf',
    'stbl',
    'stsz',
    'stco',
    'stsc',
    'stts',
    'elst',
    'edts',
    'mdat',
  ];
  const { box } = fc.letrec<{ box: Buffer }>((tie) => ({
    box: fc
      .tuple(
        fc.constantFrom(...types),
        fc.oneof({ depthSize: 'small' }, fc.uint8Array({ maxLength: 40 }), fc.array(tie('box'), { maxLength: 4 })),
      )
      .map(([type, body]) => {
        const content = Array.isArray(body) ? Buffer.concat(body) : Buffer.from(body);
        const head = Buffer.alloc(8);
        head.writeUInt32BE(content.length + 8);
        head.write(type, 4, 'latin1');
        return Buffer.concat([head, content]);
      }),
  }));
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (data) => void parseOrRefuse(Buffer.from(data))));
  fc.assert(
    fc.property(fc.array(box, { maxLength: 4 }), (boxes) => void parseOrRefuse(Buffer.concat(boxes))),
    { numRuns: 2000 },
  );
});

test('a table that claims billions of samples is refused without being expanded', () => {
  const started = process.memoryUsage().arrayBuffers;
  for (const field of ['stsz', 'stts', 'stsc', 'stco', 'stss']) {
    const damaged = Buffer.from(chunk);
    const at = damaged.lastIndexOf(field) + 8;
    damaged.writeUInt32BE(0xffffffff, field === 'stsz' ? at + 4 : at);
    assert.equal(parseOrRefuse(damaged), undefined, field);
  }
  const constant = Buffer.from(chunk);
  const stsz = constant.lastIndexOf('stsz') + 8;
  constant.writeUInt32BE(1, stsz);
  constant.writeUInt32BE(0xffffffff, stsz + 4);
  assert.throws(() => parseMp4(constant, 1_000_000), { message: /has 4294967295 samples/ });
  assert.ok(process.memoryUsage().arrayBuffers - started < 100_000_000);
});

test('a raw frame becomes a PNG with exactly its pixels', async () => {
  const output = join(dir, 'anchor 100%d.png');
  const frame = Buffer.alloc(width * height * 3).map((_, i) => (i * 31) & 255);
  await runTool(ffmpeg.ffmpeg, pngEncoderArgs({ width, height, output }), { stdin: frame, timeoutMs });
  const png = await readFile(output);
  assert.equal(png.toString('latin1', 1, 4), 'PNG');
  const decode = ['-v', 'error', '-f', 'png_pipe', '-i', output, '-f', 'rawvideo', '-pix_fmt', 'rgb24', '-'];
  assert.deepEqual((await runTool(ffmpeg.ffmpeg, decode, { timeoutMs })).stdout, frame);
});

test('colours survive encoding and decoding', async () => {
  const output = join(dir, 'skin.mp4');
  const color = [224, 172, 150];
  const stdin = Buffer.alloc(width * height * 3 * 2).map((_, i) => color[i % 3] ?? 0);
  await runTool(ffmpeg.ffmpeg, clipEncoderArgs({ width, height, output }), { stdin, timeoutMs });
  const decode = ['-v', 'error', '-i', output, '-frames:v', '1', '-vf', 'scale=in_color_matrix=bt709:in_range=tv'];
  const { stdout } = await runTool(ffmpeg.ffmpeg, [...decode, '-f', 'rawvideo', '-pix_fmt', 'rgb24', '-'], {
    timeoutMs,
  });
  const far = stdout.findIndex((value, i) => Math.abs(value - (color[i % 3] ?? 0)) > 3);
  assert.equal(far, -1, `byte ${far} is ${stdout[far]}`);
});
