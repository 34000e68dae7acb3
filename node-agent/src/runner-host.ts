import { type Backoff, backoffDelay } from '@clipfarm/shared/backoff';
import type { Clock, Timer } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import type { Logger } from '@clipfarm/shared/log';
import { logNumber, secondsOf } from '@clipfarm/shared/log-number';
import type { LoadGate } from './load-gate.ts';
import { pause } from './pause.ts';
import type { RunnerProfile } from './profile.ts';
import type { FromRunner, RunnerErrorClass, ToRunner } from './runner/protocol.ts';
import { type RunnerExit, type RunnerHello, RunnerProcess } from './runner/runner-process.ts';
import { unloadProblem } from './unload-check.ts';

/** Why a runner could not be made ready. */
export interface RunnerFailure {
  readonly failureClass: RunnerErrorClass;
  readonly message: string;
}

/** What a {@link RunnerHost} works with. */
export interface RunnerHostOptions {
  readonly profile: RunnerProfile;
  /** Whom the host's memory lets load. */
  readonly gate: LoadGate;
  /** Directory for the runner's socket; its path must be short. */
  readonly socketDir: string;
  /** Messages of a loaded runner; nothing more is read until the promise is settled. */
  readonly onMessage: (message: FromRunner, payload: Uint8Array) => Promise<void>;
  /** The runner is up and loaded. */
  readonly onLoaded: (hello: RunnerHello) => void;
  /** A loaded runner is gone, wanted or not; it is being restarted unless the host is closed. */
  readonly onGone: (message: string) => void;
  /** Bytes that the driver accounts to the processes of a group, on the most loaded GPU; null where it lists none. */
  readonly gpuBytes: (group: number) => Promise<number | null>;
  readonly clock: Clock;
  readonly log: Logger;
}

/** What an unload came to: the model's memory is back, or only the end of the process made sure of that. */
export type UnloadOutcome = 'given_back' | 'ended';

const RESTART: Backoff = { firstMillis: 500, maxMillis: 60_000 };

/** Milliseconds after which a loaded runner without work counts as one that works. */
const STEADY_MILLIS = 10_000;

/**
 * Milliseconds that a runner may take to unload. Giving tens of gigabytes back takes seconds; an open model call may have
 * to come to the end of a step before. Judged, not measured.
 */
export const UNLOAD_MILLIS = 60_000;

/** Milliseconds for which the driver's account is waited for: a card that is lost holds up whoever asks for it, for good. */
export const DRIVER_MILLIS = 15_000;

/** Lines of output that are kept as evidence. */
const EVIDENCE_LINES = 8;

/**
 * Keeps one runner process per slot: started and loaded on first use, kept warm between leases, unloaded on demand until
 * the next use, restarted with a backoff when it is gone. The backoff grows while starts fail. The end of a runner that loaded well and was given work counts
 * as the first failure again: whether its node deserves more leases is the coordinator's to judge.
 */
export class RunnerHost {
  readonly #options: RunnerHostOptions;
  readonly #closed = new AbortController();
  #process: RunnerProcess | null = null;
  #loading: { readonly done: (failure: RunnerFailure | null) => void; touch(): void } | null = null;
  /** The start under way, or the last one while its process lives and is loaded. */
  #up: Promise<RunnerFailure | null> | null = null;
  /** When the process was loaded; null while it is not. */
  #loadedAt: number | null = null;
  /** Takes what the runner answers to an unload: the bytes that it still holds, or what went wrong. */
  #unloading: ((answer: number | string) => void) | null = null;
  /** The unload under way, or the last one. */
  #emptied: Promise<unknown> = Promise.resolve();
  #slowestLoad = 0;
  #trouble: string | null = null;
  /** What the first start is at, in words; null once the runner was up. */
  #beginning: string | null = 'the runner is being started';
  /** Failures in a row. */
  #failures = 0;
  /** Whether the loaded runner was given a span. */
  #used = false;
  #output: string[] = [];

