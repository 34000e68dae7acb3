import { FarmError } from '@clipfarm/shared/errors';
import type { VerificationCheck } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { TICKS_PER_FRAME, VIDEO_TIMESCALE } from '@clipfarm/shared/media/encode';
import { type Mp4File, type Mp4Track, readMp4 } from '@clipfarm/shared/media/mp4-read';
import { DELIVERY_SAMPLE_RATE, FPS } from '@clipfarm/shared/model/clip';
import { deliverySamples } from './delivery-audio.ts';

/** What a finished video must be. */
export interface ExpectedVideo {
  readonly frames: number;
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;
  /** Samples (48 kHz) of the job's whole audio, also when the video shows only its beginning. */
  readonly audioSamples: number;
}

/** What was checked of a finished video. */
export interface VideoVerification {
  /** Every check that was made, passed or not. */
  readonly checks: readonly VerificationCheck[];
  /** Seconds of sound in the file, the encoder's delay taken off; 0 when there is none. */
  readonly audioSeconds: number;
}

/** Largest tables that are read: four hours need 6 MB. */
const MAX_MOOV_BYTES = 64 * 1024 * 1024;

const SAMPLES_PER_FRAME = DELIVERY_SAMPLE_RATE / FPS;

/** Checks what the tables of a finished video say: every frame's time, the length of the sound, the order of the file. */
export async function checkTables(path: string, expected: ExpectedVideo): Promise<VideoVerification> {
  let file: Mp4File;
  try {
    file = await readMp4(path, MAX_MOOV_BYTES);
  } catch (error) {
    const detail = FarmError.from(error).message;
    return { checks: [{ name: 'whole file', ok: false, detail }], audioSeconds: 0 };
  }
  const video = file.movie.tracks.find((track) => track.format.kind === 'video');
  const audio = file.movie.tracks.find((track) => track.format.kind === 'audio');
  const samples = audio === undefined ? 0 : playedSamples(file, audio);
  const checks = [
    checkWhole(file),
    checkOrder(file),
    checkFrameTimes(video, expected.frames),
    checkSoundLength(samples, expected),
  ];
  return { checks, audioSeconds: samples / DELIVERY_SAMPLE_RATE };
}

function checkWhole(file: Mp4File): VerificationCheck {
  const areas = file.boxes.filter((box) => box.type === 'mdat');
  const outside = file.movie.tracks.filter(({ samples }) =>
    samples.offsets.some((offset, i) => {
      const end = offset + (samples.sizes[i] ?? 0);
      return !areas.some((area) => offset >= area.bodyOffset && end <= area.end);
    }),
  );
  const detail =
    outside.length === 0 ? `${file.bytes} bytes` : `${outside.length} tracks point outside the file's data`;
  return { name: 'whole file', ok: outside.length === 0, detail };
}

function checkOrder(file: Mp4File): VerificationCheck {
  const types = file.boxes.map((box) => box.type);
  const ok = types.indexOf('moov') < types.indexOf('mdat');
  return { name: 'playable while it downloads', ok, detail: `order of the file: ${types.join(', ')}` };
}

function checkFrameTimes(video: Mp4Track | undefined, frames: number): VerificationCheck {
  const name = 'every frame lasts 1/25 s';
  if (video === undefined) return { name, ok: false, detail: 'there is no picture' };
  const { samples, timescale, edits } = video;
  const odd = samples.durations.findIndex((ticks) => ticks / timescale !== TICKS_PER_FRAME / VIDEO_TIMESCALE);
  const moved = samples.compositionOffsets !== undefined || edits.length > 0;
  if (odd >= 0) return { name, ok: false, detail: `frame ${odd} lasts ${samples.durations[odd]}/${timescale} s` };
  if (moved) return { name, ok: false, detail: 'frames are moved in time' };
  return { name, ok: samples.count === frames, detail: `${samples.count} of ${frames} frames` };
}

function checkSoundLength(samples: number, expected: ExpectedVideo): VerificationCheck {
  const wanted = deliverySamples(expected.audioSamples, expected.frames);
  const picture = expected.frames * SAMPLES_PER_FRAME;
  const offBy = Math.max(Math.abs(samples - wanted), Math.abs(samples - picture));
  return {
    name: 'sound is as long as the original and the picture, to half a frame',
    ok: offBy <= SAMPLES_PER_FRAME / 2,
    detail: `${samples} samples of sound, ${wanted} in the original, ${picture} under the picture`,
  };
}

/** Samples that are played: the packets' less the encoder's delay, within what the edit list shows. */
function playedSamples({ movie }: Mp4File, audio: Mp4Track): number {
  const [edit, second] = audio.edits;
  const total = audio.samples.durations.reduce((sum, ticks) => sum + ticks, 0);
  if (edit === undefined || second !== undefined) return total;
  return Math.min(total - edit.mediaTime, Math.round((edit.duration * audio.timescale) / movie.timescale));
}
