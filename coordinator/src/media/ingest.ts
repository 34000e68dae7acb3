import { join } from 'node:path';
import { FarmError } from '@clipfarm/shared/errors';
import { LOCAL_ONLY, QUIET } from '@clipfarm/shared/media/encode';
import type { Ffmpeg } from '@clipfarm/shared/media/ffmpeg';
import { DELIVERY_SAMPLE_RATE, MODEL_SAMPLE_RATE } from '@clipfarm/shared/model/clip';
import { runTool } from '@clipfarm/shared/process';
import { badImage, type ImageHeader, PIXEL_LIMIT, readImageHeader } from './image-header.ts';
import { badAudio, probeAudio, shortComplaint } from './probe-audio.ts';
import { readWavInfo } from './wav.ts';

/** A picture that can be used. */
export interface ImageInfo {
  readonly format: ImageHeader['format'];
  /** Pixels, standing upright. */
  readonly width: number;
  /** Pixels, standing upright. */
  readonly height: number;
}

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
}

const MAX_AUDIO_SECONDS = 4 * 3600;
const PICTURE_TIMEOUT_MS = 120_000;

/** Four hours of MP3 take about a minute on an idle core. */
const DECODE_TIMEOUT_MS = 60 * 60_000;

/** Bit-exact, so that every coordinator makes the same file of the same upload. */
const SCALE_FLAGS = 'lanczos+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact';

/** Filters that turn a picture upright, by EXIF orientation 1 to 8. */
const UPRIGHT = [
  '',
  'hflip',
  'hflip,vflip',
  'vflip',
  'transpose=0',
  'transpose=1',
  'transpose=3',
  'transpose=2',
] as const;

/**
 * Makes sure that a picture can be decoded and tells its size. Its dimensions are checked before it is decoded.
 *
 * @throws FarmError `invalid_argument` (field `image`) when it is no still PNG, JPEG or WebP, too large or damaged.
 */
export async function probeImage(ffmpeg: Ffmpeg, path: string): Promise<ImageInfo> {
  const header = await readImageHeader(path);
  const argv = [...QUIET, '-xerror', ...imageInput(header, path), '-frames:v', '1', '-f', 'null', '-'];
  await decodePicture(ffmpeg, argv, path);
  return { format: header.format, ...uprightSize(header) };
}

/**
 * Makes the picture that the model is given: upright, cut around its centre to the aspect of `size`, scaled to exactly
 * that size, as an RGB PNG without alpha.
 *
 * @param size pixels.
 * @param out path of the PNG to write; an existing one is replaced.
 * @throws FarmError as {@link probeImage}.
 */
export async function prepareReference(
  ffmpeg: Ffmpeg,
  path: string,
  size: { readonly width: number; readonly height: number },
  out: string,
): Promise<void> {
  const header = await readImageHeader(path);
  const source = uprightSize(header);
  const scale = Math.min(source.width / size.width, source.height / size.height);
  const width = Math.min(source.width, Math.round(size.width * scale));
  const height = Math.min(source.height, Math.round(size.height * scale));
  const filters = [
    UPRIGHT[header.orientation - 1],
    `crop=${width}:${height}:${Math.floor((source.width - width) / 2)}:${Math.floor((source.height - height) / 2)}`,
    `scale=${size.width}:${size.height}:flags=${SCALE_FLAGS}`,
    'format=rgb24',
  ];
  const argv = [
    ...[...QUIET, '-xerror', ...imageInput(header, path), '-vf', filters.filter((filter) => filter !== '').join(',')],
    ...['-frames:v', '1', '-map_metadata', '-1', '-fflags', '+bitexact', '-flags:v', '+bitexact'],
    ...['-c:v', 'png', '-f', 'image2', '-update', '1', out],
  ];
  await decodePicture(ffmpeg, argv, path);
}

