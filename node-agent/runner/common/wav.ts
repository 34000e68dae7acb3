import { type FileHandle, open } from 'node:fs/promises';
import { FarmError } from '@clipfarm/shared/errors';
import { MODEL_SAMPLE_RATE } from '@clipfarm/shared/model/clip';

/** Bytes of a file in which its `data` chunk must begin; tags may come before it. */
const HEADER_BYTES = 64 * 1024;

const READ_BYTES = 1024 * 1024;
const SAMPLE_BYTES = 2;
const PCM = 1;

/** Where the samples of a WAV file lie. */
export interface WavLayout {
  /** Byte offset of the first sample. */
  readonly offset: number;
  readonly samples: number;
}

/**
 * Reads the layout of a 16 kHz mono 16-bit PCM file from its first bytes. A `data` size that the file doesn't hold (a
 * writer on a pipe never learns it) means "until the end". Throws FarmError `invalid_argument` on `audioPath`.
 */
export function wavLayout(head: Uint8Array, fileBytes: number): WavLayout {
  const view = Buffer.from(head.buffer, head.byteOffset, head.length);
  const tag = (at: number): string => view.toString('latin1', at, at + 4);
  if (view.length < 12 || tag(0) !== 'RIFF' || tag(8) !== 'WAVE') refuse('is no RIFF WAVE file');
  let formatSeen = false;
  for (let at = 12; at + 8 <= view.length; ) {
    const size = view.readUInt32LE(at + 4);
    const body = at + 8;
    if (tag(at) === 'data') {
      if (!formatSeen) refuse('has no format before its samples');
      const bytes = Math.min(size, fileBytes - body);
      return { offset: body, samples: Math.floor(bytes / SAMPLE_BYTES) };
    }
    if (tag(at) === 'fmt ' && body + 16 <= view.length) {
      checkFormat(view, body);
      formatSeen = true;
    }
    at = body + size + (size % 2);
  }
  return refuse(`has no samples within its first ${HEADER_BYTES} bytes`);
}

/** Calls `take` with the samples of a file, in order, in pieces of at most half a million, until `take` returns false. */
export async function readWav(path: string, take: (samples: Int16Array) => boolean): Promise<void> {
  const file = await openAudio(path);
  try {
    const { size } = await file.stat();
    const head = Buffer.alloc(HEADER_BYTES);
    const { bytesRead } = await file.read(head, 0, HEADER_BYTES, 0);
    const { offset, samples } = wavLayout(head.subarray(0, bytesRead), size);
    const buffer = Buffer.from(new ArrayBuffer(READ_BYTES));
    let left = samples;
    for (let at = offset; left > 0; ) {
      const wanted = Math.min(READ_BYTES, left * SAMPLE_BYTES);
      const piece = await file.read(buffer, 0, wanted, at);
      const whole = Math.floor(piece.bytesRead / SAMPLE_BYTES);
      if (whole === 0) return;
      if (!take(new Int16Array(buffer.buffer, 0, whole))) return;
      at += whole * SAMPLE_BYTES;
      left -= whole;
    }
  } finally {
    await file.close();
  }
}

async function openAudio(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new FarmError('invalid_argument', `audio can't be read: ${reason}`, { field: 'audioPath', cause });
  }
}

function checkFormat(view: Buffer, at: number): void {
  const format = view.readUInt16LE(at);
  const channels = view.readUInt16LE(at + 2);
  const rate = view.readUInt32LE(at + 4);
  const bits = view.readUInt16LE(at + 14);
  if (format === PCM && channels === 1 && rate === MODEL_SAMPLE_RATE && bits === 16) return;
  refuse(`has format ${format} with ${channels} channels of ${bits} bits at ${rate} Hz`);
}

function refuse(what: string): never {
  throw new FarmError('invalid_argument', `audio ${what}; accepted: PCM WAV, 16 bits, mono, ${MODEL_SAMPLE_RATE} Hz`, {
    field: 'audioPath',
  });
}
