/** Small media made by the real FFmpeg, for tests and benchmarks. */
import { join } from 'node:path';
import { clipEncoderArgs, LOCAL_ONLY, QUIET } from '@clipfarm/shared/media/encode';
import type { Ffmpeg } from '@clipfarm/shared/media/ffmpeg';
import { CLIP_FRAMES, clipsForFrames, framesInClip } from '@clipfarm/shared/model/clip';
import { runTool } from '@clipfarm/shared/process';

const timeoutMs = 60_000;

/** Picture size and length of what is made. */
export interface FixtureSize {
  readonly width: number;
  readonly height: number;
  /** Frames in all. */
  readonly frames: number;
}

/** Runs ffmpeg quietly; returns its standard output. */
export async function ffmpegOutput(ffmpeg: Ffmpeg, argv: readonly string[]): Promise<string> {
  return (await runTool(ffmpeg.ffmpeg, [...QUIET, ...argv], { timeoutMs })).stdout.toString('utf8');
}

/**
 * Raw rgb24 frames, each different from the 127 around it: a moving gradient and blocks. At 704x384 a chunk has about as
 * many bytes as one of a talking head (200 KB).
 */
export function rawFrames(width: number, height: number, first: number, count: number): Buffer {
  const data = Buffer.alloc(width * height * 3 * count);
  let at = 0;
  for (let frame = first; frame < first + count; frame++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        data[at++] = (x + frame * 2) & 255;
        data[at++] = (y + frame) & 255;
        data[at++] = ((x >> 2) ^ ((y >> 2) + frame)) & 255;
      }
    }
  }
  return data;
}

/** Encodes one chunk of {@link rawFrames} as a node does. */
export async function makeChunk(ffmpeg: Ffmpeg, output: string, size: FixtureSize, first = 0): Promise<string> {
  const { width, height, frames } = size;
  const stdin = rawFrames(width, height, first, frames);
  await runTool(ffmpeg.ffmpeg, clipEncoderArgs({ width, height, output }), { stdin, timeoutMs });
  return output;
}

/** Encodes every chunk of a job; the last one may be short. @returns paths in the order of the clips */
export async function makeChunks(ffmpeg: Ffmpeg, dir: string, size: FixtureSize): Promise<readonly string[]> {
  const chunks: string[] = [];
  for (let clip = 0; clip < clipsForFrames(size.frames); clip++) {
    const part = { ...size, frames: framesInClip(clip, size.frames) };
    chunks.push(await makeChunk(ffmpeg, join(dir, `chunk-${clip}.mp4`), part, clip * CLIP_FRAMES));
  }
  return chunks;
}

/** A file of sound: a tone that rises, so that every moment differs. Options go between the source and the output. */
export async function makeSound(
  ffmpeg: Ffmpeg,
  output: string,
  sound: { readonly seconds: number; readonly sampleRate: number; readonly channels: number },
  options: readonly string[] = [],
): Promise<string> {
  const tones = Array.from({ length: sound.channels }, (_, i) => `0.4*sin(2*PI*t*(${200 + i * 60}+40*t))`).join('|');
  const source = `aevalsrc=exprs=${tones}:s=${sound.sampleRate}:d=${sound.seconds}`;
  await ffmpegOutput(ffmpeg, ['-f', 'lavfi', '-i', source, ...options, output]);
  return output;
}

/** MD5 of every decoded frame of the video in a file, in order. */
export async function frameHashes(ffmpeg: Ffmpeg, path: string): Promise<readonly string[]> {
  const lines = await ffmpegOutput(ffmpeg, [
    '-xerror',
    ...LOCAL_ONLY,
    '-i',
    path,
    '-map',
    '0:v:0',
    '-f',
    'framemd5',
    '-',
  ]);
  return lines.split('\n').flatMap((line) => (line.startsWith('#') ? [] : (line.split(',')[5]?.trim() ?? [])));
}
