import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Writes a file and gives back its path. */
export function writeSample(directory: string, name: string, content: Uint8Array | string): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

/** The first and the last chunk of a PNG of that size; enough for whoever decodes nothing. */
export function pngHeader(width: number, height: number): Buffer {
  const png = Buffer.alloc(64);
  png.write('\x89PNG\r\n\x1a\n', 0, 'latin1');
  png.writeUInt32BE(13, 8);
  png.write('IHDR', 12, 'latin1');
  png.writeUInt32BE(width, 16);
  png.writeUInt32BE(height, 20);
  png.write('IEND', 37, 'latin1');
  return png;
}

/** A WAV file with that many bytes of silence. */
export function wav(bytes: number): Buffer {
  const head = Buffer.alloc(44);
  head.write('RIFF', 0, 'latin1');
  head.writeUInt32LE(36 + bytes, 4);
  head.write('WAVEfmt ', 8, 'latin1');
  head.writeUInt32LE(16, 16);
  head.writeUInt16LE(1, 20);
  head.writeUInt16LE(1, 22);
  head.writeUInt32LE(16_000, 24);
  head.writeUInt32LE(32_000, 28);
  head.writeUInt16LE(2, 32);
  head.writeUInt16LE(16, 34);
  head.write('data', 36, 'latin1');
  head.writeUInt32LE(bytes, 40);
  return Buffer.concat([head, Buffer.alloc(bytes)]);
}

/** An MP4 of the given brand with one track per handler, for example `soun` or `vide`; it has no samples. */
export function mp4(brand: string, handlers: readonly string[]): Buffer {
  const tracks = handlers.map((handler) => {
    const body = Buffer.alloc(24);
    body.write(handler, 8, 'latin1');
    return box('trak', box('mdia', box('hdlr', body)));
  });
  const ftyp = box('ftyp', Buffer.from(`${brand}\0\0\0\0${brand}`, 'latin1'));
  return Buffer.concat([ftyp, box('mdat', Buffer.alloc(600)), box('moov', Buffer.concat(tracks))]);
}

function box(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(8 + body.length, 0);
  head.write(type, 4, 'latin1');
  return Buffer.concat([head, body]);
}
