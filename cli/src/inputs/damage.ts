import type { FileHandle } from 'node:fs/promises';

/** Bytes of a WAV in which its `data` chunk must begin for {@link isEmptyWav} to find it. */
const WAV_HEADER_BYTES = 64 * 1024;

/**
 * Whether a PNG ends before its last chunk does, as after an upload or download that was cut off.
 *
 * @param content the whole file, which begins with PNG's signature.
 */
export function isCutPng(content: Buffer): boolean {
  // Length, type, data, checksum (PNG specification, 5.3); each step goes at least 12 bytes on.
  for (let at = 8; at + 12 <= content.length; ) {
    const end = at + 12 + content.readUInt32BE(at);
    if (content.toString('latin1', at + 4, at + 8) === 'IEND') return end > content.length;
    at = end;
  }
  return true;
}

/** Whether a WAV holds not a single sample. What can't be told from its first bytes is left to the coordinator. */
export async function isEmptyWav(file: FileHandle, bytes: number): Promise<boolean> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(WAV_HEADER_BYTES), 0, WAV_HEADER_BYTES, 0);
  const head = buffer.subarray(0, bytesRead);
  for (let at = 12; at + 8 <= head.length; ) {
    // Sizes of streamed files are not true, so that what counts is whether anything follows.
    if (head.toString('latin1', at, at + 4) === 'data') return at + 8 >= bytes;
    const size = head.readUInt32LE(at + 4);
    at += 8 + size + (size % 2);
  }
  return bytes <= WAV_HEADER_BYTES;
}
