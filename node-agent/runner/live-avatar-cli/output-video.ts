import { spawn } from 'node:child_process';
import { FarmError } from '@clipfarm/shared/errors';
import { LOCAL_ONLY, QUIET } from '@clipfarm/shared/media/encode';
import { FPS } from '@clipfarm/shared/model/clip';
import { runTool } from '@clipfarm/shared/process';
import { toolEnvironment } from '@clipfarm/shared/tool-environment';
import { z } from 'zod';
import { RunnerFailure } from '../common/runner-failure.ts';

/** What upstream's file must be. */
export interface ExpectedVideo {
  readonly width: number;
  readonly height: number;
  readonly frames: number;
}

/** A slice that ends wrong is an error as well; by itself FFmpeg fills the gap with what was there before. */
const STRICT = ['-err_detect', 'explode', '-xerror'] as const;

/** What is left of a program's complaints. */
const STDERR_BYTES = 4096;

const probed = z.object({
  streams: z.array(
    z.object({
      codec_type: z.string(),
      codec_name: z.string().optional(),
      width: z.number().optional(),
      height: z.number().optional(),
      pix_fmt: z.string().optional(),
      r_frame_rate: z.string().optional(),
      nb_read_packets: z.string().optional(),
    }),
  ),
});

/**
 * Compares a file with what the call must have made, whatever upstream's exit status was: it ends with 0 also where
 * saving or muxing failed. Returns remarks on what is wrong but does no harm.
 *
 * @throws RunnerFailure `crash` with what is there and what was expected; FarmError when aborted.
 */
export async function checkVideo(
  ffprobe: string,
  path: string,
  expected: ExpectedVideo,
  options: { readonly signal: AbortSignal; readonly timeoutMs: number },
): Promise<readonly string[]> {
  const entries = 'stream=codec_type,codec_name,width,height,pix_fmt,r_frame_rate,nb_read_packets';
  const argv = ['-v', 'error', ...LOCAL_ONLY, '-count_packets', '-show_entries', entries, '-of', 'json', path];
  const { streams } = await probe(ffprobe, argv, options);
  const videos = streams.filter((stream) => stream.codec_type === 'video');
  const [video] = videos;
  if (video === undefined || videos.length > 1) throw wrong(`holds ${videos.length} video streams; 1 was expected`);
  const found = `${video.codec_name} ${video.width}x${video.height} ${video.pix_fmt} at ${video.r_frame_rate} frames/s`;
  const wanted = `h264 ${expected.width}x${expected.height} yuv420p at ${FPS}/1 frames/s`;
  if (found !== wanted) throw wrong(`holds ${found}; ${wanted} was expected`);
  const frames = Number(video.nb_read_packets);
  if (frames !== expected.frames) {
    const numbers = { frames, expectedFrames: expected.frames };
    throw wrong(`has ${frames} frames; ${expected.frames} were expected`, numbers);
  }
  // The farm puts the audio in itself.
  return streams.some((stream) => stream.codec_type === 'audio')
    ? []
    : ['upstream could not add the audio to its video'];
}

/**
 * The frames of upstream's file in order, as rgb24. Upstream's encoder converts by BT.601 and says nothing about it, so
 * that is how it is converted back. A buffer is valid until the next one is asked for.
 *
 * @param expected the video's size, and how many frames it has
 * @param counts frames of each piece that is wanted, in order; what comes after them is not decoded
 * @throws RunnerFailure `crash` when the video is damaged or ends early; a damage may be found only after the frames
 * that show it, the last ones included. The signal's reason.
 */
export async function* decodeVideo(
  ffmpeg: string,
  path: string,
  expected: ExpectedVideo,
  counts: Iterable<number>,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  signal.throwIfAborted();
  const scale = 'scale=in_color_matrix=bt601:in_range=tv:out_range=pc:flags=bicubic+accurate_rnd+full_chroma_int';
  const argv = [
    ...[...QUIET, ...STRICT, ...LOCAL_ONLY, '-i', path, '-map', '0:v:0', '-vf', `${scale},format=rgb24`],
    ...['-f', 'rawvideo', 'pipe:1'],
  ];
  const child = spawn(ffmpeg, argv, { stdio: ['ignore', 'pipe', 'pipe'], env: toolEnvironment(process.env) });
  const closed = new Promise<number | null>((resolve) => {
    child.once('error', () => resolve(null));
    child.once('close', resolve);
  });
  const stop = (): void => void child.kill('SIGKILL');
  signal.addEventListener('abort', stop, { once: true });
  let complaint: Buffer = Buffer.alloc(0);
  child.stderr.on('data', (part: Buffer) => {
    complaint = Buffer.concat([complaint, part]).subarray(-STDERR_BYTES);
  });
  const frameBytes = expected.width * expected.height * 3;
  const pieces = counts[Symbol.iterator]();
  try {
    let piece = pieces.next();
    let buffer = Buffer.allocUnsafe(piece.done ? 0 : piece.value * frameBytes);
    let filled = 0;
    let left = expected.frames * frameBytes;
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
      for (let at = 0; at < chunk.length && !piece.done; ) {
        const part = Math.min(chunk.length - at, buffer.length - filled);
        chunk.copy(buffer, filled, at, at + part);
        at += part;
        filled += part;
        left -= part;
        if (filled < buffer.length) continue;
        yield buffer;
        piece = pieces.next();
        buffer = Buffer.allocUnsafe(piece.done ? 0 : piece.value * frameBytes);
        filled = 0;
      }
      if (piece.done && left > 0) return;
    }
    const code = await closed;
    signal.throwIfAborted();
    const said = complaint.toString('utf8').trim();
    // FFmpeg ends well after some kinds of damage, so anything that it complains about counts.
    if (piece.done && code === 0 && said === '') return;
    throw wrong(`can't be decoded to its end (status ${code})${said === '' ? '' : `: ${said}`}`);
  } finally {
    signal.removeEventListener('abort', stop);
    stop();
    await closed;
  }
}

async function probe(
  ffprobe: string,
  argv: readonly string[],
  options: { readonly signal: AbortSignal; readonly timeoutMs: number },
): Promise<z.infer<typeof probed>> {
  try {
    const { stdout } = await runTool(ffprobe, argv, options);
    return probed.parse(JSON.parse(stdout.toString('utf8')));
  } catch (error) {
    options.signal.throwIfAborted();
    throw wrong(`can't be read: ${FarmError.from(error).message}`);
  }
}

function wrong(what: string, numbers: Readonly<Record<string, number>> = {}): RunnerFailure {
  return new RunnerFailure('crash', `upstream's video ${what}`, numbers);
}
