import { setTimeout as sleep } from 'node:timers/promises';
import { FarmError } from '@clipfarm/shared/errors';
import type { FromRunner, RunnerErrorClass, SpanRequest, ToRunner } from '../../src/runner/protocol.ts';
import { RunnerFailure } from './faults.ts';
import { checkMemory, pretendedBytes } from './memory.ts';
import type { SyntheticOptions } from './options.ts';
import { beginCall, checkSpan, goesOnIn, type ModelCall, renderSpan, type SpanControl } from './span.ts';
import { type MouthTrack, mouthTrack, readSoundTrack } from './speech/mouth-track.ts';

/** The steps of loading that the real model reports. */
const PHASES = ['text encoder', 'video decoder', 'transformer', 'adapter'] as const;

/** Failures after which the process is of no more use. */
const FATAL: ReadonlySet<RunnerErrorClass> = new Set(['device', 'crash']);

type Send = (message: FromRunner, payload?: Uint8Array) => Promise<void>;

interface Running {
  readonly request: SpanRequest;
  readonly control: SpanControl;
  readonly cancel: AbortController;
}

/** The conversation with one agent: loads once, then renders span after span. */
export class Session {
  readonly #options: SyntheticOptions;
  readonly #send: Send;
  #model: 'absent' | 'loading' | 'loaded' = 'absent';
  #running: Running | undefined;
  /** The model call that was begun last, while it can be gone on with. */
  #call: ModelCall | undefined;
  #fatal: RunnerFailure | undefined;
  #hung = false;
  #track: { readonly key: string; readonly value: MouthTrack } | undefined;
  readonly #compiled = new Set<string>();

  constructor(options: SyntheticOptions, send: Send) {
    this.#options = options;
    this.#send = send;
  }

  /** True once the session acts out a hang. */
  get hung(): boolean {
    return this.#hung;
  }

  /**
   * Takes a message and answers it; resolves when the answer is complete, which for a span takes as long as the span.
   * More messages may come meanwhile. Rejects when the connection is gone.
   */
  async handle(message: Exclude<ToRunner, { type: 'shutdown' }>): Promise<void> {
    if (message.type === 'load') await this.#load();
    else if (message.type === 'unload') await this.#unload();
    else if (message.type === 'render') await this.#render(message.request);
    else if (this.#running?.request.leaseId !== message.leaseId) return;
    else if (message.type === 'cancel') this.#running.cancel.abort();
    else this.#running.control.end = Math.min(message.end, this.#running.request.clips);
  }

  async #load(): Promise<void> {
    if (this.#model === 'loading') return;
    const begun = performance.now();
    this.#call = undefined;
    if (this.#model === 'absent') {
      this.#model = 'loading';
      const steps = Math.max(PHASES.length, Math.ceil(this.#options.loadSeconds));
      for (let step = 0; step < steps; step += 1) {
        const phase = PHASES[Math.floor((step * PHASES.length) / steps)] ?? '';
        await this.#send({ type: 'loading', phase, fraction: step / steps });
        await sleep((this.#options.loadSeconds * 1000) / steps);
      }
      this.#model = 'loaded';
    }
    const seconds = (performance.now() - begun) / 1000;
    await this.#send({ type: 'loaded', seconds, memoryBytes: process.memoryUsage.rss() });
  }

  async #unload(): Promise<void> {
    // Memory of a span that is being rendered is not there to give back.
    if (this.#running !== undefined || this.#model === 'loading') return;
    this.#model = 'absent';
    this.#call = undefined;
    this.#track = undefined;
    this.#compiled.clear();
    await this.#send({ type: 'unloaded', memoryBytes: 0 });
  }

  async #render(request: SpanRequest): Promise<void> {
    const { leaseId } = request;
    try {
      this.#admit(request);
    } catch (error) {
      return this.#report(leaseId, RunnerFailure.from(error));
    }
    const cancel = new AbortController();
    const running = { request, cancel, control: { end: request.end, cancel: cancel.signal } };
    this.#running = running;
    try {
      const call = await this.#openCall(request, cancel.signal);
      const end = await renderSpan(request, call, running.control, {
        options: this.#options,
        send: this.#send,
        peakMemoryBytes: pretendedBytes(request, this.#options.memoryBytes),
        onHang: () => {
          this.#hung = true;
        },
      });
      this.#running = undefined;
      if (end.reason === 'cancelled') this.#call = undefined;
      await this.#send({ type: 'spanEnded', leaseId, ...end });
    } catch (error) {
      this.#running = undefined;
      this.#call = undefined;
      const end = request.start - request.preRoll;
      if (cancel.signal.aborted) await this.#send({ type: 'spanEnded', leaseId, reason: 'cancelled', end });
      else await this.#report(leaseId, RunnerFailure.from(error));
    }
  }

  /** The open call where the span goes on in it, otherwise a new one, after the warm-up of a new picture size. */
  async #openCall(request: SpanRequest, cancel: AbortSignal): Promise<ModelCall> {
    const { leaseId, width, height } = request;
    const open = this.#call;
    if (open !== undefined && goesOnIn(open, request)) {
      open.leaseId = leaseId;
      await this.#send({ type: 'spanStarted', leaseId, continued: true });
      return open;
    }
    this.#call = undefined;
    const begun = await beginCall(request, this.#trackOf, this.#options.drift, cancel);
    await this.#send({ type: 'spanStarted', leaseId, continued: false });
    const shape = `${width}x${height}`;
    if (!this.#compiled.has(shape)) await sleep(this.#options.warmUpSeconds * 1000, undefined, { signal: cancel });
    this.#compiled.add(shape);
    this.#call = begun;
    return begun;
  }

  /** Throws what speaks against rendering a span now. */
  #admit(request: SpanRequest): void {
    if (this.#fatal !== undefined) throw this.#fatal;
    if (this.#model !== 'loaded') throw new FarmError('invalid_argument', 'the model is not loaded');
    const other = this.#running?.request.leaseId;
    if (other !== undefined) {
      throw new FarmError('invalid_argument', `lease ${other} is being rendered; one span at a time is accepted`);
    }
    checkSpan(request);
    checkMemory(request, this.#options.memoryBytes);
  }

  async #report(leaseId: string, failure: RunnerFailure): Promise<void> {
    if (FATAL.has(failure.errorClass)) this.#fatal = failure;
    await this.#send({ type: 'error', leaseId, class: failure.errorClass, message: failure.message });
  }

  readonly #trackOf = async (path: string, frames: number): Promise<MouthTrack> => {
    const key = `${frames} ${path}`;
    if (this.#track?.key !== key) this.#track = { key, value: mouthTrack(await readSoundTrack(path, frames)) };
    return this.#track.value;
  };
}
