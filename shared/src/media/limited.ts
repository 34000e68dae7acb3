import { FarmError } from '../errors.ts';
import { type RunToolOptions, runTool, type ToolResult } from '../process.ts';
import { toolEnvironment } from '../tool-environment.ts';
import type { Ffmpeg } from './ffmpeg.ts';

/** What one run of FFmpeg may take. */
export interface MediaLimits {
  /** Address space, in bytes. */
  readonly memoryBytes: number;
  /** Seconds of computing, of all its threads together. */
  readonly cpuSeconds: number;
}

/** What reading a file of sound may take; ordinary ones take a tenth. Four hours of it take minutes. */
export const AUDIO_LIMITS: MediaLimits = { memoryBytes: 1024 ** 3, cpuSeconds: 1800 };

/** What a picture may take: the largest that is accepted, transparent and of 16 bits a channel, takes 1.9 GB. */
export const PICTURE_LIMITS: MediaLimits = { memoryBytes: 4 * 1024 ** 3, cpuSeconds: 240 };

/** For people: what to do where FFmpeg can't be limited. */
export const NO_LIMITS_HINT =
  'Install prlimit (apt-get install util-linux), so that a crafted file can not take all memory.';

const TRIAL_TIMEOUT_MS = 60_000;

/** Each arena of malloc reserves 64 MiB of addresses, of which a host of many cores would have many. */
const FEW_ARENAS = { MALLOC_ARENA_MAX: '2' };

/** Words of FFmpeg, or of the way it ended, that tell of a limit. */
const AT_A_LIMIT = /cannot allocate memory|out of memory|get_buffer\(\) failed|signal SIG(KILL|XCPU)/i;

/**
 * FFmpeg with the program that limits it, when that is there and an ordinary run fits into the limits; a build of FFmpeg
 * that reserves more address space than that is run without, as it is in a process that has lower limits itself.
 */
export async function withLimits(ffmpeg: Ffmpeg, prlimit = 'prlimit'): Promise<Ffmpeg> {
  const limited = { ...ffmpeg, prlimit };
  const input = ['-f', 's16le', '-ar', '48000', '-ac', '1', '-i', 'pipe:0', '-ar', '16000', '-f', 'null', '-'];
  const options = { timeoutMs: TRIAL_TIMEOUT_MS, stdin: Buffer.alloc(9600) };
  try {
    // Both: where the process itself has a lower one, it can't be set higher.
    for (const limits of [AUDIO_LIMITS, PICTURE_LIMITS]) {
      await runLimited(limited, 'ffmpeg', ['-v', 'error', ...input], limits, options);
    }
    return limited;
  } catch {
    return ffmpeg;
  }
}

/**
 * Runs FFmpeg on a file that somebody sent, under limits where `ffmpeg.prlimit` is known, otherwise without.
 *
 * @throws FarmError as {@link runTool}; one that may be due to a limit names them
 */
export async function runLimited(
  ffmpeg: Ffmpeg,
  program: 'ffmpeg' | 'ffprobe',
  argv: readonly string[],
  limits: MediaLimits,
  options: RunToolOptions,
): Promise<ToolResult> {
  if (ffmpeg.prlimit === undefined) return runTool(ffmpeg[program], argv, options);
  const bounds = [`--as=${limits.memoryBytes}`, `--cpu=${limits.cpuSeconds}`];
  const env = { ...toolEnvironment(process.env), ...FEW_ARENAS };
  try {
    const result = await runTool(ffmpeg.prlimit, [...bounds, '--', ffmpeg[program], ...argv], { env, ...options });
    return AT_A_LIMIT.test(result.stderr) ? { ...result, stderr: `${words(limits)}\n${result.stderr}` } : result;
  } catch (error) {
    if (!(error instanceof FarmError) || error.code !== 'internal') throw error;
    const { message } = error;
    // It speaks only when it can't start the program.
    if (/: prlimit: /.test(message)) {
      const start = `cannot run ${ffmpeg[program]}: ${message.replace(/^.*?: prlimit: /, '')}`;
      throw new FarmError('failed_precondition', start, { cause: error });
    }
    if (!AT_A_LIMIT.test(message)) throw error;
    throw new FarmError(
      'internal',
      message.replace(/( ended with (?:status \d+|signal \w+)):? ?/, `$1: ${words(limits)}\n`),
      {
        cause: error,
      },
    );
  }
}

function words({ memoryBytes, cpuSeconds }: MediaLimits): string {
  return `FFmpeg may take ${memoryBytes / 1024 ** 2} MiB of memory and ${cpuSeconds} s of computing for one file`;
}
