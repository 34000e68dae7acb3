import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { rm } from 'node:fs/promises';
import type { Readable, Writable } from 'node:stream';
import type { Clock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import { clipEncoderArgs } from '@clipfarm/shared/media/encode';
import { toolEnvironment } from '@clipfarm/shared/tool-environment';

/** What to encode and where to. */
export interface ClipEncoderOptions {
  /** Path or name of ffmpeg. */
  readonly ffmpeg: string;
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;
  /** Absolute path of the MP4 to write. */
  readonly output: string;
  readonly clock: Clock;
}

/** Milliseconds that ffmpeg may take to accept frames or to finish; a clip takes it well below a second. */
const STALL_MILLIS = 60_000;

const STDERR_CHARACTERS = 2000;

/** One ffmpeg that encodes one clip. If this process dies, ffmpeg reads the end of its input and ends too. */
export class ClipEncoder {
  readonly #options: ClipEncoderOptions;
  readonly #child: ChildProcessByStdio<Writable, null, Readable>;
  /** Resolves when the process is gone; with null only if it ended well. */
  readonly #ended: Promise<FarmError | null>;
  #failure: FarmError | undefined;
  #stderr = '';

  constructor(options: ClipEncoderOptions) {
    this.#options = options;
    this.#child = spawn(options.ffmpeg, clipEncoderArgs(options), {
      stdio: ['pipe', 'ignore', 'pipe'],
      env: toolEnvironment(process.env),
      // ^C in the terminal must not cut off the clip that a graceful stop wants to finish.
      detached: true,
    });
    this.#child.stderr.on('data', (part: Buffer) => {
      this.#stderr = (this.#stderr + part.toString('utf8')).slice(-STDERR_CHARACTERS);
    });
    // A broken pipe is a consequence; the exit status and the last words say what happened.
    this.#child.stdin.on('error', () => {});
    this.#ended = new Promise((resolve) => {
      this.#child.on('error', (cause) => {
        if (this.#child.pid !== undefined) return;
        resolve(new FarmError('failed_precondition', `cannot run ${options.ffmpeg}: ${cause.message}`, { cause }));
      });
      this.#child.on('close', (code, signal) => resolve(this.#verdict(code, signal)));
    });
  }

  /**
   * Sends frames; resolves when ffmpeg has taken them.
   *
   * @param frames whole rgb24 frames; not to be changed until this resolves.
   * @throws FarmError `resource_exhausted` when the disk is full, `timeout` when ffmpeg stands still, otherwise
   *   `internal` with its last words. The process is gone then.
   */
  async write(frames: Uint8Array): Promise<void> {
    const taken = new Promise<'taken'>((resolve) => {
      this.#child.stdin.write(frames, (error) => {
        if (!error) resolve('taken');
      });
    });
    const first = await this.#inTime(Promise.race([taken, this.#ended]));
    if (first === 'taken') return;
    throw first ?? new FarmError('internal', 'ffmpeg ended before the clip was complete');
  }

  /**
   * Ends the clip; resolves when the file is complete.
   *
   * @throws FarmError as {@link write} does.
   */
  async finish(): Promise<void> {
    this.#child.stdin.end();
    const failure = await this.#inTime(this.#ended);
    if (failure !== null) throw failure;
  }

  /** Kills ffmpeg and deletes what it wrote. */
  async abort(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#ended;
    await rm(this.#options.output, { force: true });
  }

  async #inTime<T>(work: Promise<T>): Promise<T | FarmError | null> {
    const timer = this.#options.clock.setTimeout(() => {
      this.#failure = new FarmError('timeout', `ffmpeg stood still for ${STALL_MILLIS / 1000} s`);
      this.#child.kill('SIGKILL');
    }, STALL_MILLIS);
    try {
      return await Promise.race([work, this.#ended]);
    } finally {
      timer.cancel();
    }
  }

  #verdict(code: number | null, signal: NodeJS.Signals | null): FarmError | null {
    if (this.#failure !== undefined) return this.#failure;
    const words = this.#stderr.trim();
    // FFmpeg 5.1 exits with 0 although the disk was full and the file is cut off.
    if (/no space left|quota exceeded/i.test(words)) {
      return new FarmError('resource_exhausted', `the disk of the spool is full: ${words}`);
    }
    if (code === 0) return null;
    const how = code === null ? `signal ${signal}` : `status ${code}`;
    return new FarmError('internal', `ffmpeg ended with ${how}${words === '' ? '' : `: ${words}`}`);
  }
}
