import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { crc32, deflateSync } from 'node:zlib';
import { type Ffmpeg, findFfmpeg } from '@clipfarm/shared/media/ffmpeg';
import { pictureSize, USABLE_SIZES } from '@clipfarm/shared/model/size';
import { runTool } from '@clipfarm/shared/process';
import fc from 'fast-check';
import { CMYK_JPEG, GRAY_JPEG, TURNED_WEBP } from './image-fixtures.ts';
import { essentialPng, exifOrientation, MAX_PNG_CHUNKS, pngChunks } from './image-metadata.ts';
import { ffmpegOutput } from './media-fixtures.ts';
import { cropOf, prepareReference, probeImage } from './reference.ts';

/** Generous: other work may have most of the machine. */
const timeoutMs = 60_000;

let ffmpeg: Ffmpeg;
let dir: string;

before(async () => {
  ffmpeg = await findFfmpeg();
  dir = await mkdtemp(join(tmpdir(), 'clipfarm-reference-'));
});

after(() => rm(dir, { recursive: true, force: true }));

test('pictures of the three formats are measured', async () => {
  for (const [name, format, codec] of [
    ['p.png', 'png', 'png'],
    ['p.jpg', 'jpeg', 'mjpeg'],
    ['p.webp', 'webp', 'libwebp'],
  ] as const) {
    const path = join(dir, name);
    const source = ['-f', 'lavfi', '-i', 'testsrc2=s=98x62,crop=97:61:exact=1', '-frames:v', '1', '-c:v', codec];
    await ffmpegOutput(ffmpeg, [...source, '-update', '1', path]);
    assert.deepEqual(await probeImage(ffmpeg, path), { format, width: 97, height: 61 });
  }
});

/** EXIF with nothing but an orientation, as the first segment of a JPEG. */
function withOrientation(jpeg: Buffer, orientation: number): Buffer {
  const body = Buffer.concat([Buffer.from('Exif\0\0', 'latin1'), tiff(orientation)]);
  const length = Buffer.from([0xff, 0xe1, 0, body.length + 2]);
  return Buffer.concat([jpeg.subarray(0, 2), length, body, jpeg.subarray(2)]);
}

test('the size of a photo is that of the upright picture', async () => {
  const path = join(dir, 'portrait.jpg');
  await ffmpegOutput(ffmpeg, ['-f', 'lavfi', '-i', 'testsrc2=s=64x32', '-frames:v', '1', '-update', '1', path]);
  await writeFile(path, withOrientation(await readFile(path), 6));
  assert.deepEqual(await probeImage(ffmpeg, path), { format: 'jpeg', width: 32, height: 64 });
});

async function pixels(path: string): Promise<Buffer> {
  const argv = ['-v', 'error', '-i', path, '-f', 'rawvideo', '-pix_fmt', 'rgb24', '-'];
  return (await runTool(ffmpeg.ffmpeg, argv, { timeoutMs })).stdout;
}

test('photos are turned upright by their EXIF orientation', async () => {
  // Red, green, blue, white: the corners of the upright picture, clockwise from the left top.
  const corners = ['ff0000', '00ff00', 'ffffff', '0000ff'];
  // Where each corner of the stored picture belongs, for each orientation (EXIF 2.32, tag 0x0112).
  const turns: Readonly<Record<number, readonly [number, number, number, number]>> = {
    1: [0, 1, 2, 3],
    2: [1, 0, 3, 2],
    3: [3, 2, 1, 0],
    4: [2, 3, 0, 1],
    5: [0, 2, 1, 3],
    6: [1, 3, 0, 2],
    7: [3, 1, 2, 0],
    8: [2, 0, 3, 1],
  };
  for (const [orientation, places] of Object.entries(turns)) {
    const swapped = Number(orientation) >= 5;
    const [w, h] = swapped ? [32, 64] : [64, 32];
    const cells = places.map((place, i) => {
      const color = corners[[0, 1, 3, 2][place] ?? 0];
      return `color=0x${color}:s=${w / 2}x${h / 2}[c${i}]`;
    });
    const graph = `${cells.join(';')};[c0][c1]hstack[t];[c2][c3]hstack[b];[t][b]vstack`;
    const path = join(dir, `exif${orientation}.jpg`);
    const jpeg = ['-frames:v', '1', '-c:v', 'mjpeg', '-q:v', '1', '-update', '1', path];
    await ffmpegOutput(ffmpeg, ['-f', 'lavfi', '-i', graph, '-pix_fmt', 'yuvj444p', ...jpeg]);
    await writeFile(path, withOrientation(await readFile(path), Number(orientation)));
    const out = join(dir, 'upright.png');
    await prepareReference(ffmpeg, path, { width: 64, height: 32 }, out);
    const rgb = await pixels(out);
    const at = (x: number, y: number) => [...rgb.subarray((y * 64 + x) * 3, (y * 64 + x) * 3 + 3)].map((v) => v > 127);
    const found = [at(8, 8), at(56, 8), at(56, 24), at(8, 24)];
    const wanted = [
      [true, false, false],
      [false, true, false],
      [true, true, true],
      [false, false, true],
    ];
    assert.deepEqual(found, wanted, `orientation ${orientation}`);
  }
});

