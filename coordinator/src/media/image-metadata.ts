import type { FileHandle } from 'node:fs/promises';
import { badImage } from './bad-image.ts';

/** Where a chunk of a PNG stands, as far as it is there. */
export interface PngChunk {
  readonly type: string;
  /** Offset of its length, which its type and its data follow. */
  readonly at: number;
  /** Offset behind its checksum; behind the end of what was read, when it is cut off. */
  readonly end: number;
}

const SIGNATURE_BYTES = 8;

/** Length, type and checksum. */
const CHUNK_OVERHEAD = 12;

/**
 * Chunks of a PNG that are looked at. An honest one of 50 MB has 6400, as its writers cut the pixels into pieces of 8 KiB;
 * a crafted one has 4 million, each of which costs time.
 */
export const MAX_PNG_CHUNKS = 20_000;

/** What a decoder needs of a PNG: size, palette, transparency, pixels and end. */
const ESSENTIAL: ReadonlySet<string> = new Set(['IHDR', 'PLTE', 'tRNS', 'IDAT', 'IEND']);

/** Chunks of a WebP that are looked at; an honest one has seven at most. */
const MAX_WEBP_CHUNKS = 64;

/** Longest EXIF that is read, in bytes. */
const MAX_EXIF_BYTES = 64 * 1024;

const TAG_ORIENTATION = 0x0112;
const TYPE_SHORT = 3;

/**
 * The chunks of a PNG, one after the other. Each step goes at least 12 bytes on.
 *
 * @throws FarmError `invalid_argument` (field `image`) once there are more than {@link MAX_PNG_CHUNKS}
 */
export function* pngChunks(png: Buffer): Generator<PngChunk, void, undefined> {
  let count = 0;
  for (let at = SIGNATURE_BYTES; at + CHUNK_OVERHEAD <= png.length; ) {
    count += 1;
    if (count > MAX_PNG_CHUNKS)
      throw badImage(`it has more than ${MAX_PNG_CHUNKS} chunks; save it anew as a plain PNG`);
    const end = at + CHUNK_OVERHEAD + png.readUInt32BE(at);
    yield { type: png.toString('latin1', at + 4, at + 8), at, end };
    at = end;
  }
}

/**
 * A PNG without what its pixels don't need: text and colour profiles may unpack to a thousand times their size, and
 * gamma would be applied by one decoder and not by another.
 *
 * @throws FarmError as {@link pngChunks}
 */
export function essentialPng(png: Buffer): Buffer {
  const kept: Buffer[] = [];
  // What is kept stands in few pieces, because chunks of pixels follow each other.
  let from = 0;
  let to = SIGNATURE_BYTES;
  for (const { type, at, end } of pngChunks(png)) {
    if (!ESSENTIAL.has(type)) continue;
    if (at !== to) {
      kept.push(png.subarray(from, to));
      from = at;
    }
    to = end;
  }
  return Buffer.concat([...kept, png.subarray(from, to)]);
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
