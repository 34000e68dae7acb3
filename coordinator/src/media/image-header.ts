import { open } from 'node:fs/promises';
import { FarmError } from '@clipfarm/shared/errors';
import { imageSize } from 'image-size';

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

/** Options for FFmpeg's decoders, so that they allocate no more than the largest picture, whatever a file claims. */
export const PIXEL_LIMIT = ['-max_pixels', String(MAX_IMAGE_SIDE ** 2)] as const;

/** Bytes that are read: thumbnails and colour profiles stand before a JPEG's size, and a crafted header costs time. */
const HEADER_BYTES = 1024 * 1024;

const PNG_SIGNATURE = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');
const WEBP_ANIMATION_FLAG = 0x02;

/**
 * Recognises a picture by its first bytes and reads its size without decoding it.
 *
 * @throws FarmError `invalid_argument` (field `image`) when it is no PNG, JPEG or WebP, is animated, or has a side over
 *   {@link MAX_IMAGE_SIDE}; the system's error when the file can't be read.
 */
export async function readImageHeader(path: string): Promise<ImageHeader> {
  const head = await readHead(path);
  const format = formatOf(head);
  if (format === undefined) {
    throw badImage(`it begins with ${head.toString('hex', 0, 8) || 'nothing'}, not like a PNG, JPEG or WebP file`);
  }
  if (isAnimated(format, head)) throw badImage('it is animated; a still picture is needed');
  const { width, height, orientation = 1 } = sizeOf(head);
  if (!(width >= 1 && height >= 1 && width <= MAX_IMAGE_SIDE && height <= MAX_IMAGE_SIDE)) {
    throw badImage(`it has ${width}x${height} pixels; each side must have 1 to ${MAX_IMAGE_SIDE}`);
  }
  return { format, width, height, orientation: orientation >= 1 && orientation <= 8 ? orientation : 1 };
}

/** The error for a picture that can't be used. */
export function badImage(why: string, cause?: unknown): FarmError {
  const hint = 'Give a still PNG, JPEG or WebP picture.';
  return new FarmError('invalid_argument', `image: ${why}`, { field: 'image', hint, cause });
}

async function readHead(path: string): Promise<Buffer> {
  await using file = await open(path, 'r');
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

/** An animated PNG has the chunk `acTL` before its first `IDAT`. Each step goes at least 12 bytes on. */
function hasAnimationControl(head: Buffer): boolean {
  for (let at = PNG_SIGNATURE.length; at + 8 <= head.length; at += 12 + head.readUInt32BE(at)) {
    const type = head.toString('latin1', at + 4, at + 8);
    if (type === 'acTL') return true;
    if (type === 'IDAT') return false;
  }
  return false;
}

function sizeOf(head: Buffer): ReturnType<typeof imageSize> {
  try {
    return imageSize(head);
  } catch (error) {
    throw badImage('its header is damaged, or its size does not come within the first MiB', error);
  }
}