test('the reference is cut from its middle, scaled exactly, and the same each time', async () => {
  const path = join(dir, 'wide.png');
  // Black with a red field of a third of the width in the middle: a square cut keeps exactly the red.
  const graph = 'color=black:s=90x30,drawbox=x=30:y=0:w=30:h=30:color=red:t=fill,format=rgba';
  await ffmpegOutput(ffmpeg, ['-f', 'lavfi', '-i', graph, '-frames:v', '1', '-update', '1', path]);
  const [first, second] = [join(dir, 'ref1.png'), join(dir, 'ref2.png')];
  await prepareReference(ffmpeg, path, { width: 128, height: 128 }, first);
  await prepareReference(ffmpeg, path, { width: 128, height: 128 }, second);
  assert.deepEqual(await readFile(first), await readFile(second));
  assert.deepEqual(await probeImage(ffmpeg, first), { format: 'png', width: 128, height: 128 });
  const png = await readFile(first);
  assert.deepEqual([png[24], png[25]], [8, 2], '8 bits, RGB without alpha');
  const rgb = await pixels(first);
  assert.equal(rgb.length, 128 * 128 * 3);
  assert.ok(rgb.every((value, i) => (i % 3 === 0 ? value > 240 : value < 15)));
});

test('pictures that can not be used are refused with the reason', async () => {
  const path = join(dir, 'bad.png');
  const refuse = (message: RegExp) =>
    assert.rejects(probeImage(ffmpeg, path), { code: 'invalid_argument', field: 'image', message });
  await writeFile(path, 'just some text');
  await refuse(/begins with 6a757374/);
  await writeFile(path, '');
  await refuse(/begins with nothing/);

  const good = join(dir, 'good.png');
  await ffmpegOutput(ffmpeg, ['-f', 'lavfi', '-i', 'testsrc2=s=64x64', '-frames:v', '1', '-update', '1', good]);
  const png = await readFile(good);
  await writeFile(path, png.subarray(0, png.length / 2));
  await refuse(/can't be decoded/);
  const bomb = Buffer.from(png);
  bomb.writeUInt32BE(60_000, 16);
  bomb.writeUInt32BE(60_000, 20);
  await writeFile(path, bomb);
  await refuse(/60000x60000 pixels/);

  const jpeg = join(dir, 'good.jpg');
  await ffmpegOutput(ffmpeg, ['-i', good, '-c:v', 'mjpeg', '-update', '1', jpeg]);
  const photo = await readFile(jpeg);
  await writeFile(path, photo.subarray(0, photo.length / 2));
  await refuse(/can't be decoded/);
  await writeFile(path, photo.subarray(0, 30));
  await refuse(/header is damaged/);
});

test('animations are refused', async () => {
  const frames = ['-f', 'lavfi', '-i', 'testsrc2=s=32x32:r=5:d=1'];
  const webp = join(dir, 'moving.webp');
  await ffmpegOutput(ffmpeg, [...frames, '-c:v', 'libwebp_anim', webp]);
  await assert.rejects(probeImage(ffmpeg, webp), { field: 'image', message: /animated/ });
  const apng = join(dir, 'moving.png');
  await ffmpegOutput(ffmpeg, [...frames, '-f', 'apng', apng]);
  await assert.rejects(probeImage(ffmpeg, apng), { field: 'image', message: /animated/ });
});

/** Mean colour of a rectangle of a PNG. */
async function colourOf(path: string, x: number, y: number, width: number, height: number): Promise<number[]> {
  const argv = [
    '-v',
    'error',
    '-i',
    path,
    '-vf',
    `crop=${width}:${height}:${x}:${y}`,
    '-f',
    'rawvideo',
    '-pix_fmt',
    'rgb24',
    '-',
  ];
  const { stdout } = await runTool(ffmpeg.ffmpeg, argv, { timeoutMs });
  const sums = [0, 0, 0];
  for (const [i, value] of stdout.entries()) sums[i % 3] = (sums[i % 3] ?? 0) + value;
  return sums.map((sum) => sum / (stdout.length / 3));
}

function assertColour(found: readonly number[], wanted: readonly number[], tolerance: number, what: string): void {
  assert.ok(
    found.every((value, i) => Math.abs(value - (wanted[i] ?? 0)) <= tolerance),
    `${what}: ${found}`,
  );
}

/** What a prepared reference must be, whatever it was made of. */
async function assertPrepared(path: string, width: number, height: number): Promise<void> {
  const png = await readFile(path);
  assert.deepEqual([png.readUInt32BE(16), png.readUInt32BE(20)], [width, height]);
  assert.deepEqual([png[24], png[25]], [8, 2], '8 bits, RGB without alpha');
  const types = new Set([...pngChunks(png)].map(({ type }) => type));
  assert.deepEqual([...types].filter((type) => type !== 'pHYs').sort(), ['IDAT', 'IEND', 'IHDR'], 'nothing but pixels');
}

const kinds = [
  ['rgb24', 'png', [200, 60, 40]],
  ['rgb48be', 'png', [200, 60, 40]],
  ['rgba64be', 'png', [200, 60, 40]],
  ['pal8', 'png', [200, 60, 40]],
  ['gray', 'png', [100, 100, 100]],
  ['gray16be', 'png', [100, 100, 100]],
  ['ya8', 'png', [100, 100, 100]],
  ['monob', 'png', [255, 255, 255]],
  ['yuvj444p', 'jpg', [200, 60, 40]],
  ['yuv420p', 'webp', [200, 60, 40]],
  ['bgra', 'webp', [200, 60, 40]],
] as const;

for (const [pixels, format, wanted] of kinds) {
  test(`a ${format} of ${pixels} pixels becomes plain RGB of the same colour`, async () => {
    const path = join(dir, `${pixels}.${format}`);
    const codec = { png: 'png', jpg: 'mjpeg', webp: 'libwebp' }[format];
    const colour = pixels === 'monob' ? 'white' : '0xc83c28';
    const source = `color=${colour}:s=96x64,format=rgb24`;
    await ffmpegOutput(ffmpeg, [
      ...['-f', 'lavfi', '-i', source, '-frames:v', '1', '-pix_fmt', pixels],
      ...['-c:v', codec, '-q:v', format === 'webp' ? '100' : '1', '-update', '1', path],
    ]);
    const out = join(dir, `${pixels}-${format}.png`);
    await prepareReference(ffmpeg, path, { width: 128, height: 64 }, out);
    await assertPrepared(out, 128, 64);
    assertColour(await colourOf(out, 0, 0, 128, 64), wanted, 6, pixels);
  });
}

for (const [name, jpeg, wanted] of [
  ['CMYK', CMYK_JPEG, [200, 60, 40]],
  ['grey', GRAY_JPEG, [100, 100, 100]],
] as const) {
  test(`a ${name} photo becomes RGB`, async () => {
    const path = join(dir, `${name}.jpg`);
    await writeFile(path, jpeg);
    const out = join(dir, `${name}.png`);
    await prepareReference(ffmpeg, path, { width: 64, height: 64 }, out);
    await assertPrepared(out, 64, 64);
    assertColour(await colourOf(out, 0, 0, 64, 64), wanted, 6, name);
  });
}

test('transparent parts stand on white, whatever colour is hidden in them, and half of one shines through', async () => {
  for (const [format, codec] of [
    ['png', 'png'],
    ['webp', 'libwebp'],
  ] as const) {
    const path = join(dir, `alpha.${format}`);
    // From left to right: opaque, half and fully transparent red.
    const graph = "color=red:s=192x64,format=rgba,geq=r=255:g=0:b=0:a='if(lt(X,64),255,if(lt(X,128),128,0))'";
    const lossless = format === 'webp' ? ['-lossless', '1', '-pix_fmt', 'bgra'] : [];
    await ffmpegOutput(ffmpeg, [
      '-f',
      'lavfi',
      '-i',
      graph,
      '-frames:v',
      '1',
      '-c:v',
      codec,
      ...lossless,
      '-update',
      '1',
      path,
    ]);
    const out = join(dir, `alpha-${format}.png`);
    await prepareReference(ffmpeg, path, { width: 192, height: 64 }, out);
    await assertPrepared(out, 192, 64);
    assertColour(await colourOf(out, 4, 4, 48, 48), [255, 0, 0], 2, 'opaque');
    assertColour(await colourOf(out, 72, 4, 48, 48), [255, 127, 127], 3, 'half');
    assertColour(await colourOf(out, 136, 4, 48, 48), [255, 255, 255], 2, 'transparent');
  }
});

test('EXIF turns pictures of every format', async () => {
  const webp = join(dir, 'turned.webp');
  await writeFile(webp, TURNED_WEBP);
  assert.deepEqual(await probeImage(ffmpeg, webp), { format: 'webp', width: 32, height: 64 });
  const plain = join(dir, 'plain.png');
  await ffmpegOutput(ffmpeg, ['-f', 'lavfi', '-i', 'testsrc2=s=64x32', '-frames:v', '1', '-update', '1', plain]);
  const png = await readFile(plain);
  const turned = join(dir, 'turned.png');
  await writeFile(turned, withChunk(png, 'eXIf', tiff(6)));
  assert.deepEqual(await probeImage(ffmpeg, turned), { format: 'png', width: 32, height: 64 });
});

test('EXIF in either byte order is read, nonsense is upright', () => {
  const little = Buffer.from([0x49, 0x49, 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 8, 0, 0, 0]);
  assert.equal(exifOrientation(little), 8);
  assert.equal(exifOrientation(Buffer.concat([Buffer.from('Exif\0\0', 'latin1'), tiff(3)])), 3);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
      for (const order of ['II', 'MM']) {
        const data = Buffer.concat([Buffer.from(order, 'latin1'), bytes]);
        assert.ok(Number.isInteger(exifOrientation(data)));
      }
    }),
  );
});

