import { join } from 'node:path';
import { LOCAL_ONLY, QUIET } from '@clipfarm/shared/media/encode';
import type { Ffmpeg } from '@clipfarm/shared/media/ffmpeg';
import { AUDIO_LIMITS, runLimited } from '@clipfarm/shared/media/limited';
import { DELIVERY_SAMPLE_RATE, MODEL_SAMPLE_RATE } from '@clipfarm/shared/model/clip';
import { runTool } from '@clipfarm/shared/process';
import { decodeOrBlame } from './decode-or-blame.ts';
import { badAudio, probeAudio } from './probe-audio.ts';
import { readWavInfo } from './wav.ts';

/** An upload, decoded. */
export interface IngestedAudio {
  /** 1 when the upload is mono, otherwise 2. */
  readonly channels: number;
  /** Samples a channel at 48 kHz. */
  readonly samples: number;
  /** Path of the WAV: 48 kHz, 16 bits. */
  readonly deliveryWav: string;
}

/** Limits of {@link ingestAudio}. */
export interface AudioLimits {
  /** Longest audio in seconds; 4 hours unless given. */
  readonly maxSeconds?: number;
  readonly signal?: AbortSignal;
  /** Runs what may write so many bytes; refuses when they have no room. Unlimited unless given. */
  readonly room?: (bytes: number, work: () => Promise<void>) => Promise<void>;
}

const MAX_AUDIO_SECONDS = 4 * 3600;

/** 16 bits. */
const BYTES_PER_SAMPLE = 2;

/** What a file says of its length may be an estimate. */
const ESTIMATE_MARGIN = 1.02;

/** Four hours of MP3 take about a minute on an idle core. */
const DECODE_TIMEOUT_MS = 60 * 60_000;

/**
 * Decodes an upload, once, to the WAV from which both the model's and the video's audio are made, so that the two can't
 * differ in what they skip at the beginning. Headers are not believed: the samples are counted.
 *
 * @param outDir existing folder; `delivery.wav` is written there.
 * @throws FarmError `invalid_argument` (field `audio`) when it is no audio, holds a video, is empty, too long or damaged;
 *   `unavailable` when aborted; what `room` throws.
 */
export async function ingestAudio(
  ffmpeg: Ffmpeg,
  path: string,
  outDir: string,
  { maxSeconds = MAX_AUDIO_SECONDS, signal, room = (_, work) => work() }: AudioLimits = {},
): Promise<IngestedAudio> {
  const source = await probeAudio(ffmpeg, path, signal);
  const channels = source.channels === 1 ? 1 : 2;
  const deliveryWav = join(outDir, 'delivery.wav');
  const decode = async (seconds: number): Promise<number> => {
    // One second more than allowed, to tell "too long" from "just right" without decoding days of audio.
    const longest = Math.ceil(seconds) + 1;
    const argv = [
      ...[...QUIET, ...LOCAL_ONLY, ...source.input, '-map', '0:a:0'],
      ...['-map_metadata', '-1', '-fflags', '+bitexact', '-flags:a', '+bitexact'],
      ...['-t', String(longest), '-ac', String(channels), '-ar', String(DELIVERY_SAMPLE_RATE)],
      ...['-c:a', 'pcm_s16le', '-f', 'wav', deliveryWav],
    ];
    const options = { timeoutMs: DECODE_TIMEOUT_MS, ...(signal === undefined ? {} : { signal }) };
    await room(longest * DELIVERY_SAMPLE_RATE * channels * BYTES_PER_SAMPLE, () =>
      decodeOrBlame(runLimited(ffmpeg, 'ffmpeg', argv, AUDIO_LIMITS, options), path, (why) =>
        badAudio(`it can't be decoded to the end: ${why}`, 'If it plays well, convert it to WAV and submit that.'),
      ),
    );
    return (await readWavInfo(deliveryWav)).samples;
  };
  const expected = Math.min(maxSeconds, (source.claimedSeconds ?? maxSeconds) * ESTIMATE_MARGIN + 1);
  let samples = await decode(expected);
  // It says less than it has: an honest estimate of a variable bit rate, or a trick.
  if (samples > expected * DELIVERY_SAMPLE_RATE && expected < maxSeconds) samples = await decode(maxSeconds);
  if (samples === 0) throw badAudio('it holds no sound at all');
  if (samples > maxSeconds * DELIVERY_SAMPLE_RATE) throw badAudio(`it is longer than ${maxSeconds / 3600} h`);
  return { channels, samples, deliveryWav };
}

/**
 * Makes the audio that conditions the model: 16 kHz, mono, 16-bit WAV.
 *
 * @param deliveryWav as {@link ingestAudio} wrote it.
 * @param minSamples16k fewest samples; what is missing is silence at the end.
 * @param out path of the WAV to write; an existing one is replaced.
 */
export async function modelWav(
  ffmpeg: Ffmpeg,
  deliveryWav: string,
  minSamples16k: number,
  out: string,
  signal?: AbortSignal,
): Promise<void> {
  const argv = [
    ...[...QUIET, '-xerror', ...LOCAL_ONLY, '-f', 'wav', '-i', deliveryWav, '-map', '0:a:0'],
    '-af',
    `aformat=sample_rates=${MODEL_SAMPLE_RATE}:channel_layouts=mono,apad=whole_len=${minSamples16k}`,
    ...['-fflags', '+bitexact', '-flags:a', '+bitexact', '-c:a', 'pcm_s16le', '-f', 'wav', out],
  ];
  const options = { timeoutMs: DECODE_TIMEOUT_MS, ...(signal === undefined ? {} : { signal }) };
  await runTool(ffmpeg.ffmpeg, argv, options);
}