  constructor(options: RunnerHostOptions) {
    this.#options = options;
  }

  /** What the first start is at, in words; null once the runner was up. */
  get beginning(): string | null {
    return this.#beginning;
  }

  /** Why a failed runner is being restarted; null when it is usable or not needed yet. */
  get trouble(): string | null {
    return this.#trouble;
  }

  /** True while the runner is up and its model is loaded. */
  get loaded(): boolean {
    return this.#loadedAt !== null;
  }

  /** Seconds that the slowest load took so far: the first one often reads the weights from the disk, later ones may. */
  get slowestLoadSeconds(): number {
    return this.#slowestLoad;
  }

  /** Resolves with null once the runner is up and loaded, or with the reason why it is not. */
  ready(): Promise<RunnerFailure | null> {
    this.#up ??= this.#start();
    return this.#up;
  }

  /**
   * Makes the runner give the model's memory back, without ending the process, and makes sure of it: by what the runner
   * answers, and by what the driver accounts to its processes. A runner that keeps it, fails or does not answer is ended.
   * Either way the next {@link ready} loads the model again. Null when nothing is loaded; for use between leases only.
   */
  async unload(reason: string): Promise<UnloadOutcome | null> {
    const running = this.#process;
    if (running === null || this.#loadedAt === null || this.#closed.signal.aborted) return null;
    this.#loadedAt = null;
    this.#up = null;
    // It was loaded and idle, so nothing is wrong with it: the next start needs no pause.
    this.#failures = 0;
    const emptied = this.#empty(running, reason);
    this.#emptied = emptied;
    return emptied;
  }

  /** Sends a message; a runner that is gone is no error here, because {@link RunnerHostOptions.onGone} tells. */
  send(message: ToRunner): void {
    if (message.type === 'render') this.#used = true;
    this.#process?.send(message).catch((error: unknown) => {
      this.#options.log.debug({ err: error, kind: message.type }, 'the runner did not take a message');
    });
  }

  /** Kills the runner with everything it started; `onGone` follows. */
  kill(): void {
    this.#process?.kill();
  }

  /** Ends the runner for good, within `graceMillis`, and waits until it is gone. */
  async close(graceMillis: number): Promise<void> {
    this.#closed.abort(new FarmError('unavailable', 'the agent leaves'));
    await this.#process?.close(graceMillis);
    await this.#emptied;
    await this.#up;
  }

  async #start(): Promise<RunnerFailure | null> {
    const { clock, log } = this.#options;
    await this.#emptied;
    const kept = this.#process;
    if (kept !== null) {
      const failure = await this.#makeReady(kept);
      if (failure === null) return null;
      // Whatever became of it while it had no model, a new process knows nothing of it.
      if (!this.#closed.signal.aborted) {
        log.warn(
          { runner_pid: kept.pid, reason: failure.message },
          'the model could not be loaded again: a new runner',
        );
      }
    } else if (this.#failures > 0) {
      const wait = { clock, signal: this.#closed.signal };
      // Only the signal ends the wait early, and it is asked next.
      await pause(backoffDelay(RESTART, this.#failures), wait).catch(() => {});
    }
    if (this.#closed.signal.aborted) return { failureClass: 'environment', message: 'the agent leaves' };
    const started = await this.#spawn();
    const failure = started instanceof RunnerProcess ? await this.#makeReady(started) : started;
    return failure === null ? null : this.#failed(failure);
  }

  /** Loads a process that has no model; one in which that fails is ended. */
  async #makeReady(started: RunnerProcess): Promise<RunnerFailure | null> {
    const { gate, clock, log } = this.#options;
    const leaveGate = await gate.enter();
    const began = clock.monotonic();
    let failure = await this.#load(started);
    leaveGate();
    if (failure === null && this.#process !== started) {
      failure = { failureClass: 'crash', message: this.#evidence(await started.exited) };
    }
    if (failure !== null) {
      await this.#discard(started);
      return failure;
    }
    const { runner, version } = started.hello;
    const loadedAt = clock.monotonic();
    const seconds = (loadedAt - began) / 1000;
    log.info({ runner, version, runner_pid: started.pid, load_seconds: logNumber(seconds) }, 'runner is loaded');
    this.#slowestLoad = Math.max(this.#slowestLoad, seconds);
    this.#used = false;
    this.#beginning = null;
    this.#loadedAt = loadedAt;
    this.#options.onLoaded(started.hello);
    return null;
  }

  async #spawn(): Promise<RunnerProcess | RunnerFailure> {
    const { profile, socketDir } = this.#options;
    this.#output = [];
    try {
      const started = await RunnerProcess.start({
        ...profile.runner,
        socketDir,
        helloTimeoutMs: profile.helloMillis,
        signal: this.#closed.signal,
        onStderr: (line) => this.#note(line),
        onMessage: (message, payload) => this.#take(message, payload),
      });
      this.#process = started;
      started.exited.then((exit) => this.#ended(started, exit));
      return started;
    } catch (error) {
      const { code, message } = FarmError.from(error);
      const failureClass = code === 'internal' ? 'crash' : 'environment';
      return { failureClass, message: `the runner did not start: ${message}` };
    }
  }

  /** Loads the model; silence for too long counts as a hang. */
  async #load(started: RunnerProcess): Promise<RunnerFailure | null> {
    const { profile, clock } = this.#options;
    const { promise, resolve } = Promise.withResolvers<RunnerFailure | null>();
    const limit = profile.loadSilenceMillis;
    const message = `the runner was silent for ${limit / 1000} s while loading the model`;
    const armed = (): Timer => clock.setTimeout(() => resolve({ failureClass: 'hang', message }), limit);
    let timer = armed();
    this.#loading = {
      done: resolve,
      touch: () => {
        timer.cancel();
        timer = armed();
      },
    };
    started.exited.then((exit) => resolve({ failureClass: 'crash', message: this.#evidence(exit) }));
    started.send({ type: 'load' }).catch(() => {});
    const failure = await promise;
    timer.cancel();
    this.#loading = null;
    return failure;
  }

  /** Carries an unload out, and looks at what came of it. */
  async #empty(running: RunnerProcess, reason: string): Promise<UnloadOutcome> {
    const { clock, log } = this.#options;
    const began = clock.monotonic();
    const before = await this.#gpuBytes(running.pid);
    const answer = await this.#askToUnload(running);
    const listed = typeof answer === 'number' ? await this.#gpuBytes(running.pid) : null;
    const problem = typeof answer === 'number' ? unloadProblem({ toldBytes: answer, listedBytes: listed }) : answer;
    const fields = {
      ...{ runner_pid: running.pid, reason, unload_seconds: secondsOf(clock.monotonic() - began) },
      ...(typeof answer === 'number' ? { held_bytes: answer } : {}),
      ...(before === null || listed === null ? {} : { driver_bytes_before: before, driver_bytes: listed }),
    };
    if (problem === null) {
      log.info(fields, 'the model is unloaded');
      return 'given_back';
    }
    if (!this.#closed.signal.aborted) {
      log.warn({ ...fields, problem }, 'the model is not unloaded: the runner is ended, which gives its memory back');
    }
    await this.#discard(running);
    return 'ended';
  }

  /** What the driver accounts to a group; null also where it does not say in time, or the host is closed. */
  async #gpuBytes(group: number): Promise<number | null> {
    const { gpuBytes, clock } = this.#options;
    const over = new AbortController();
    const signal = AbortSignal.any([this.#closed.signal, over.signal]);
    const nobodyKnows = () => null;
    const late = pause(DRIVER_MILLIS, { clock, signal }).then(nobodyKnows, nobodyKnows);
    try {
      return await Promise.race([gpuBytes(group), late]);
    } finally {
      over.abort();
    }
  }

  /** Kills a process that is of no more use, and waits until it is gone. */
  async #discard(process: RunnerProcess): Promise<void> {
    this.#process = null;
    process.kill();
    await process.exited;
  }

  /** The bytes that the runner says it still holds, or what went wrong. */
  async #askToUnload(running: RunnerProcess): Promise<number | string> {
    const { promise, resolve } = Promise.withResolvers<number | string>();
    this.#unloading = resolve;
    const late = `it did not answer for ${UNLOAD_MILLIS / 1000} s`;
    using _timer = this.#options.clock.setTimeout(() => resolve(late), UNLOAD_MILLIS);
    running.exited.then((exit) => resolve(this.#evidence(exit)));
    running.send({ type: 'unload' }).catch(() => {});
    const answer = await promise;
    this.#unloading = null;
    return answer;
  }

  async #take(message: FromRunner, payload: Uint8Array): Promise<void> {
    if (this.#unloading !== null) {
      // What else comes belongs to leases that are over.
      if (message.type === 'unloaded') this.#unloading(message.memoryBytes);
      else if (message.type === 'error') this.#unloading(`it failed: ${message.class}: ${message.message}`);
      return;
    }
    if (this.#loading === null) return this.#options.onMessage(message, payload);
    this.#loading.touch();
    if (message.type === 'loading' && this.#beginning !== null) {
      this.#beginning = `the model is being loaded: ${message.phase.slice(0, 100)}, ${Math.round(100 * message.fraction)} %`;
    }
    if (message.type === 'loaded') this.#loading.done(null);
    else if (message.type === 'error') this.#loading.done({ failureClass: message.class, message: message.message });
  }

  /** A start that came to nothing. */
  #failed(failure: RunnerFailure): RunnerFailure {
    this.#up = null;
    this.#failures += 1;
    if (!this.#closed.signal.aborted) {
      this.#options.log.error({ class: failure.failureClass, reason: failure.message }, 'runner is not usable');
      this.#recover(failure.message);
    }
    return failure;
  }

  /** A runner has ended. Whoever loads or unloads it then sees to the rest; one that rests is not missed. */
  #ended(ended: RunnerProcess, exit: RunnerExit): void {
    if (this.#process !== ended) return;
    this.#process = null;
    const message = this.#evidence(exit);
    const loadedAt = this.#loadedAt;
    const closed = this.#closed.signal.aborted;
    if (loadedAt === null) {
      if (!closed) this.#options.log.info({ runner_pid: ended.pid, reason: message }, 'runner without a model is gone');
      return;
    }
    this.#loadedAt = null;
    this.#up = null;
    const worked = this.#used || this.#options.clock.monotonic() - loadedAt >= STEADY_MILLIS;
    this.#failures = worked ? 1 : this.#failures + 1;
    if (!closed) {
      this.#options.log.warn({ runner_pid: ended.pid, reason: message }, 'runner is gone');
      this.#recover(message);
    }
    this.#options.onGone(message);
  }

  /** Brings the runner up again without waiting for a lease, so that the slot offers itself only when it can render. */
  #recover(reason: string): void {
    this.#trouble = reason;
    this.ready().then((failure) => {
      if (failure === null) this.#trouble = null;
    });
  }

  #note(line: string): void {
    this.#output.push(line);
    if (this.#output.length > EVIDENCE_LINES) this.#output.shift();
    this.#options.log.debug({ line }, 'runner output');
  }

  #evidence({ code, signal, fault }: RunnerExit): string {
    const how = code === null ? `signal ${signal}` : `status ${code}`;
    const why = fault === null ? '' : ` after a fault: ${fault.message}`;
    const words = this.#output.length === 0 ? '' : `; its last output: ${this.#output.join(' | ')}`;
    return `the runner ended with ${how}${why}${words}`;
  }
}
