/** Portraits: whether one can be used, and the picture that the model is given of it. */
import { readFile } from 'node:fs/promises';
import { LOCAL_ONLY, QUIET } from '@clipfarm/shared/media/encode';
import type { Ffmpeg } from '@clipfarm/shared/media/ffmpeg';
import { PICTURE_LIMITS, runLimited } from '@clipfarm/shared/media/limited';
import { badImage } from './bad-image.ts';
import { decodeOrBlame } from './decode-or-blame.ts';
import { type ImageHeader, PIXEL_LIMIT, readImageHeader } from './image-header.ts';
import { essentialPng } from './image-metadata.ts';

/** A picture that can be used. */
export interface ImageInfo {
  readonly format: ImageHeader['format'];
  /** Pixels, standing upright. */
  readonly width: number;
  /** Pixels, standing upright. */
  readonly height: number;
}

interface Size {
  readonly width: number;
  readonly height: number;
}

const PICTURE_TIMEOUT_MS = 120_000;

/** Bit-exact, so that every coordinator makes the same file of the same upload. */
const SCALE_FLAGS = 'lanczos+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact';

/** What transparent pixels stand on. */
const BACKGROUND = 'white';

/**
 * Share of the height that is cut at the top, when the picture is too high; the rest is cut at the bottom. Heads have
 * little room above them and should keep it; of the chest less is missed.
 */
const CUT_ABOVE = 0.25;

/** Filters that turn a picture upright, by EXIF orientation 1 to 8. */
const UPRIGHT = [
  'null',
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
export async function probeImage(ffmpeg: Ffmpeg, path: string, signal?: AbortSignal): Promise<ImageInfo> {
  const header = await readImageHeader(path);
  await decodePicture(ffmpeg, header, path, ['-frames:v', '1', '-f', 'null', '-'], signal);
  return { format: header.format, ...uprightSize(header) };
}

/**
 * Makes the picture that the model is given: upright by its EXIF orientation, on white where it is transparent, cut to
 * the aspect of `size` (of the width the same on both sides, of the height a quarter above and the rest below) and scaled
 * to exactly that size, so that upstream adds no black bars. It is an RGB PNG of 8 bits a channel with nothing but
 * pixels: grey, palette, 16-bit and CMYK pictures become RGB; colour profiles are ignored, as upstream does.
 *
 * @param size pixels.
 * @param out path of the PNG to write; an existing one is replaced.
 * @throws FarmError as {@link probeImage}.
 */
export async function prepareReference(
  ffmpeg: Ffmpeg,
  path: string,
  size: Size,
  out: string,
  signal?: AbortSignal,
): Promise<void> {
  const header = await readImageHeader(path);
  const source = uprightSize(header);
  const { x, y, width, height } = cropOf(source, size);
  const upright = UPRIGHT[header.orientation - 1] ?? 'null';
  // No JPEG is transparent.
  const solid = header.format === 'jpeg' ? `[in]${upright}` : onBackground(upright, source);
  const filters = [
    `${solid},crop=${width}:${height}:${x}:${y}`,
    `scale=${size.width}:${size.height}:flags=${SCALE_FLAGS}`,
    // Profiles and primaries would be written into the PNG.
    'format=rgb24,sidedata=mode=delete,setparams=color_primaries=unknown:color_trc=unknown[out]',
  ];
  const argv = [
    ...['-vf', filters.join(',')],
    ...['-frames:v', '1', '-map_metadata', '-1', '-fflags', '+bitexact', '-flags:v', '+bitexact'],
    ...['-c:v', 'png', '-f', 'image2', '-update', '1', out],
  ];
  await decodePicture(ffmpeg, header, path, argv, signal);
}

/** The largest part of a picture that has the aspect of `size`; see {@link prepareReference} for where it lies. */
export function cropOf(source: Size, size: Size): Size & { readonly x: number; readonly y: number } {
  const scale = Math.min(source.width / size.width, source.height / size.height);
  const width = Math.min(source.width, Math.round(size.width * scale));
  const height = Math.min(source.height, Math.round(size.height * scale));
  const x = Math.floor((source.width - width) / 2);
  return { x, y: Math.floor((source.height - height) * CUT_ABOVE), width, height };
}

/** Filters that lay an upright picture on the background, at its own size: hidden colours must not bleed in. */
function onBackground(upright: string, { width, height }: Size): string {
  const ground = `color=${BACKGROUND}:s=${width}x${height},format=rgba[ground]`;
  return `${ground};[in]${upright},format=rgba[picture];[ground][picture]overlay=format=rgb:shortest=1`;
}

function uprightSize({ width, height, orientation }: ImageHeader): Size {
  return orientation >= 5 ? { width: height, height: width } : { width, height };
}

/** The reader is forced: FFmpeg would take a percent sign in the path for a pattern, or believe a crafted file. */
async function decodePicture(
  ffmpeg: Ffmpeg,
  { format }: ImageHeader,
  path: string,
  output: readonly string[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const stdin = format === 'png' ? essentialPng(await readFile(path)) : undefined;
  const input = ['-f', `${format}_pipe`, ...PIXEL_LIMIT, '-noautorotate', '-i', stdin === undefined ? path : 'pipe:0'];
  const argv = [...QUIET, '-xerror', ...LOCAL_ONLY, ...input, ...output];
  const options = { timeoutMs: PICTURE_TIMEOUT_MS, ...(stdin && { stdin }), ...(signal && { signal }) };
  const run = runLimited(ffmpeg, 'ffmpeg', argv, PICTURE_LIMITS, options);
  await decodeOrBlame(run, stdin === undefined ? path : 'pipe:0', (why) => badImage(`it can't be decoded: ${why}`));
}
