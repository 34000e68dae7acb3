import type { FileHandle } from 'node:fs/promises';

/** A chunk of a PNG; `whole` includes its length, type and checksum. */
export interface PngChunk {
  readonly type: string;
  readonly data: Buffer;
  readonly whole: Buffer;
}

const SIGNATURE_BYTES = 8;

/** Length, type and checksum. */
const CHUNK_OVERHEAD = 12;

/** What a decoder needs of a PNG: size, palette, transparency, pixels and end. */
const ESSENTIAL: ReadonlySet<string> = new Set(['IHDR', 'PLTE', 'tRNS', 'IDAT', 'IEND']);

/** Chunks of a WebP that are looked at; an honest one has seven at most. */
const MAX_WEBP_CHUNKS = 64;

/** Longest EXIF that is read, in bytes. */
const MAX_EXIF_BYTES = 64 * 1024;

const TAG_ORIENTATION = 0x0112;
const TYPE_SHORT = 3;

/** The chunks of a PNG, as far as they are whole. Each step goes at least 12 bytes on. */
export function pngChunks(png: Buffer): readonly PngChunk[] {
  const chunks: PngChunk[] = [];
  for (let at = SIGNATURE_BYTES; at + CHUNK_OVERHEAD <= png.length; ) {
    const bytes = png.readUInt32BE(at);
    const end = at + CHUNK_OVERHEAD + bytes;
    const type = png.toString('latin1', at + 4, at + 8);
    chunks.push({ type, data: png.subarray(at + 8, at + 8 + bytes), whole: png.subarray(at, end) });
    at = end;
  }
  return chunks;
}

/**
 * A PNG without what its pixels don't need: text and colour profiles may unpack to a thousand times their size, and
 * gamma would be applied by one decoder and not by another.
 */
export function essentialPng(png: Buffer): Buffer {
  const kept = pngChunks(png).filter(({ type }) => ESSENTIAL.has(type));
  return Buffer.concat([png.subarray(0, SIGNATURE_BYTES), ...kept.map(({ whole }) => whole)]);
}

/** The EXIF of a WebP file, which stands after its pixels; undefined without one. */
export async function webpExif(file: FileHandle): Promise<Buffer | undefined> {
  const head = Buffer.alloc(8);
  for (let at = 12, count = 0; count < MAX_WEBP_CHUNKS; count += 1) {
    const { bytesRead } = await file.read(head, 0, 8, at);
    if (bytesRead < 8) return undefined;
    const bytes = head.readUInt32LE(4);
    if (head.toString('latin1', 0, 4) !== 'EXIF') {
      at += 8 + bytes + (bytes % 2);
      continue;
    }
    const exif = Buffer.alloc(Math.min(bytes, MAX_EXIF_BYTES));
    const read = await file.read(exif, 0, exif.length, at + 8);
    return exif.subarray(0, read.bytesRead);
  }
  return undefined;
}

/** Orientation in the first directory of an EXIF block (TIFF 6.0, EXIF 2.32); 1, upright, where there is none. */
export function exifOrientation(exif: Buffer): number {
  // Some writers of WebP keep the marker that EXIF has in a JPEG.
  const tiff = exif.toString('latin1', 0, 6) === 'Exif\0\0' ? exif.subarray(6) : exif;
  const order = tiff.toString('latin1', 0, 2);
  if (tiff.length < 14 || (order !== 'II' && order !== 'MM')) return 1;
  const little = order === 'II';
  const u16 = (at: number): number => (little ? tiff.readUInt16LE(at) : tiff.readUInt16BE(at));
  const directory = little ? tiff.readUInt32LE(4) : tiff.readUInt32BE(4);
  if (directory + 2 > tiff.length) return 1;
  const entries = u16(directory);
  for (let i = 0, at = directory + 2; i < entries && at + 12 <= tiff.length; i += 1, at += 12) {
    if (u16(at) === TAG_ORIENTATION && u16(at + 2) === TYPE_SHORT) return u16(at + 8);
  }
  return 1;
}
