import { copyFile, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FarmError } from '@clipfarm/shared/errors';
import { hashFile } from '@clipfarm/shared/hash-file';
import { LOCAL_ONLY, QUIET } from '@clipfarm/shared/media/encode';
import { type Ffmpeg, findFfmpeg } from '@clipfarm/shared/media/ffmpeg';
import { CLIP_FRAMES, CLIP_SECONDS } from '@clipfarm/shared/model/clip';
import { runTool } from '@clipfarm/shared/process';
import { encodeDeliveryAudio } from '../../coordinator/src/media/delivery-audio.ts';
import { GrowingMp4 } from '../../coordinator/src/media/growing-mp4.ts';
import { makeChunk, makeSound } from '../../coordinator/src/media/media-fixtures.ts';
import { verifyVideo } from '../../coordinator/src/media/verify-video.ts';

/** What {@link benchStitch} stitches. */
export interface StitchBenchOptions {
  /** Clips of the video; 1563 are 50 minutes. */
  readonly clips: number;
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;
  /** Folder for the temporary files; the system's unless given. */
  readonly dir?: string;
}

/** One way of making the file, or one part of it. */
export interface StitchBenchRow {
  readonly name: string;
  readonly seconds: number;
  /** How many times as long as `cp` of the finished file. */
  readonly timesCp: number;
}

const TOOL_TIMEOUT_MS = 30 * 60_000;

/**
 * Times how a finished video is made of its chunks: by the growing file, by `cp` of the same bytes as the floor, and by
 * FFmpeg's concat demuxer. Every chunk is a file of its own with the same content; the page cache is warm.
 *
 * @throws FarmError `internal` when the stitched video fails verification.
 */
export async function benchStitch(options: StitchBenchOptions): Promise<readonly StitchBenchRow[]> {
  const ffmpeg = await findFfmpeg();
  const dir = await mkdtemp(join(options.dir ?? tmpdir(), 'clipfarm-bench-'));
  try {
    const input = await makeInput(ffmpeg, dir, options);
    const path = join(dir, 'growing.mp4');
    const { allSeconds, lastSeconds } = await timeGrowing(path, options, input);
    const verifySeconds = await timed(() => mustVerify(ffmpeg, path, options));
    const copy = join(dir, 'copy.mp4');
    const cpSeconds = await timed(() => runTool('cp', [path, copy], { timeoutMs: TOOL_TIMEOUT_MS }));
    const cpSyncSeconds = await timed(() => runTool('sync', [copy], { timeoutMs: TOOL_TIMEOUT_MS }));
    await rm(copy);
    const concatSeconds = await timed(() => concat(ffmpeg, dir, input));
    const megabytes = Math.round((await stat(path)).size / 1e6);
    const row = (name: string, seconds: number) => ({ name, seconds, timesCp: seconds / cpSeconds });
    return [
      row(`cp of the finished file, ${megabytes} MB`, cpSeconds),
      row('cp, then sync', cpSeconds + cpSyncSeconds),
      row(`growing file: all ${options.clips} chunks, durable and named`, allSeconds),
      row('growing file: last chunk to durable and named file', lastSeconds),
      row('verification of the finished file', verifySeconds),
      row('FFmpeg concat with faststart, not durable', concatSeconds),
    ];
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

interface Input {
  readonly chunks: readonly string[];
  readonly audio: string;
}

async function makeInput(ffmpeg: Ffmpeg, dir: string, { clips, width, height }: StitchBenchOptions): Promise<Input> {
  const first = await makeChunk(ffmpeg, join(dir, 'chunk.mp4'), { width, height, frames: CLIP_FRAMES });
  const chunks: string[] = [];
  for (let clip = 0; clip < clips; clip++) {
    const path = join(dir, `chunk-${clip}.mp4`);
    await copyFile(first, path);
    chunks.push(path);
  }
  const sound = { seconds: clips * CLIP_SECONDS, sampleRate: 48_000, channels: 1 };
  const wav = await makeSound(ffmpeg, join(dir, 'sound.wav'), sound);
  const audio = join(dir, 'sound.m4a');
  await encodeDeliveryAudio(ffmpeg, wav, { frames: clips * CLIP_FRAMES, out: audio });
  await rm(wav);
  return { chunks, audio };
}

async function timeGrowing(
  path: string,
  { clips, width, height }: StitchBenchOptions,
  { chunks, audio }: Input,
): Promise<{ readonly allSeconds: number; readonly lastSeconds: number }> {
  // Every chunk has the same content.
  const sha256 = await hashFile(chunks[0] ?? '');
  let lastStarted = 0;
  const allSeconds = await timed(async () => {
    const totalFrames = clips * CLIP_FRAMES;
    const video = await GrowingMp4.create({ path, width, height, totalFrames, clips, audio: Promise.resolve(audio) });
    for (const chunk of chunks) {
      lastStarted = performance.now();
      await video.append(chunk, sha256);
    }
    await video.finish();
  });
  return { allSeconds, lastSeconds: (performance.now() - lastStarted) / 1000 };
}

async function mustVerify(ffmpeg: Ffmpeg, path: string, { clips, width, height }: StitchBenchOptions): Promise<void> {
  const frames = clips * CLIP_FRAMES;
  const { checks } = await verifyVideo(ffmpeg, path, { width, height, frames, audioSamples: frames * 1920 });
  const bad = checks.filter((check) => !check.ok);
  if (bad.length > 0) throw new FarmError('internal', `the stitched video is wrong: ${JSON.stringify(bad)}`);
}

async function concat(ffmpeg: Ffmpeg, dir: string, { chunks, audio }: Input): Promise<void> {
  const list = join(dir, 'list.txt');
  await writeFile(list, ['ffconcat version 1.0', ...chunks.map((chunk) => `file '${chunk}'`), ''].join('\n'));
  const inputs = [...LOCAL_ONLY, '-f', 'concat', '-safe', '0', '-i', list, ...LOCAL_ONLY, '-i', audio];
  const output = ['-map', '0:v:0', '-map', '1:a:0', '-c', 'copy', '-movflags', '+faststart', join(dir, 'concat.mp4')];
  await runTool(ffmpeg.ffmpeg, [...QUIET, ...inputs, ...output], { timeoutMs: TOOL_TIMEOUT_MS });
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}
