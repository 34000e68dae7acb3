import { FarmError } from '@clipfarm/shared/errors';
import type { VerificationCheck } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { LOCAL_ONLY, QUIET } from '@clipfarm/shared/media/encode';
import type { Ffmpeg } from '@clipfarm/shared/media/ffmpeg';
import { FPS } from '@clipfarm/shared/model/clip';
import { type RunToolOptions, runTool } from '@clipfarm/shared/process';
import { z } from 'zod';
import { checkTables, type ExpectedVideo, type VideoVerification } from './verify-tables.ts';

/** Counting the packets of four hours takes seconds. */
const TIMEOUT_MS = 10 * 60_000;

const probeResult = z.object({
  streams: z.array(
    z.object({
      codec_type: z.string().optional(),
      codec_name: z.string().optional(),
      width: z.number().optional(),
      height: z.number().optional(),
      pix_fmt: z.string().optional(),
      color_range: z.string().optional(),
      color_space: z.string().optional(),
      sample_rate: z.string().optional(),
      nb_read_packets: z.string().optional(),
      start_time: z.string().optional(),
    }),
  ),
});

type ProbedStream = z.infer<typeof probeResult>['streams'][number];

/**
 * Checks a finished video: with a parser of our own what the tables promise, with FFmpeg what others will see, and by
 * decoding a second at the beginning, the middle and the end. What is wrong with the video is in the checks, not thrown.
 *
 * @throws FarmError `failed_precondition` when FFmpeg can't be run, `timeout` when it takes too long, `unavailable` when
 *   `signal` aborts.
 */
export async function verifyVideo(
  ffmpeg: Ffmpeg,
  path: string,
  expected: ExpectedVideo,
  signal?: AbortSignal,
): Promise<VideoVerification> {
  const limits = { timeoutMs: TIMEOUT_MS, ...(signal === undefined ? {} : { signal }) };
  const [tables, probed, decoded] = await Promise.all([
    checkTables(path, expected),
    checkAsSeenByFfprobe(ffmpeg, path, expected, limits),
    checkDecoding(ffmpeg, path, expected.frames / FPS, limits),
  ]);
  return { checks: [...tables.checks, ...probed, decoded], audioSeconds: tables.audioSeconds };
}

async function checkAsSeenByFfprobe(
  ffmpeg: Ffmpeg,
  path: string,
  expected: ExpectedVideo,
  limits: RunToolOptions,
): Promise<readonly VerificationCheck[]> {
  const fields =
    'codec_type,codec_name,width,height,pix_fmt,color_range,color_space,sample_rate,nb_read_packets,start_time';
  const argv = [
    '-v',
    'error',
    ...LOCAL_ONLY,
    '-count_packets',
    '-of',
    'json',
    '-show_entries',
    `stream=${fields}`,
    path,
  ];
  const complaint = await complaintOf(runTool(ffmpeg.ffprobe, argv, limits));
  if (complaint.text !== '') return [{ name: 'readable for players', ok: false, detail: complaint.text }];
  const { streams } = probeResult.parse(JSON.parse(complaint.stdout));
  const video = streams.find((stream) => stream.codec_type === 'video');
  const audio = streams.find((stream) => stream.codec_type === 'audio');
  return [
    {
      name: 'one picture and one sound track',
      ok: streams.length === 2 && video !== undefined && audio !== undefined,
      detail: `tracks: ${streams.map((stream) => stream.codec_type ?? 'unknown').join(', ') || 'none'}`,
    },
    {
      name: 'frames counted in the file',
      ok: video?.nb_read_packets === String(expected.frames),
      detail: `${video?.nb_read_packets ?? 0} of ${expected.frames} frames`,
    },
    {
      name: 'picture size',
      ok: video?.width === expected.width && video.height === expected.height,
      detail: `${video?.width ?? 0}x${video?.height ?? 0} of ${expected.width}x${expected.height} pixels`,
    },
    checkVideoFormat(video),
    {
      name: 'sound format',
      ok: audio?.codec_name === 'aac' && audio.sample_rate === '48000',
      detail: `${audio?.codec_name ?? 'none'}, ${audio?.sample_rate ?? 0} Hz`,
    },
    checkStart(video, audio),
  ];
}

function checkVideoFormat(video: ProbedStream | undefined): VerificationCheck {
  const found = [video?.codec_name, video?.pix_fmt, video?.color_space, video?.color_range];
  return {
    name: 'picture format and colours',
    ok: found.join() === 'h264,yuv420p,bt709,tv',
    detail: found.map((value) => value ?? 'unknown').join(', '),
  };
}

function checkStart(video: ProbedStream | undefined, audio: ProbedStream | undefined): VerificationCheck {
  const [picture, sound] = [Number(video?.start_time ?? Number.NaN), Number(audio?.start_time ?? Number.NaN)];
  return {
    name: 'picture and sound begin together',
    ok: Math.abs(picture - sound) <= 1 / (2 * FPS) && Math.abs(picture) <= 1 / (2 * FPS),
    detail: `picture at ${picture} s, sound at ${sound} s`,
  };
}

/** Decodes one second each at the beginning, in the middle and at the end, picture and sound. */
async function checkDecoding(
  ffmpeg: Ffmpeg,
  path: string,
  seconds: number,
  limits: RunToolOptions,
): Promise<VerificationCheck> {
  const starts = new Set([0, Math.max(0, Math.floor(seconds / 2 - 0.5)), Math.max(0, seconds - 1)]);
  const name = 'decodes at beginning, middle and end';
  // One process for all: starting one takes longer than decoding a second.
  const inputs = [...starts].flatMap((start) => [...LOCAL_ONLY, '-ss', start.toFixed(2), '-t', '1', '-i', path]);
  const outputs = [...starts].flatMap((_, input) => ['-map', String(input), '-f', 'null', '-']);
  const argv = [...QUIET, '-xerror', ...inputs, ...outputs];
  const { text } = await complaintOf(runTool(ffmpeg.ffmpeg, argv, limits));
  if (text !== '') return { name, ok: false, detail: text };
  return { name, ok: true, detail: `${starts.size} places, no errors` };
}

/** A tool's output, and what it complained about; it ends well after some kinds of damage, so any complaint counts. */
async function complaintOf(
  run: ReturnType<typeof runTool>,
): Promise<{ readonly stdout: string; readonly text: string }> {
  try {
    const { stdout, stderr } = await run;
    return { stdout: stdout.toString('utf8'), text: stderr.trim() };
  } catch (error) {
    if (!(error instanceof FarmError) || error.code !== 'internal') throw error;
    return { stdout: '', text: error.message };
  }
}