test('what a PNG packs besides its pixels is never unpacked', async () => {
  const path = join(dir, 'bomb.png');
  await ffmpegOutput(ffmpeg, ['-f', 'lavfi', '-i', 'color=red:s=64x64', '-frames:v', '1', '-update', '1', path]);
  const png = await readFile(path);
  // Damaged on purpose: whoever unpacks it complains.
  const packed = deflateSync(Buffer.alloc(1000)).fill(7, 4);
  for (const type of ['zTXt', 'iCCP', 'iTXt']) {
    const bomb = withChunk(png, type, Buffer.concat([Buffer.from('k\0\0', 'latin1'), packed]));
    assert.deepEqual(essentialPng(bomb), essentialPng(png));
    await writeFile(path, bomb);
    assert.deepEqual(await probeImage(ffmpeg, path), { format: 'png', width: 64, height: 64 });
  }
});

test('a PNG of pieces of 8 KiB with text between them keeps its pixels', () => {
  const pieces = Array.from({ length: 6400 }, (_, i) => pngChunk('IDAT', Buffer.from([i & 255, i >> 8])));
  const header = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');
  const text = pngChunk('tEXt', Buffer.from('k\0v'));
  const mixed = pieces.flatMap((piece, i) => (i % 1000 === 0 ? [text, piece, text] : [piece]));
  assert.deepEqual(essentialPng(Buffer.concat([header, ...mixed])), Buffer.concat([header, ...pieces]));
});