/**
 * Decodes an upload, once, to the WAV from which both the model's and the video's audio are made, so that the two can't
 * differ in what they skip at the beginning. Headers are not believed: the samples are counted.
 *
 * @param outDir existing folder; `delivery.wav` is written there.
 * @throws FarmError `invalid_argument` (field `audio`) when it is no audio, holds a video, is empty, too long or damaged;
 *   `unavailable` when aborted.
 */
export async function ingestAudio(
  ffmpeg: Ffmpeg,
  path: string,
  outDir: string,
  { maxSeconds = MAX_AUDIO_SECONDS, signal }: AudioLimits = {},
): Promise<IngestedAudio> {
  const source = await probeAudio(ffmpeg, path);
  const channels = source.channels === 1 ? 1 : 2;
  const deliveryWav = join(outDir, 'delivery.wav');
  const argv = [
    ...[...QUIET, ...LOCAL_ONLY, ...source.input, '-map', '0:a:0'],
    ...['-map_metadata', '-1', '-fflags', '+bitexact', '-flags:a', '+bitexact'],
    // One second more than allowed, to tell "too long" from "just right" without decoding days of audio.
    ...['-t', String(maxSeconds + 1), '-ac', String(channels), '-ar', String(DELIVERY_SAMPLE_RATE)],
    ...['-c:a', 'pcm_s16le', '-f', 'wav', deliveryWav],
  ];
  const options = { timeoutMs: DECODE_TIMEOUT_MS, ...(signal === undefined ? {} : { signal }) };
  await decodeOrBlame(runTool(ffmpeg.ffmpeg, argv, options), path, (why) =>
    badAudio(`it can't be decoded to the end: ${why}`, 'If it plays well, convert it to WAV and submit that.'),
  );
  const { samples } = await readWavInfo(deliveryWav);
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
export async function modelWav(ffmpeg: Ffmpeg, deliveryWav: string, minSamples16k: number, out: string): Promise<void> {
  const argv = [
    ...[...QUIET, '-xerror', ...LOCAL_ONLY, '-f', 'wav', '-i', deliveryWav, '-map', '0:a:0'],
    '-af',
    `aformat=sample_rates=${MODEL_SAMPLE_RATE}:channel_layouts=mono,apad=whole_len=${minSamples16k}`,
    ...['-fflags', '+bitexact', '-flags:a', '+bitexact', '-c:a', 'pcm_s16le', '-f', 'wav', out],
  ];
  await runTool(ffmpeg.ffmpeg, argv, { timeoutMs: DECODE_TIMEOUT_MS });
}

function uprightSize({ width, height, orientation }: ImageHeader): { readonly width: number; readonly height: number } {
  return orientation >= 5 ? { width: height, height: width } : { width, height };
}

/** The reader is forced: FFmpeg would take a percent sign in the path for a pattern, or believe a crafted file. */
function imageInput({ format }: ImageHeader, path: string): readonly string[] {
  return [...LOCAL_ONLY, '-f', `${format}_pipe`, ...PIXEL_LIMIT, '-noautorotate', '-i', path];
}

async function decodePicture(ffmpeg: Ffmpeg, argv: readonly string[], path: string): Promise<void> {
  const run = runTool(ffmpeg.ffmpeg, argv, { timeoutMs: PICTURE_TIMEOUT_MS });
  await decodeOrBlame(run, path, (why) => badImage(`it can't be decoded: ${why}`));
}

/** FFmpeg ends well after some kinds of damage, so anything that it complains about counts. */
async function decodeOrBlame(
  run: ReturnType<typeof runTool>,
  path: string,
  blame: (why: string) => FarmError,
): Promise<void> {
  let complaint: string;
  try {
    complaint = (await run).stderr.trim();
  } catch (error) {
    if (!(error instanceof FarmError) || error.code !== 'internal') throw error;
    complaint = error.message;
  }
  if (complaint !== '') throw blame(shortComplaint(complaint, path));
}
