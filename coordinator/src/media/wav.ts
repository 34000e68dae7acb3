import { open } from 'node:fs/promises';
import { FarmError } from '@clipfarm/shared/errors';

/** A WAV file of 16-bit PCM. */
export interface WavInfo {
  readonly channels: number;
  /** Samples a second. */
  readonly sampleRate: number;
  /** Samples a channel, counted from the bytes that are there. */
  readonly samples: number;
}

/** The headers that FFmpeg writes have 44 or 80 bytes. */
const HEADER_BYTES = 4096;
const PCM = 1;
const BITS = 16;

/**
 * Reads the header of a WAV that the farm wrote itself.
 *
 * @throws FarmError `internal` when it is not whole 16-bit PCM; the system's error when the file can't be read.
 */
export async function readWavInfo(path: string): Promise<WavInfo> {
  await using file = await open(path, 'r');
  const { size } = await file.stat();
  const { buffer, bytesRead } = await file.read(Buffer.alloc(HEADER_BYTES), 0, HEADER_BYTES, 0);
  const head = buffer.subarray(0, bytesRead);
  if (head.toString('latin1', 0, 4) !== 'RIFF' || head.toString('latin1', 8, 12) !== 'WAVE')
    throw wrong('no RIFF header');
  const format = findRiffChunk(head, 'fmt ');
  const data = findRiffChunk(head, 'data');
  if (format === undefined || data === undefined) throw wrong('no format or no data part');
  if (format.bytes < 16 || format.at + 16 > head.length) throw wrong('a cut-off format');
  const channels = head.readUInt16LE(format.at + 2);
  if (head.readUInt16LE(format.at) !== PCM || head.readUInt16LE(format.at + 14) !== BITS || channels === 0) {
    throw wrong('a format other than 16-bit PCM');
  }
  if (data.at + data.bytes > size) throw wrong(`${size - data.at} of ${data.bytes} bytes of audio`);
  const samples = data.bytes / (channels * 2);
  if (!Number.isInteger(samples)) throw wrong('a broken last sample');
  return { channels, sampleRate: head.readUInt32LE(format.at + 4), samples };
}

/** Where the body of a RIFF chunk begins and its size as noted. Each step of the search goes at least 8 bytes on. */
export function findRiffChunk(head: Buffer, type: string): { readonly at: number; readonly bytes: number } | undefined {
  for (let at = 12; at + 8 <= head.length; ) {
    const bytes = head.readUInt32LE(at + 4);
    if (head.toString('latin1', at, at + 4) === type) return { at: at + 8, bytes };
    at += 8 + bytes + (bytes % 2);
  }
  return undefined;
}

function wrong(what: string): FarmError {
  return new FarmError('internal', `the decoded audio has ${what}`);
}
