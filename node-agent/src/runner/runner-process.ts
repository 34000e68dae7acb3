import type { Socket } from 'node:net';
import { FarmError } from '@clipfarm/shared/errors';
import { encodeFrame, type Frame, FrameDecoder } from './framing.ts';
import { type ProcessEnd, type ProcessGroup, startGroup } from './process-group.ts';
import { type FromRunner, fromRunner, RUNNER_PROTOCOL, type ToRunner } from './protocol.ts';
import { listenForRunner } from './runner-socket.ts';

/** First message of a runner: who it is. */
export type RunnerHello = Extract<FromRunner, { readonly type: 'hello' }>;

/** How {@link RunnerProcess.start} runs a runner. */
export interface RunnerOptions {
  /** Program, looked up on the PATH of `env`; no shell is involved. */
  readonly command: string;
  /** Arguments; `--socket PATH` is appended. */
  readonly args: readonly string[];
  /** The whole environment; see `runnerEnvironment` for the allow-list. */
  readonly env: Readonly<Record<string, string>>;
  /** Directory for the socket; made if missing. Its path must be short, see `MAX_SOCKET_PATH_BYTES`. */
  readonly socketDir: string;
  /**
   * Takes every message after `hello`, one at a time, in order. Nothing is read from the runner while its promise is
   * pending: that is the back-pressure. If it rejects, the runner is killed and the reason becomes the exit's `fault`.
   */
  readonly onMessage: (message: FromRunner, payload: Uint8Array) => Promise<void>;
  /** Takes every line that the runner prints, on either of its outputs; see `outputLines` for the bound. */
  readonly onStderr: (line: string) => void;
  /** Milliseconds from the start of the process to its `hello`. */
  readonly helloTimeoutMs: number;
  /** Breaks off the start when aborted; later, `close` and `kill` end the runner. */
  readonly signal?: AbortSignal;
}

/** How a runner ended. */
export interface RunnerExit extends ProcessEnd {
  /** Why the agent killed it: a malformed message, or a handler that rejected. Null when it ended by itself. */
  readonly fault: FarmError | null;
}

/** Milliseconds between the end of the connection and the kill of a runner that stays; unloading a model takes time. */
const DISCONNECTED_MS = 10_000;

/**
 * One runner process: started, spoken to, and ended with everything that it started. If this process dies instead, the
 * kernel closes the socket and the runner ends by itself.
 */
export class RunnerProcess {
  /** What the runner said first. */
  readonly hello: RunnerHello;
  /** Settles once the process is gone, its messages are delivered and its output is read. Never rejects. */
  readonly exited: Promise<RunnerExit>;
  readonly #group: ProcessGroup;
  readonly #socket: Socket;
  #fault: FarmError | null = null;

  private constructor(options: RunnerOptions, group: ProcessGroup, greeting: Greeting) {
    this.hello = greeting.hello;
    this.#group = group;
    this.#socket = greeting.socket;
    const delivered = this.#deliver(greeting.frames, options.onMessage);
    this.exited = group.exited.then(async (end) => {
      await delivered;
      return { ...end, fault: this.#fault };
    });
  }

  /**
   * Starts a runner and waits for its `hello`.
   *
   * @throws FarmError `failed_precondition` when the program can't be run or speaks another version of the protocol,
   *   `timeout` without a `hello` in time, `unavailable` when aborted (or the signal's own FarmError), `internal` when
   *   the process ends first or the socket can't be made, `invalid_argument` for a socket path that is too long or a
   *   malformed message. Nothing is left running then.
   */
  static async start(options: RunnerOptions): Promise<RunnerProcess> {
    const runner = await RunnerProcess.#greeted(options);
    // It may have been aborted after the hello, while the socket was removed.
    if (!options.signal?.aborted) return runner;
    runner.kill();
    await runner.exited;
    throw abortError(options);
  }

  static async #greeted(options: RunnerOptions): Promise<RunnerProcess> {
    const listener = await listenForRunner(options.socketDir);
    try {
      const args = [...options.args, '--socket', listener.path];
      const { command, env, onStderr } = options;
      const group = await startGroup({ command, args, env, onLine: onStderr });
      const over = new AbortController();
      try {
        const greeting = await Promise.race([greet(listener.connected), ...obstacles(options, group, over.signal)]);
        return new RunnerProcess(options, group, greeting);
      } catch (error) {
        group.signal('SIGKILL');
        listener.connected.then((socket) => socket.destroy());
        await group.exited;
        throw withEvidence(FarmError.from(error), group);
      } finally {
        over.abort();
      }
    } finally {
      await listener.close();
    }
  }

  /** Process id of the program that was started, which is also the id of its group. */
  get pid(): number {
    return this.#group.pid;
  }

