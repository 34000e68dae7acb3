import { FarmError } from '../errors.ts';

/** One box of an MP4 that lies in memory. */
export interface Mp4Box {
  /** Four characters. */
  readonly type: string;
  /** The whole box, header included. */
  readonly raw: Buffer;
  /** What follows the header. */
  readonly body: Buffer;
}

/** Size and kind of a box, from its first 8 or 16 bytes. */
export interface Mp4BoxHeader {
  readonly type: string;
  readonly headerBytes: number;
  /** Bytes of the whole box. */
  readonly bytes: number;
}

/** More boxes than this side by side are no file of ours; keeps crafted files from filling the memory. */
const MAX_BOXES = 1000;

/** Bytes that a box header may need. */
export const MAX_BOX_HEADER_BYTES = 16;

/**
 * Reads the header of the box that starts at `offset` of `data` and may reach to `limit` bytes from there. Size 0
 * means "to the end", size 1 that a 64-bit size follows (ISO/IEC 14496-12, 4.2).
 *
 * @throws FarmError `invalid_argument` when the header is cut off or the box reaches beyond `limit`.
 */
export function readBoxHeader(data: Buffer, offset: number, limit: number): Mp4BoxHeader {
  const there = Math.min(limit, data.length - offset);
  if (there < 8) throw damaged(`the file ends within the header of a box (${there} bytes are left)`);
  const type = data.toString('latin1', offset + 4, offset + 8);
  const size = data.readUInt32BE(offset);
  if (size === 1) {
    if (there < 16) throw damaged(`the file ends within the header of the box ${show(type)}`);
    return checkedSize({ type, headerBytes: 16, bytes: Number(data.readBigUInt64BE(offset + 8)) }, limit);
  }
  return checkedSize({ type, headerBytes: 8, bytes: size === 0 ? limit : size }, limit);
}

/**
 * The boxes that fill `data`. Ends, because every box is at least 8 bytes long.
 *
 * @throws FarmError `invalid_argument` when they don't fill it exactly or are more than a thousand.
 */
export function boxesIn(data: Buffer): readonly Mp4Box[] {
  const boxes: Mp4Box[] = [];
  for (let offset = 0; offset < data.length; ) {
    if (boxes.length === MAX_BOXES) throw damaged(`it has more than ${MAX_BOXES} boxes side by side`);
    const header = readBoxHeader(data, offset, data.length - offset);
    const raw = data.subarray(offset, offset + header.bytes);
    boxes.push({ type: header.type, raw, body: raw.subarray(header.headerBytes) });
    offset += header.bytes;
  }
  return boxes;
}

/**
 * The only box of this type, or undefined when there is none.
 *
 * @throws FarmError `invalid_argument` when there are several: readers would not agree on which one counts.
 */
export function optionalBox(boxes: readonly Mp4Box[], type: string): Mp4Box | undefined {
  const found = boxes.filter((box) => box.type === type);
  if (found.length > 1) throw damaged(`there are ${found.length} boxes ${type} where one belongs`);
  return found[0];
}

/** Like {@link optionalBox}, but a missing box is an error too. */
export function oneBox(boxes: readonly Mp4Box[], type: string): Mp4Box {
  const found = optionalBox(boxes, type);
  if (found === undefined) throw damaged(`the box ${type} is missing`);
  return found;
}

/** @throws FarmError `invalid_argument` when the box has fewer than `bytes` bytes after its header. */
export function requireBody(box: Mp4Box, bytes: number): void {
  if (box.body.length < bytes) {
    throw damaged(`the box ${show(box.type)} holds ${box.body.length} bytes, at least ${bytes} are needed`);
  }
}

/** Version of a full box, its first body byte. */
export function boxVersion(box: Mp4Box): number {
  requireBody(box, 4);
  return box.body.readUInt8(0);
}

/**
 * A 64-bit number at `offset` of the body, which the caller knows to be there.
 *
 * @throws FarmError `invalid_argument` above 2^53 - 1.
 */
export function readUint64(box: Mp4Box, offset: number): number {
  const value = Number(box.body.readBigUInt64BE(offset));
  if (!Number.isSafeInteger(value)) throw damaged(`the box ${show(box.type)} holds the impossible number ${value}`);
  return value;
}

/** A box as type, printable even when its four bytes are not. */
function show(type: string): string {
  return JSON.stringify(type);
}

/** The error for an MP4 that breaks the rules. */
export function damaged(message: string): FarmError {
  return new FarmError('invalid_argument', `not a usable MP4: ${message}`);
}

function checkedSize(header: Mp4BoxHeader, limit: number): Mp4BoxHeader {
  if (header.bytes < header.headerBytes || header.bytes > limit) {
    throw damaged(`the box ${show(header.type)} claims ${header.bytes} bytes, ${limit} are there`);
  }
  return header;
}
