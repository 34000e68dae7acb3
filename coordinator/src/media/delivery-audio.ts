import { LOCAL_ONLY, QUIET } from '@clipfarm/shared/media/encode';
import type { Ffmpeg } from '@clipfarm/shared/media/ffmpeg';
import { DELIVERY_SAMPLE_RATE, FPS, framesForSamples } from '@clipfarm/shared/model/clip';
import { runTool } from '@clipfarm/shared/process';
import { readWavInfo } from './wav.ts';

/** What {@link encodeDeliveryAudio} makes. */
export interface DeliveryAudioOptions {
  /** Frames of the video that it is for. */
  readonly frames: number;
  /** Path of the M4A to write; an existing one is replaced. */
  readonly out: string;
  readonly signal?: AbortSignal;
}

/** Four hours take about two minutes on an idle core. */
const TIMEOUT_MS = 60 * 60_000;

/**
 * Samples (48 kHz) of the audio in a video of `frames` frames: all of them when the video shows the whole audio, which
 * then may be up to half a frame longer or shorter; exactly `frames / 25` seconds when the video is cut.
 */
export function deliverySamples(audioSamples: number, frames: number): number {
  const whole = framesForSamples(audioSamples, DELIVERY_SAMPLE_RATE) === frames;
  return whole ? audioSamples : frames * (DELIVERY_SAMPLE_RATE / FPS);
}

/**
 * Encodes the decoded audio of a job as the finished video will carry it: AAC, 48 kHz, with {@link deliverySamples}
 * samples, cut or padded with silence. Costs minutes for hours of audio, so it is done while clips are rendered.
 *
 * @throws FarmError `unavailable` when aborted; `internal` or `resource_exhausted` when FFmpeg or the disk fails.
 */
export async function encodeDeliveryAudio(
  ffmpeg: Ffmpeg,
  deliveryWav: string,
  { frames, out, signal }: DeliveryAudioOptions,
): Promise<void> {
  const wav = await readWavInfo(deliveryWav);
  const samples = deliverySamples(wav.samples, frames);
  const argv = [
    ...[...QUIET, '-xerror', ...LOCAL_ONLY, '-f', 'wav', '-i', deliveryWav],
    ...['-map', '0:a:0', '-af', `apad=whole_len=${samples},atrim=end_sample=${samples}`],
    // The fast coder takes half the time of the default one.
    ...['-c:a', 'aac', '-aac_coder', 'fast', '-b:a', '128k', '-ar', String(DELIVERY_SAMPLE_RATE)],
    ...['-fflags', '+bitexact', '-flags:a', '+bitexact', '-f', 'mp4', out],
  ];
  await runTool(ffmpeg.ffmpeg, argv, { timeoutMs: TIMEOUT_MS, ...(signal === undefined ? {} : { signal }) });
}