test('a PNG of very many chunks is refused, and no more of them are looked at than are allowed', async () => {
  const path = join(dir, 'chunks.png');
  await ffmpegOutput(ffmpeg, ['-f', 'lavfi', '-i', 'color=red:s=64x64', '-frames:v', '1', '-update', '1', path]);
  const small = await readFile(path);
  const png = withChunks(small, Buffer.alloc(12 * 200_000, pngChunk('tEXt', Buffer.alloc(0))));
  let looked = 0;
  const readUInt32BE = png.readUInt32BE.bind(png);
  png.readUInt32BE = (at) => {
    looked += 1;
    return readUInt32BE(at);
  };
  assert.throws(() => essentialPng(png), {
    code: 'invalid_argument',
    field: 'image',
    message: /more than 20000 chunks/,
  });
  assert.equal(looked, MAX_PNG_CHUNKS);
  await writeFile(path, png);
  await assert.rejects(probeImage(ffmpeg, path), { code: 'invalid_argument', message: /more than 20000 chunks/ });
  // Behind its pixels they are not in the part that the header is read of.
  await writeFile(path, Buffer.concat([small, png.subarray(33)]));
  await assert.rejects(probeImage(ffmpeg, path), { code: 'invalid_argument', message: /more than 20000 chunks/ });
});

