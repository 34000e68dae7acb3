import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { jobHash, type ReadStamp, readStamp } from '../../node-agent/runner/synthetic/stamp.ts';
import { type Farm, SAMPLE } from './farm.ts';

const run = promisify(execFile);

const LIMIT = { maxBuffer: 512 * 1024 * 1024, encoding: 'buffer' as const };

/** Cuts the sample talk, said over and over, into an audio file; the extension of `out` chooses the format. */
export async function cutAudio(
  out: string,
  cut: { readonly seconds: number; readonly rate?: number; readonly channels?: number; readonly start?: number },
): Promise<string> {
  const { seconds, rate = 48_000, channels = 1, start = 0 } = cut;
  const from = ['-nostdin', '-v', 'error', '-y', '-stream_loop', '-1', '-ss', String(start), '-i', SAMPLE.audio];
  await run('ffmpeg', [...from, '-t', String(seconds), '-vn', '-ac', String(channels), '-ar', String(rate), out]);
  return out;
}

/** Decodes a file's sound to 48 kHz mono samples, as a reference that shares no code with the product. */
export async function pcmOf(path: string): Promise<Int16Array> {
  const args = ['-nostdin', '-v', 'error', '-i', path, '-map', '0:a:0', '-ac', '1', '-ar', '48000', '-f', 's16le', '-'];
  const { stdout } = await run('ffmpeg', args, LIMIT);
  return new Int16Array(stdout.buffer, stdout.byteOffset, stdout.length >> 1);
}

/** Frames of a video whose audio has that many samples at 48 kHz: round(25 x seconds), halves up. */
export function promisedFrames(samples: number): number {
  return Math.floor((samples * 50 + 48_000) / 96_000);
}

/** Reads the stamp of every frame of a video, in order; null where it can't be read. */
export async function stampsOf(path: string, width: number, height: number): Promise<(ReadStamp | null)[]> {
  const args = ['-nostdin', '-v', 'error', '-xerror', '-i', path, '-map', '0:v:0', '-vsync', 'passthrough'];
  const child = spawn('ffmpeg', [...args, '-pix_fmt', 'gray', '-f', 'rawvideo', '-'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const closed = once(child, 'close');
  const stamps: (ReadStamp | null)[] = [];
  const size = width * height;
  let rest = Buffer.alloc(0);
  for await (const piece of child.stdout) {
    rest = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
    let offset = 0;
    for (; rest.length - offset >= size; offset += size)
      stamps.push(readStamp(rest.subarray(offset, offset + size), width, height));
    rest = rest.subarray(offset);
  }
  const [code] = await closed;
  assert.equal(code, 0, 'the video decodes without a complaint');
  assert.equal(rest.length, 0, 'the video holds whole frames');
  return stamps;
}

/** What {@link identifyFrames} expects. */
export interface ExpectedFrames {
  readonly jobId: string;
  readonly frames: number;
  readonly baseSeed: number;
}

/**
 * Proves that frame i of a video is frame i of the job: every stamp is readable and belongs to this job, its clip and
 * seed follow from its frame, and only frames 0 to 2 repeat frame 3, because the model loses the first three of a call.
 */
export function identifyFrames(stamps: readonly (ReadStamp | null)[], expected: ExpectedFrames): void {
  assert.equal(stamps.length, expected.frames, 'the number of frames');
  for (const [index, stamp] of stamps.entries()) {
    assert.ok(stamp, `frame ${index} carries a stamp`);
    const frame = Math.max(index, 3);
    const clip = Math.floor(frame / 48);
    const found = { job: stamp.job, frame: stamp.frame, clip: stamp.clip, seed: stamp.seed };
    const seed = (expected.baseSeed + clip) % 2 ** 32;
    assert.deepEqual(found, { job: jobHash(expected.jobId), frame, clip, seed }, `frame ${index}`);
  }
}

/** Downloads a job's video and proves every frame. @returns clips of which superfluous chunks came */
export async function prove(farm: Farm, jobId: string, seconds = 300): Promise<number> {
  const { job, path } = await farm.video(jobId, seconds);
  const { width, height, frames } = job.plan ?? assert.fail('no plan');
  identifyFrames(await stampsOf(path, width, height), { jobId, frames, baseSeed: job.spec?.settings?.baseSeed ?? -1 });
  return job.result?.clipsRerendered ?? -1;
}

/**
 * By how many samples `b` comes after `a`, found by correlating a window around `at`; and how well they agree there.
 *
 * @returns lag in samples at 48 kHz (positive: `b` is late) and the correlation at it, 1 for equal shapes
 */
export function lagAt(a: Int16Array, b: Int16Array, at: number, window = 24_000, reach = 2400) {
  let best = { lag: 0, correlation: Number.NEGATIVE_INFINITY };
  const from = Math.max(reach, Math.min(at, a.length - window - reach));
  for (let lag = -reach; lag <= reach; lag++) {
    let dot = 0;
    let aa = 0;
    let bb = 0;
    for (let i = from; i < from + window; i += 3) {
      const x = a[i] ?? 0;
      const y = b[i + lag] ?? 0;
      dot += x * y;
      aa += x * x;
      bb += y * y;
    }
    const correlation = dot / Math.sqrt(aa * bb || 1);
    if (correlation > best.correlation) best = { lag, correlation };
  }
  return best;
}
