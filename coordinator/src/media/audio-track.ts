import { FarmError } from '@clipfarm/shared/errors';
import { type Mp4Track, readMp4 } from '@clipfarm/shared/media/mp4-read';
import { DELIVERY_SAMPLE_RATE } from '@clipfarm/shared/model/clip';

/** The finished delivery audio as a track to be copied into a video. */
export interface AudioTrack {
  /** File that holds the packets. */
  readonly path: string;
  /** First byte of the packets; they stand back to back. */
  readonly offset: number;
  /** Bytes of each packet. */
  readonly sizes: Uint32Array;
  /** Samples of each packet. */
  readonly durations: Uint32Array;
  /** Samples at the beginning that are the encoder's delay and are not played. */
  readonly priming: number;
  /** Samples that are played. */
  readonly samples: number;
  /** The `mp4a` box. */
  readonly sampleEntry: Buffer;
}

/** Largest tables of an audio file: four hours need 3 MB. */
const MAX_MOOV_BYTES = 32 * 1024 * 1024;

/**
 * Reads the tables of an M4A that the farm's own encoder wrote.
 *
 * @throws FarmError `internal` when it is not one AAC track at 48 kHz whose packets stand back to back, because then
 *   the encoder did not do what it was told; the system's error when the file can't be read.
 */
export async function readAudioTrack(path: string): Promise<AudioTrack> {
  const file = await readMp4(path, MAX_MOOV_BYTES);
  const [track, second] = file.movie.tracks;
  if (track?.format.kind !== 'audio' || second !== undefined) throw wrong('must have one AAC track and nothing else');
  const { sampleEntry, samples } = track;
  if (track.timescale !== DELIVERY_SAMPLE_RATE) throw wrong(`has ${track.timescale} Hz instead of 48000 Hz`);
  const offset = samples.offsets[0];
  if (offset === undefined) throw wrong('is empty');
  checkContiguous(track, offset, file.bytes);
  const priming = primingOf(track);
  const played = samples.durations.reduce((sum, ticks) => sum + ticks, 0) - priming;
  if (played <= 0) throw wrong('is empty');
  return { path, offset, sizes: samples.sizes, durations: samples.durations, priming, samples: played, sampleEntry };
}

/** The encoder's delay, which the muxer notes as the start of the only edit. */
function primingOf({ edits }: Mp4Track): number {
  const [edit, second] = edits;
  if (edit === undefined || second !== undefined || edit.mediaTime < 0) throw wrong('has no usable edit list');
  return edit.mediaTime;
}

function checkContiguous({ samples }: Mp4Track, offset: number, fileBytes: number): void {
  let at = offset;
  for (let i = 0; i < samples.count; i++) {
    if (samples.offsets[i] !== at) throw wrong(`has packet ${i} at byte ${samples.offsets[i]} instead of ${at}`);
    at += samples.sizes[i] ?? 0;
  }
  if (at > fileBytes) throw wrong('is cut off');
}

function wrong(what: string): FarmError {
  return new FarmError('internal', `the delivery audio ${what}`);
}
