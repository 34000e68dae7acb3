import { spawn } from 'node:child_process';
import { FarmError } from './errors.ts';
import { toolEnvironment } from './tool-environment.ts';

/** How {@link runTool} runs a program. */
export interface RunToolOptions {
  /** Stops the program when aborted. */
  readonly signal?: AbortSignal;
  /** Wall-clock milliseconds after which the program is killed. */
  readonly timeoutMs: number;
  /** What the program reads; without it, its standard input is empty. */
  readonly stdin?: Uint8Array;
  /** Most bytes of standard output; 16 MiB unless given. */
  readonly maxOutputBytes?: number;
  /** Directory to run in. */
  readonly cwd?: string;
  /** The whole environment; that of {@link toolEnvironment} unless given. */
  readonly env?: NodeJS.ProcessEnv;
}

/** What a program left behind. */
export interface ToolResult {
  readonly stdout: Buffer;
  /** The last 16 KiB of standard error. */
  readonly stderr: string;
}

const DEFAULT_OUTPUT_BYTES = 16 * 1024 * 1024;
const STDERR_BYTES = 16 * 1024;
const STDERR_LINES_IN_ERROR = 5;

/**
 * Runs a program without a shell and waits for it. The program is dead when this returns or throws.
 *
 * @throws FarmError `failed_precondition` when the program isn't there or can't be run, `timeout`,
 *   `resource_exhausted` when it prints more than `maxOutputBytes`, `unavailable` when `signal` aborts (a FarmError
 *   given as the signal's reason is thrown as it is), `internal` when it ends with another status than 0, with the
 *   last lines of its standard error.
 */
export function runTool(file: string, argv: readonly string[], options: RunToolOptions): Promise<ToolResult> {
  const { signal } = options;
  if (signal?.aborted) return Promise.reject(abortError(file, signal));
  return new Promise((resolve, reject) => {
    const child = spawn(file, argv, {
      stdio: [options.stdin === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      env: options.env ?? toolEnvironment(process.env),
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    const limit = options.maxOutputBytes ?? DEFAULT_OUTPUT_BYTES;
    const stdout: Buffer[] = [];
    let stdoutBytes = 0;
    let stderr: Buffer = Buffer.alloc(0);
    let failure: FarmError | undefined;
    // SIGKILL, because a program that was asked politely may still finish a file that looks whole.
    const stop = (error: FarmError): void => {
      failure ??= error;
      child.kill('SIGKILL');
    };
    const onAbort = (): void => {
      if (signal !== undefined) stop(abortError(file, signal));
    };
    const timer = setTimeout(
      () => stop(new FarmError('timeout', `${file} took longer than ${options.timeoutMs / 1000} s and was killed`)),
      options.timeoutMs,
    );
    signal?.addEventListener('abort', onAbort, { once: true });

    child.stdout?.on('data', (part: Buffer) => {
      stdoutBytes += part.length;
      if (stdoutBytes > limit) {
        stop(new FarmError('resource_exhausted', `${file} printed more than ${limit} bytes and was killed`));
      } else stdout.push(part);
    });
    child.stderr?.on('data', (part: Buffer) => {
      stderr = Buffer.concat([stderr, part]).subarray(-STDERR_BYTES);
    });
    // A program may leave without reading all its input; its exit status says whether that was a fault.
    child.stdin?.on('error', () => {});
    child.stdin?.end(options.stdin);

    child.on('error', (error) => {
      failure ??= startError(file, error);
      settle(null, null);
    });
    child.on('close', settle);

    function settle(code: number | null, killedBy: NodeJS.Signals | null): void {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      const text = stderr.toString('utf8');
      if (failure !== undefined) reject(failure);
      else if (code !== 0) reject(statusError(file, code === null ? `signal ${killedBy}` : `status ${code}`, text));
      else resolve({ stdout: Buffer.concat(stdout), stderr: text });
    }
  });
}

function startError(file: string, error: NodeJS.ErrnoException): FarmError {
  const reason = error.code === 'ENOENT' ? 'no such program or working directory' : error.message;
  const hint = `Install it, put it on the PATH, or configure the path of ${file}.`;
  return new FarmError('failed_precondition', `cannot run ${file}: ${reason}`, { hint, cause: error });
}

function abortError(file: string, signal: AbortSignal): FarmError {
  if (signal.reason instanceof FarmError) return signal.reason;
  const reason = signal.reason instanceof Error ? signal.reason.message : String(signal.reason);
  return new FarmError('unavailable', `${file} was stopped: ${reason}`, { cause: signal.reason });
}

function statusError(file: string, status: string, stderr: string): FarmError {
  const lines = stderr.split(/[\r\n]+/).filter((line) => line.trim() !== '');
  const tail = lines.slice(-STDERR_LINES_IN_ERROR).join('\n');
  return new FarmError('internal', `${file} ended with ${status}${tail === '' ? '' : `: ${tail}`}`);
}