test('formats that can not be used are called by their names', async () => {
  const path = join(dir, 'other');
  const files: readonly (readonly [string, string])[] = [
    ['GIF', 'GIF89a'],
    ['BMP', 'BM\x36\0\0\0'],
    ['TIFF', 'II*\0'],
    ['HEIC', '\0\0\0\x18ftypheic'],
    ['AVIF', '\0\0\0\x18ftypavif'],
    ['SVG', '<svg xmlns="http://www.w3.org/2000/svg"/>'],
  ];
  for (const [name, head] of files) {
    await writeFile(path, Buffer.from(head.padEnd(64), 'latin1'));
    await assert.rejects(probeImage(ffmpeg, path), { field: 'image', message: new RegExp(`it is a ${name} file`) });
  }
});

test('a picture that is too high loses a quarter above and the rest below, one too wide the same on both sides', () => {
  assert.deepEqual(cropOf({ width: 300, height: 500 }, { width: 256, height: 256 }), {
    x: 0,
    y: 50,
    width: 300,
    height: 300,
  });
  assert.deepEqual(cropOf({ width: 500, height: 300 }, { width: 256, height: 256 }), {
    x: 100,
    y: 0,
    width: 300,
    height: 300,
  });
});

test('the cut lies within the picture, and stretches it by less than a hundredth', () => {
  const side = fc.integer({ min: 256, max: 8192 });
  fc.assert(
    fc.property(side, side, fc.constantFrom(...USABLE_SIZES), (width, height, size) => {
      fc.pre(2 * Math.max(width, height) <= 5 * Math.min(width, height));
      const picture = pictureSize(width, height, size);
      const crop = cropOf({ width, height }, picture);
      assert.ok(crop.x >= 0 && crop.y >= 0 && crop.x + crop.width <= width && crop.y + crop.height <= height);
      const stretch = (crop.width / crop.height) * (picture.height / picture.width);
      assert.ok(Math.abs(stretch - 1) < 0.01, `${stretch}`);
      // Given to upstream, it is not changed again.
      assert.deepEqual(pictureSize(picture.width, picture.height, size), picture);
    }),
  );
});

test('no side of a prepared reference is black, whatever the aspect of the picture', async () => {
  for (const [width, height] of [
    [1920, 1080],
    [1080, 1920],
    [512, 512],
    [300, 260],
    [650, 260],
    [257, 641],
  ] as const) {
    const picture = pictureSize(width, height, '704*384');
    const path = join(dir, 'white.jpg');
    const source = `color=white:s=${width}x${height},format=rgb24`;
    await ffmpegOutput(ffmpeg, [
      '-f',
      'lavfi',
      '-i',
      source,
      '-frames:v',
      '1',
      '-pix_fmt',
      'yuvj444p',
      '-update',
      '1',
      path,
    ]);
    const out = join(dir, 'white.png');
    await prepareReference(ffmpeg, path, picture, out);
    await assertPrepared(out, picture.width, picture.height);
    const rgb = await pixels(out);
    assert.ok(
      rgb.every((value) => value > 250),
      `${width}x${height}`,
    );
  }
});

/** EXIF with nothing but an orientation. */
function tiff(orientation: number): Buffer {
  const directory = [0, 1, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0, 0, 0, 0, 0];
  return Buffer.from([0x4d, 0x4d, 0, 42, 0, 0, 0, 8, ...directory]);
}

/** A PNG with a chunk more, after its header. */
function withChunk(png: Buffer, type: string, data: Buffer): Buffer {
  return withChunks(png, pngChunk(type, data));
}

function withChunks(png: Buffer, chunks: Buffer): Buffer {
  const end = 8 + 12 + 13;
  return Buffer.concat([png.subarray(0, end), chunks, png.subarray(end)]);
}

function pngChunk(type: string, data: Buffer): Buffer {
  const chunk = Buffer.alloc(12 + data.length);
  chunk.writeUInt32BE(data.length, 0);
  chunk.write(type, 4, 'latin1');
  data.copy(chunk, 8);
  chunk.writeUInt32BE(crc32(chunk.subarray(4, 8 + data.length)), 8 + data.length);
  return chunk;
}
