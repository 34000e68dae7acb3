import { type Backoff, backoffDelay } from '@clipfarm/shared/backoff';
import type { Clock, Timer } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import type { Logger } from '@clipfarm/shared/log';
import type { LoadGate } from './load-gate.ts';
import { pause } from './pause.ts';
import type { RunnerProfile } from './profile.ts';
import type { FromRunner, RunnerErrorClass, ToRunner } from './runner/protocol.ts';
import { type RunnerExit, type RunnerHello, RunnerProcess } from './runner/runner-process.ts';

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
  readonly clock: Clock;
  readonly log: Logger;
}

const RESTART: Backoff = { firstMillis: 500, maxMillis: 60_000 };

/** Milliseconds after which a loaded runner without work counts as one that works. */
const STEADY_MILLIS = 10_000;

/** Lines of output that are kept as evidence. */
const EVIDENCE_LINES = 8;

/**
 * Keeps one runner process per slot: started and loaded on first use, kept warm between leases, restarted with a backoff
 * when it is gone. The backoff grows while starts fail. The end of a runner that loaded well and was given work counts
 * as the first failure again: whether its node deserves more leases is the coordinator's to judge.
 */
export class RunnerHost {
  readonly #options: RunnerHostOptions;
  readonly #closed = new AbortController();
  #process: RunnerProcess | null = null;
  #loading: { readonly done: (failure: RunnerFailure | null) => void; touch(): void } | null = null;
  /** The start under way, or the last one while its process lives. */
  #up: Promise<RunnerFailure | null> | null = null;
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

  /** Resolves with null once the runner is up and loaded, or with the reason why it is not. */
  ready(): Promise<RunnerFailure | null> {
    this.#up ??= this.#start();
    return this.#up;
  }

  /** Sends a message; a runner that is gone is no error here, because {@link RunnerHostOptions.onGone} tells. */
  send(message: ToRunner): void {
    if (message.type === 'render') this.#used = true;
    this.#process?.send(message).catch((error: unknown) => {
      this.#options.log.debug({ err: error, message: message.type }, 'the runner did not take a message');
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
    await this.#up;
  }

  async #start(): Promise<RunnerFailure | null> {
    const { profile, gate, socketDir, clock, log } = this.#options;
    if (this.#failures > 0) {
      const wait = { clock, signal: this.#closed.signal };
      // Only the signal ends the wait early, and it is asked next.
      await pause(backoffDelay(RESTART, this.#failures), wait).catch(() => {});
    }
    if (this.#closed.signal.aborted) return { failureClass: 'environment', message: 'the agent leaves' };
    this.#output = [];
    let started: RunnerProcess;
    try {
      started = await RunnerProcess.start({
        ...profile.runner,
        socketDir,
        helloTimeoutMs: profile.helloMillis,
        signal: this.#closed.signal,
        onStderr: (line) => this.#note(line),
        onMessage: (message, payload) => this.#take(message, payload),
      });
    } catch (error) {
      const { code, message } = FarmError.from(error);
      const failureClass = code === 'internal' ? 'crash' : 'environment';
      return this.#failed({ failureClass, message: `the runner did not start: ${message}` });
    }
    this.#process = started;
    const leaveGate = await gate.enter();
    const began = clock.monotonic();
    const failure = await this.#load(started);
    leaveGate();
    if (failure !== null) {
      started.kill();
      await started.exited;
      this.#process = null;
      return this.#failed(failure);
    }
    const { runner, version } = started.hello;
    const loadedAt = clock.monotonic();
    const seconds = (loadedAt - began) / 1000;
    log.info({ runner, version, runner_pid: started.pid, load_seconds: seconds }, 'runner is loaded');
    this.#used = false;
    this.#beginning = null;
    this.#options.onLoaded(started.hello);
    started.exited.then((exit) => this.#gone(started, exit, loadedAt));
    return null;
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

  async #take(message: FromRunner, payload: Uint8Array): Promise<void> {
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

  /** A runner that was loaded has ended. */
  #gone(ended: RunnerProcess, exit: RunnerExit, loadedAt: number): void {
    if (this.#process === ended) this.#process = null;
    this.#up = null;
    const worked = this.#used || this.#options.clock.monotonic() - loadedAt >= STEADY_MILLIS;
    this.#failures = worked ? 1 : this.#failures + 1;
    const message = this.#evidence(exit);
    if (!this.#closed.signal.aborted) {
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
