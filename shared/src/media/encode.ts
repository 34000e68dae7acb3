import { CLIP_FRAMES, FPS } from '../model/clip.ts';

/** Ticks a second of the video track: whole for 25 fps and what FFmpeg itself would choose. */
export const VIDEO_TIMESCALE = 12_800;

/** Ticks of one frame. */
export const TICKS_PER_FRAME = VIDEO_TIMESCALE / FPS;

/** A picture size in pixels and where to write. */
export interface EncodeTarget {
  readonly width: number;
  readonly height: number;
  /** Absolute path of the file to write; an existing one is replaced. */
  readonly output: string;
}

/** Closed groups of one clip without B-frames: no negative or reordered times, so cutting and joining is exact. */
const X264_PARAMS = `keyint=${CLIP_FRAMES}:min-keyint=${CLIP_FRAMES}:scenecut=0:open-gop=0:bframes=0:stitchable=1`;

/**
 * Arguments of the ffmpeg that encodes one chunk: raw rgb24 frames (height x width x 3 bytes each, at most one clip)
 * on standard input, an MP4 at `output`.
 *
 * Chunks from different hosts share one stream header in the finished file, so every host must use exactly these:
 * `stitchable` keeps the header independent of the quality, the preset fixes the rest. `-colorspace` only tags; the
 * scale filter converts, because FFmpeg would otherwise turn RGB to YUV by BT.601. There is no `-write_btrt 0`,
 * because FFmpeg before 5.1 does not know it; readers of a chunk ignore that box.
 */
export function clipEncoderArgs({ width, height, output }: EncodeTarget): readonly string[] {
  return [
    ...rawInput(width, height),
    ...['-map', '0:v:0', '-vf', 'scale=out_color_matrix=bt709:out_range=tv'],
    ...['-c:v', 'libx264', '-preset', 'veryfast', '-crf', '16', '-pix_fmt', 'yuv420p'],
    ...['-color_range', 'tv', '-colorspace', 'bt709', '-color_primaries', 'bt709', '-color_trc', 'bt709'],
    ...['-x264-params', X264_PARAMS],
    ...['-an', '-video_track_timescale', String(VIDEO_TIMESCALE), '-f', 'mp4', output],
  ];
}

/** Arguments of the ffmpeg that writes the one raw rgb24 frame on its standard input as a lossless PNG. */
export function pngEncoderArgs({ width, height, output }: EncodeTarget): readonly string[] {
  // `-update 1` also keeps a percent sign in the path from being read as a pattern.
  return [...rawInput(width, height), '-frames:v', '1', '-c:v', 'png', '-f', 'image2', '-update', '1', output];
}

/** First arguments of every ffmpeg: no questions, errors only, replace the output. */
export const QUIET = ['-nostdin', '-hide_banner', '-v', 'error', '-y'] as const;

/** First arguments of every input: nothing but files and pipes, whatever a crafted file refers to. */
export const LOCAL_ONLY = ['-protocol_whitelist', 'file,pipe'] as const;

function rawInput(width: number, height: number): readonly string[] {
  const format = ['-f', 'rawvideo', '-pix_fmt', 'rgb24', '-s', `${width}x${height}`, '-r', String(FPS)];
  return [...QUIET, ...LOCAL_ONLY, ...format, '-i', 'pipe:0'];
}
