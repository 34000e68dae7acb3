import { type FileHandle, open } from 'node:fs/promises';
import { imageSize } from 'image-size';
import { badImage } from './bad-image.ts';
import { exifOrientation, pngChunks, webpExif } from './image-metadata.ts';

/** What a picture's header says, before anything is decoded. */
export interface ImageHeader {
  readonly format: 'png' | 'jpeg' | 'webp';
  /** Pixels as stored. */
  readonly width: number;
  /** Pixels as stored. */
  readonly height: number;
  /** EXIF orientation, 1 to 8: how the stored picture must be turned to stand upright. */
  readonly orientation: number;
}

/** Longest side in pixels; a larger picture would take hundreds of megabytes to decode. */
export const MAX_IMAGE_SIDE = 8192;

/** Bytes of the largest picture as FFmpeg holds it, with four channels of 16 bits, and some padding. */
const LARGEST_ALLOCATION = MAX_IMAGE_SIDE ** 2 * 8 + 64 * 1024 * 1024;

/**
 * Options for FFmpeg's decoders, so that they allocate no more than the largest picture, whatever a file claims. Without
 * the second one, 4 MB of compressed text in a PNG make it take 2 GB.
 */
export const PIXEL_LIMIT = [
  ...['-max_pixels', String(MAX_IMAGE_SIDE ** 2)],
  ...['-max_alloc', String(LARGEST_ALLOCATION)],
] as const;

/** Bytes that are read: thumbnails and colour profiles stand before a JPEG's size, and a crafted header costs time. */
const HEADER_BYTES = 1024 * 1024;

/** Formats that people have pictures in, by their first bytes. */
const OTHER_FORMATS = [
  ['GIF', /^GIF8/],
  ['BMP', /^BM/],
  ['TIFF', /^(II\*\0|MM\0\*)/],
  ['HEIC', /^.{4}ftyp(heic|heix|hevc|hevx|mif1|msf1)/s],
  ['AVIF', /^.{4}ftypavi[fs]/s],
  ['SVG', /^\s*<(svg|\?xml)/],
] as const;

const PNG_SIGNATURE = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');
const WEBP_ANIMATION_FLAG = 0x02;

/**
 * Recognises a picture by its first bytes and reads its size without decoding it.
 *
 * @throws FarmError `invalid_argument` (field `image`) when it is no PNG, JPEG or WebP, is animated, or has a side over
 *   {@link MAX_IMAGE_SIDE}; the system's error when the file can't be read.
 */
export async function readImageHeader(path: string): Promise<ImageHeader> {
  await using file = await open(path, 'r');
  const head = await readHead(file);
  const format = formatOf(head);
  if (format === undefined) {
    const other = OTHER_FORMATS.find(([, pattern]) => pattern.test(head.toString('latin1', 0, 16)))?.[0];
    if (other !== undefined) throw badImage(`it is a ${other} file; it must be converted to PNG, JPEG or WebP`);
    throw badImage(`it begins with ${head.toString('hex', 0, 8) || 'nothing'}, not like a PNG, JPEG or WebP file`);
  }
  if (isAnimated(format, head)) throw badImage('it is animated; a still picture is needed');
  const { width, height, orientation: fromJpeg = 1 } = sizeOf(head);
  const orientation = format === 'jpeg' ? fromJpeg : await orientationOf(format, head, file);
  if (!(width >= 1 && height >= 1 && width <= MAX_IMAGE_SIDE && height <= MAX_IMAGE_SIDE)) {
    throw badImage(`it has ${width}x${height} pixels; each side must have 1 to ${MAX_IMAGE_SIDE}`);
  }
  return { format, width, height, orientation: orientation >= 1 && orientation <= 8 ? orientation : 1 };
}

/** EXIF of a PNG stands before its pixels, or is not used; that of a WebP after them. */
async function orientationOf(format: 'png' | 'webp', head: Buffer, file: FileHandle): Promise<number> {
  const exif = format === 'webp' ? await webpExif(file) : pngExif(head);
  return exif === undefined ? 1 : exifOrientation(exif);
}

async function readHead(file: FileHandle): Promise<Buffer> {
  const { size } = await file.stat();
  const buffer = Buffer.allocUnsafe(Math.min(size, HEADER_BYTES));
  const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
  return buffer.subarray(0, bytesRead);
}

function formatOf(head: Buffer): ImageHeader['format'] | undefined {
  if (head.subarray(0, 8).equals(PNG_SIGNATURE)) return 'png';
  if (head.toString('hex', 0, 3) === 'ffd8ff') return 'jpeg';
  if (head.toString('latin1', 0, 4) === 'RIFF' && head.toString('latin1', 8, 12) === 'WEBP') return 'webp';
  return undefined;
}

function isAnimated(format: ImageHeader['format'], head: Buffer): boolean {
  if (format === 'webp') {
    return head.toString('latin1', 12, 16) === 'VP8X' && ((head[20] ?? 0) & WEBP_ANIMATION_FLAG) !== 0;
  }
  return format === 'png' && hasAnimationControl(head);
}

/** An animated PNG has the chunk `acTL` before its first `IDAT`. */
function hasAnimationControl(head: Buffer): boolean {
  for (const { type } of pngChunks(head)) {
    if (type === 'acTL') return true;
    if (type === 'IDAT') return false;
  }
  return false;
}

function pngExif(head: Buffer): Buffer | undefined {
  for (const { type, at, end } of pngChunks(head)) if (type === 'eXIf') return head.subarray(at + 8, end - 4);
  return undefined;
}

function sizeOf(head: Buffer): ReturnType<typeof imageSize> {
  try {
    return imageSize(head);
  } catch (error) {
    throw badImage('its header is damaged, or its size does not come within the first MiB', error);
  }
}
