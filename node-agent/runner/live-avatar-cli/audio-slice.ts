import { open } from 'node:fs/promises';
import { FarmError } from '@clipfarm/shared/errors';
import { CLIP_FRAMES, FPS, MODEL_SAMPLE_RATE } from '@clipfarm/shared/model/clip';
import type { SpanRequest } from '../../src/runner/protocol.ts';
import { wavLayout } from '../common/wav.ts';

/** 16 kHz samples of one clip. */
export const CLIP_SAMPLES = (CLIP_FRAMES * MODEL_SAMPLE_RATE) / FPS;

/**
 * 16 kHz samples after the last clip: without any, the last frame gets no features, and the speech features of a frame
 * depend on what follows. Two seconds also keep upstream's `-shortest` from cutting the video.
 */
export const MARGIN_SAMPLES = 2 * MODEL_SAMPLE_RATE;

const HEADER_BYTES = 44;
const SAMPLE_BYTES = 2;

/** Bytes of the source in which its samples must begin. */
const HEAD_BYTES = 64 * 1024;

/** Samples of the job's audio: `first`, then `taken` from the file, then `silence`. */
export interface Slice {
  readonly first: number;
  readonly taken: number;
  readonly silence: number;
}

/**
 * What of the job's audio a model call hears: its own clips, of which the pre-roll is the context on the left, and a
 * margin on the right, which is silence where the audio ends.
 *
 * @param samples of the whole job
 */
export function sliceOf(request: Pick<SpanRequest, 'start' | 'end' | 'preRoll'>, samples: number): Slice {
  const first = CLIP_SAMPLES * (request.start - request.preRoll);
  const wanted = CLIP_SAMPLES * request.end + MARGIN_SAMPLES - first;
  const taken = Math.max(0, Math.min(wanted, samples - first));
  return { first, taken, silence: wanted - taken };
}

/**
 * Writes the audio of a model call as a 16 kHz mono WAV.
 *
 * @param source path of the same kind of WAV, for the whole job
 * @throws FarmError `invalid_argument` when the source is no such file or ends before the last clip begins.
 */
export async function writeSlice(
  source: string,
  request: Pick<SpanRequest, 'start' | 'end' | 'preRoll'>,
  output: string,
): Promise<void> {
  await using input = await open(source, 'r');
  const { size } = await input.stat();
  const head = Buffer.alloc(Math.min(size, HEAD_BYTES));
  await input.read(head, 0, head.length, 0);
  const { offset, samples } = wavLayout(head, size);
  const { first, taken, silence } = sliceOf(request, samples);
  // The job's audio reaches into its last clip at least.
  if (silence >= CLIP_SAMPLES + MARGIN_SAMPLES) {
    const message = `audio has ${samples} samples, the last clip begins at sample ${CLIP_SAMPLES * (request.end - 1)}`;
    throw new FarmError('invalid_argument', message, { field: 'audioPath' });
  }
  await using file = await open(output, 'wx', 0o600);
  await file.appendFile(wavHeader(taken + silence));
  const buffer = Buffer.alloc(1024 * 1024);
  let left = taken * SAMPLE_BYTES;
  for (let at = offset + first * SAMPLE_BYTES; left > 0; ) {
    const { bytesRead } = await input.read(buffer, 0, Math.min(buffer.length, left), at);
    if (bytesRead === 0) throw new FarmError('invalid_argument', 'audio became shorter', { field: 'audioPath' });
    await file.appendFile(buffer.subarray(0, bytesRead));
    at += bytesRead;
    left -= bytesRead;
  }
  await file.appendFile(Buffer.alloc(silence * SAMPLE_BYTES));
}

function wavHeader(samples: number): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  const bytes = samples * SAMPLE_BYTES;
  header.write('RIFF', 0, 'latin1');
  header.writeUInt32LE(HEADER_BYTES - 8 + bytes, 4);
  header.write('WAVEfmt ', 8, 'latin1');
  header.writeUInt32LE(16, 16);
  header.writeUInt16LE(1, 20);
  header.writeUInt16LE(1, 22);
  header.writeUInt32LE(MODEL_SAMPLE_RATE, 24);
  header.writeUInt32LE(MODEL_SAMPLE_RATE * SAMPLE_BYTES, 28);
  header.writeUInt16LE(SAMPLE_BYTES, 32);
  header.writeUInt16LE(16, 34);
  header.write('data', 36, 'latin1');
  header.writeUInt32LE(bytes, 40);
  return header;
}
