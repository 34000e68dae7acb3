/**
 * The stamp: a strip of black and white cells along the bottom edge that says which frame this is and who rendered it,
 * and that still can be read after the video was encoded, joined and decoded again.
 *
 * Bits, most significant first: magic 16, job 16, frame 24, clip 16, seed 32, CRC-16 of these, span 16, CRC-8 of the
 * span. Cells run from left to right, then down; cells left over are black. The span is checked by itself because a join
 * blends frames of two spans that agree in everything else.
 */
import { FarmError } from '@clipfarm/shared/errors';

/** Side of a cell in pixels. */
const CELL_PIXELS = 8;

/** What a stamp says. Numbers larger than their field keep the low bits. */
export interface Stamp {
  /** {@link jobHash} of the job's id; 16 bits. */
  readonly job: number;
  /** Index on the job's timeline: the frame shows audio at `frame / 25` s; 24 bits. */
  readonly frame: number;
  /** Clip within the job; 16 bits. */
  readonly clip: number;
  /** Span within the job; 16 bits. */
  readonly span: number;
  /** Seed of the clip; the low 32 bits. */
  readonly seed: number;
}

/** A stamp read back; `span` is null where frames of two spans were blended. */
export interface ReadStamp extends Omit<Stamp, 'span'> {
  readonly span: number | null;
}

/** Colours of cells: not quite black and white, which would ring more and hurt the eye. */
const DARK = [16, 22, 28] as const;
const LIGHT = [222, 228, 232] as const;

const MAGIC = 0xc15f;
const CELLS_PER_ROW = 32;
const BODY_BYTES = 13;
const STAMP_BYTES = BODY_BYTES + 2 + 2 + 1;

/** 16-bit FNV-1a hash (32 bits, folded) of a job's id. */
export function jobHash(jobId: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(jobId)) hash = Math.imul(hash ^ byte, 0x01000193);
  return ((hash >>> 16) ^ hash) & 0xffff;
}

/** Width of the strip in pixels: whole cells, at most 32 of them. */
export function stampWidth(width: number): number {
  return cellsPerRow(width) * CELL_PIXELS;
}

/** Height of the strip in pixels. */
export function stampHeight(width: number): number {
  return Math.ceil((STAMP_BYTES * 8) / cellsPerRow(width)) * CELL_PIXELS;
}

/**
 * Draws the stamp into the bottom left corner of `rgb` (width x height x 3 bytes). Throws FarmError
 * `invalid_argument` when the picture is too small for it.
 */
export function writeStamp(rgb: Uint8Array, width: number, height: number, stamp: Stamp): void {
  const top = stampTop(rgb.length / 3, width, height);
  const columns = cellsPerRow(width);
  const cells = columns * (stampHeight(width) / CELL_PIXELS);
  const bytes = stampBytes(stamp);
  for (let cell = 0; cell < cells; cell += 1) {
    const bit = ((bytes[cell >> 3] ?? 0) >> (7 - (cell & 7))) & 1;
    const [r, g, b] = bit === 1 ? LIGHT : DARK;
    const x = (cell % columns) * CELL_PIXELS;
    const y = top + Math.floor(cell / columns) * CELL_PIXELS;
    for (let row = y; row < y + CELL_PIXELS; row += 1) {
      let at = (row * width + x) * 3;
      for (let i = 0; i < CELL_PIXELS; i += 1) {
        rgb[at++] = r;
        rgb[at++] = g;
        rgb[at++] = b;
      }
    }
  }
}

/**
 * Reads the stamp from a decoded frame in gray (width x height bytes); null when there is none or it is damaged.
 * Throws FarmError `invalid_argument` when the picture is too small to have one.
 */
export function readStamp(luma: Uint8Array, width: number, height: number): ReadStamp | null {
  const top = stampTop(luma.length, width, height);
  const columns = cellsPerRow(width);
  const bytes = Buffer.alloc(STAMP_BYTES);
  for (let cell = 0; cell < STAMP_BYTES * 8; cell += 1) {
    const x = (cell % columns) * CELL_PIXELS;
    const y = top + Math.floor(cell / columns) * CELL_PIXELS;
    const bit = cellMean(luma, width, x, y) > 128 ? 1 : 0;
    bytes[cell >> 3] = (bytes[cell >> 3] ?? 0) | (bit << (7 - (cell & 7)));
  }
  const body = bytes.subarray(0, BODY_BYTES);
  if (bytes.readUInt16BE(0) !== MAGIC || bytes.readUInt16BE(BODY_BYTES) !== crc16(body)) return null;
  const span = bytes.subarray(BODY_BYTES + 2, BODY_BYTES + 4);
  return {
    job: bytes.readUInt16BE(2),
    frame: bytes.readUIntBE(4, 3),
    clip: bytes.readUInt16BE(7),
    seed: bytes.readUInt32BE(9),
    span: bytes[STAMP_BYTES - 1] === crc8(span) ? span.readUInt16BE(0) : null,
  };
}

function stampBytes(stamp: Stamp): Uint8Array {
  const bytes = Buffer.alloc(STAMP_BYTES);
  bytes.writeUInt16BE(MAGIC, 0);
  bytes.writeUInt16BE(lowBits(stamp.job, 16), 2);
  bytes.writeUIntBE(lowBits(stamp.frame, 24), 4, 3);
  bytes.writeUInt16BE(lowBits(stamp.clip, 16), 7);
  bytes.writeUInt32BE(lowBits(stamp.seed, 32), 9);
  bytes.writeUInt16BE(crc16(bytes.subarray(0, BODY_BYTES)), BODY_BYTES);
  bytes.writeUInt16BE(lowBits(stamp.span, 16), BODY_BYTES + 2);
  bytes[STAMP_BYTES - 1] = crc8(bytes.subarray(BODY_BYTES + 2, BODY_BYTES + 4));
  return bytes;
}

/** Row of the strip's first cell; checks the picture. */
function stampTop(pixels: number, width: number, height: number): number {
  const fits = pixels === width * height && width >= CELL_PIXELS && height >= stampHeight(width);
  if (fits) return height - stampHeight(width);
  const message = `a picture of ${width}x${height} with ${pixels} pixels has no room for the stamp`;
  throw new FarmError('invalid_argument', message, { field: 'width' });
}

function cellsPerRow(width: number): number {
  return Math.max(1, Math.min(CELLS_PER_ROW, Math.floor(width / CELL_PIXELS)));
}

/** Mean of a cell's inner half: its rim is where the encoder smears. */
function cellMean(luma: Uint8Array, width: number, x: number, y: number): number {
  let sum = 0;
  for (let row = y + 2; row < y + 6; row += 1) {
    for (let column = x + 2; column < x + 6; column += 1) sum += luma[row * width + column] ?? 0;
  }
  return sum / 16;
}

function lowBits(value: number, bits: number): number {
  return value % 2 ** bits;
}

/** CRC-16/CCITT-FALSE. */
function crc16(bytes: Uint8Array): number {
  return crc(bytes, 16, 0x1021, 0xffff);
}

/** CRC-8 with a start value that gives zeros, an empty strip, a wrong check. */
function crc8(bytes: Uint8Array): number {
  return crc(bytes, 8, 0x07, 0xff);
}

function crc(bytes: Uint8Array, width: 8 | 16, polynomial: number, start: number): number {
  const top = 1 << (width - 1);
  let value = start;
  for (const byte of bytes) {
    value ^= byte << (width - 8);
    for (let bit = 0; bit < 8; bit += 1) value = (value & top) === 0 ? value << 1 : (value << 1) ^ polynomial;
    value &= 2 ** width - 1;
  }
  return value;
}