  /**
   * Sends a message; resolves when the kernel has it.
   *
   * @throws FarmError `unavailable` when the connection is gone.
   */
  send(message: ToRunner): Promise<void> {
    const frame = Buffer.concat(encodeFrame(message));
    return new Promise((resolve, reject) => {
      this.#socket.write(frame, (cause) => {
        if (!cause) return resolve();
        reject(new FarmError('unavailable', `"${message.type}" was not sent: the runner is gone`, { cause }));
      });
    });
  }

  /**
   * Ends the runner: `shutdown` at once, SIGTERM to the group after half of `graceMs` milliseconds, SIGKILL after all
   * of it. Resolves as {@link exited} does.
   */
  async close(graceMs: number): Promise<RunnerExit> {
    const terminate = setTimeout(() => this.#group.signal('SIGTERM'), graceMs / 2);
    const kill = setTimeout(() => this.kill(), graceMs);
    try {
      // A runner that is gone, or doesn't read, is what the timers are for.
      this.send({ type: 'shutdown' }).catch(() => {});
      return await this.exited;
    } finally {
      clearTimeout(terminate);
      clearTimeout(kill);
    }
  }

  /** Kills the whole group at once; messages that were not delivered are lost. */
  kill(): void {
    this.#group.signal('SIGKILL');
    this.#socket.destroy();
  }

  #fail(fault: FarmError): void {
    this.#fault ??= fault;
    this.kill();
  }

  async #deliver(frames: AsyncGenerator<Frame<FromRunner>>, onMessage: RunnerOptions['onMessage']): Promise<void> {
    try {
      for await (const { message, payload } of frames) {
        try {
          await onMessage(message, payload);
        } catch (error) {
          // Before the loop closes the connection, which a runner may take for its time to leave.
          this.#fail(FarmError.from(error));
          break;
        }
      }
    } catch (error) {
      this.#fail(FarmError.from(error));
    }
    // A runner without a connection can't be told anything and has to leave.
    const overstay = setTimeout(() => this.kill(), DISCONNECTED_MS);
    void this.#group.exited.then(() => clearTimeout(overstay));
  }
}

/** A connection whose first message is read. */
interface Greeting {
  readonly socket: Socket;
  readonly frames: AsyncGenerator<Frame<FromRunner>>;
  readonly hello: RunnerHello;
}

async function greet(connected: Promise<Socket>): Promise<Greeting> {
  const socket = await connected;
  // Errors of the connection show as its end, and as the failure of a write.
  socket.on('error', () => {});
  const frames = receive(socket);
  const first = await frames.next();
  if (first.done) throw new FarmError('internal', 'the runner closed the connection before its hello');
  return { socket, frames, hello: checkedHello(first.value.message) };
}

/** Everything else that ends the wait for a `hello`: each rejects, or stays pending. `over` frees what they hold. */
function obstacles(options: RunnerOptions, group: ProcessGroup, over: AbortSignal): readonly Promise<never>[] {
  const { command, helloTimeoutMs, signal } = options;
  const late = new Promise<never>((_, reject) => {
    const error = new FarmError('timeout', `${command} sent no hello within ${helloTimeoutMs / 1000} s`);
    const timer = setTimeout(() => reject(error), helloTimeoutMs);
    over.addEventListener('abort', () => clearTimeout(timer), { once: true });
  });
  const early = group.exited.then((end) => {
    const how = end.code === null ? `signal ${end.signal}` : `status ${end.code}`;
    throw new FarmError('internal', `${command} ended with ${how} before its hello`);
  });
  const aborted = new Promise<never>((_, reject) => {
    const onAbort = (): void => reject(abortError(options));
    // It may have been aborted while the process was spawned.
    if (signal?.aborted) onAbort();
    else signal?.addEventListener('abort', onAbort, { once: true, signal: over });
  });
  return [late, early, aborted];
}

/** The frames of a connection, read on demand: while the consumer is busy, the socket fills and the sender waits. */
async function* receive(socket: Socket): AsyncGenerator<Frame<FromRunner>> {
  const decoder = new FrameDecoder(fromRunner);
  const chunks: AsyncIterator<Uint8Array> = socket[Symbol.asyncIterator]();
  try {
    for (;;) {
      // However a connection ends, the process' exit tells more about why.
      const chunk = await chunks.next().catch(() => ({ done: true }) as const);
      if (chunk.done) return;
      yield* decoder.push(chunk.value);
    }
  } finally {
    socket.destroy();
  }
}

function checkedHello(message: FromRunner): RunnerHello {
  if (message.type !== 'hello') {
    throw new FarmError('invalid_argument', `first message is "${message.type}"; "hello" is accepted`, {
      field: 'type',
    });
  }
  if (message.protocol !== RUNNER_PROTOCOL) {
    const { runner, version, protocol } = message;
    const text = `${runner} ${version} speaks protocol ${protocol}; ${RUNNER_PROTOCOL} is accepted`;
    throw new FarmError('failed_precondition', text, { field: 'protocol' });
  }
  return message;
}

function withEvidence(error: FarmError, group: ProcessGroup): FarmError {
  const lines = group.lastLines();
  if (lines.length === 0) return error;
  const field = error.field === undefined ? {} : { field: error.field };
  return new FarmError(error.code, `${error.message}; its last output: ${lines.join(' | ')}`, {
    ...field,
    cause: error,
  });
}

function abortError({ command, signal }: RunnerOptions): FarmError {
  if (signal?.reason instanceof FarmError) return signal.reason;
  return new FarmError('unavailable', `${command} was stopped`, { cause: signal?.reason });
}
