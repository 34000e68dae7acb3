import { FarmError } from '../errors.ts';
import { runTool } from '../process.ts';

/** The FFmpeg programs that a process uses, found and checked once by {@link findFfmpeg}. */
export interface Ffmpeg {
  /** Path or name of `ffmpeg`. */
  readonly ffmpeg: string;
  /** Path or name of `ffprobe`. */
  readonly ffprobe: string;
  /** Path or name of `prlimit`, where FFmpeg can be limited by it; see `withLimits`. */
  readonly prlimit?: string;
  /** What `ffmpeg -version` calls itself, for example `5.1.9-0+deb12u1`. */
  readonly version: string;
}

/** Oldest version whose options and muxer are the ones used here. */
const OLDEST = { major: 4, minor: 4 };

/** Encoders that the farm needs: chunks, delivery audio, the anchor picture, decoded audio. */
const NEEDED_ENCODERS = ['libx264', 'aac', 'png', 'pcm_s16le'] as const;

const HINT =
  'Install FFmpeg 4.4 or newer with libx264 (apt-get install ffmpeg, dnf install ffmpeg, brew install ffmpeg), ' +
  'or configure the paths of ffmpeg and ffprobe.';

/** A host under full load, whose disk has to bring the program first, may take long to say its version. */
const TIMEOUT_MS = 60_000;

/**
 * Looks for ffmpeg and ffprobe, on the PATH unless a path is given, and makes sure that they can do the work.
 *
 * @throws FarmError `failed_precondition` when one is missing, older than 4.4 or built without a needed encoder.
 */
export async function findFfmpeg(
  paths: { readonly ffmpegPath?: string; readonly ffprobePath?: string } = {},
): Promise<Ffmpeg> {
  const ffmpeg = paths.ffmpegPath ?? 'ffmpeg';
  const ffprobe = paths.ffprobePath ?? 'ffprobe';
  const [version] = await Promise.all([checkedVersion(ffmpeg, 'ffmpeg'), checkedVersion(ffprobe, 'ffprobe')]);
  const encoders = encoderNames(await output(ffmpeg, ['-hide_banner', '-encoders']));
  const missing = NEEDED_ENCODERS.filter((name) => !encoders.has(name));
  if (missing.length > 0) {
    throw unusable(`${ffmpeg} (version ${version}) was built without the encoders ${missing.join(', ')}`);
  }
  return { ffmpeg, ffprobe, version };
}

/**
 * What a version string means: `ok`, `old`, or `unknown`. Builds from a git checkout carry no version number
 * ("N-109468-gd39b34123d", "git-2023-01-05-...", "2023-01-05-git-...") and count as new.
 */
export function judgeVersion(version: string): 'ok' | 'old' | 'unknown' {
  if (/^(N-|git-|\d{4}-\d{2}-\d{2}-git)/.test(version)) return 'ok';
  const numbers = /^n?(\d{1,3})\.(\d{1,3})/.exec(version);
  if (numbers === null) return 'unknown';
  const major = Number(numbers[1]);
  const minor = Number(numbers[2]);
  return major > OLDEST.major || (major === OLDEST.major && minor >= OLDEST.minor) ? 'ok' : 'old';
}

async function checkedVersion(file: string, program: 'ffmpeg' | 'ffprobe'): Promise<string> {
  const text = await output(file, ['-version']);
  const version = new RegExp(`^${program} version (\\S+)`).exec(text)?.[1];
  if (version === undefined) throw unusable(`${file} does not answer like ${program}`);
  const verdict = judgeVersion(version);
  if (verdict !== 'ok') {
    const why = verdict === 'old' ? 'is too old' : 'has a version that is not understood';
    throw unusable(`${file} ${why}: ${version}; needed is ${OLDEST.major}.${OLDEST.minor} or newer`);
  }
  return version;
}

async function output(file: string, argv: readonly string[]): Promise<string> {
  try {
    return (await runTool(file, argv, { timeoutMs: TIMEOUT_MS })).stdout.toString('utf8');
  } catch (error) {
    throw unusable(FarmError.from(error).message, error);
  }
}

/** Names from `ffmpeg -encoders`: lines of six capability letters or dots, a name and a description. */
function encoderNames(listing: string): ReadonlySet<string> {
  return new Set([...listing.matchAll(/^ [A-Z.]{6} (\S+)/gm)].map((match) => match[1] ?? ''));
}

function unusable(message: string, cause?: unknown): FarmError {
  return new FarmError('failed_precondition', message, { hint: HINT, cause });
}
