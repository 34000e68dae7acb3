import type { FileHandle } from 'node:fs/promises';
import { boxesIn, MAX_BOX_HEADER_BYTES, type Mp4Box, readBoxHeader } from '@clipfarm/shared/media/mp4-box';

/** Largest `moov` box that is read, in bytes; a four-hour recording has about 10 MB. */
const MAX_MOOV_BYTES = 64 * 1024 * 1024;

/** More top-level boxes than this are not searched. */
const MAX_BOXES = 10_000;

/**
 * Whether an MP4 or M4A file has a video track. A cover picture is no track. Undefined when the file's structure does
 * not say, which is left to the coordinator's decoder.
 */
export async function hasVideoTrack(file: FileHandle, bytes: number): Promise<boolean | undefined> {
  try {
    const moov = await readMoov(file, bytes);
    if (moov === undefined) return undefined;
    const handlers = inner(moov, 'trak').flatMap((trak) =>
      inner(trak.body, 'mdia').flatMap((mdia) => inner(mdia.body, 'hdlr')),
    );
    // Handler box: version and flags, a reserved word, then the kind of the track (ISO/IEC 14496-12, 8.4.3).
    return handlers.some((handler) => handler.body.toString('latin1', 8, 12) === 'vide');
  } catch {
    return undefined;
  }
}

function inner(body: Buffer, type: string): readonly Mp4Box[] {
  return boxesIn(body).filter((box) => box.type === type);
}

async function readMoov(file: FileHandle, bytes: number): Promise<Buffer | undefined> {
  let offset = 0;
  for (let seen = 0; offset < bytes && seen < MAX_BOXES; seen += 1) {
    const head = Buffer.alloc(MAX_BOX_HEADER_BYTES);
    const { bytesRead } = await file.read(head, 0, head.length, offset);
    const box = readBoxHeader(head.subarray(0, bytesRead), 0, bytes - offset);
    if (box.type === 'moov') {
      if (box.bytes > MAX_MOOV_BYTES) return undefined;
      const body = Buffer.alloc(box.bytes - box.headerBytes);
      await file.read(body, 0, body.length, offset + box.headerBytes);
      return body;
    }
    offset += box.bytes;
  }
  return undefined;
}
