import { FarmError } from '@clipfarm/shared/errors';
import { seedOfClip } from '@clipfarm/shared/model/clip';
import { checkLease } from '@clipfarm/shared/model/lease-frames';
import type { FromRunner, RunnerErrorClass, SpanRequest, ToRunner } from '../../src/runner/protocol.ts';
import { RunnerFailure } from './runner-failure.ts';

/** Sends a message to the agent; rejects when the connection is gone. */
export type Send = (message: FromRunner, payload?: Uint8Array) => Promise<void>;

/** What can be done to a running span. */
export interface SpanControl {
  /** One past the last clip wanted; may change at any time. */
  end: number;
  /** Stops it at once when aborted. */
  readonly cancel: AbortSignal;
}

/** How a span ended, as the protocol reports it. */
export type SpanEnd = Pick<Extract<FromRunner, { type: 'spanEnded' }>, 'reason' | 'end'>;

/** What a kind of runner does; the {@link Session} calls one of them at a time. */
export interface Renderer {
  /** Makes ready to render; returns the bytes in use on the most loaded GPU. */
  load(report: (phase: string, fraction: number) => Promise<void>): Promise<number>;
  /** Gives memory back; returns the bytes that are still held on the most loaded GPU. */
  unload(): Promise<number>;
  /** Throws what speaks against a span before anything is done for it. */
  admit(request: SpanRequest): void;
  /** Renders a span, `spanStarted` first. Throws what stops it, a cancel included. */
  render(request: SpanRequest, control: SpanControl, send: Send): Promise<SpanEnd>;
}

interface Running {
  readonly request: SpanRequest;
  readonly control: SpanControl;
  readonly cancel: AbortController;
}

/** Failures after which the process is of no more use. */
const FATAL: ReadonlySet<RunnerErrorClass> = new Set(['device', 'crash']);

/** The conversation of a runner with its agent: loads once, then renders span after span. */
export class Session {
  readonly #renderer: Renderer;
  readonly #send: Send;
  #model: 'absent' | 'loading' | 'loaded' = 'absent';
  #running: Running | undefined;
  #fatal: RunnerFailure | undefined;

  constructor(renderer: Renderer, send: Send) {
    this.#renderer = renderer;
    this.#send = send;
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

  /** Stops the span in hand, if any: nobody is there to take it. */
  abandon(): void {
    this.#running?.cancel.abort();
  }

  async #load(): Promise<void> {
    if (this.#model === 'loading') return;
    const begun = performance.now();
    this.#model = 'loading';
    try {
      const memoryBytes = await this.#renderer.load((phase, fraction) =>
        this.#send({ type: 'loading', phase, fraction }),
      );
      this.#model = 'loaded';
      await this.#send({ type: 'loaded', seconds: (performance.now() - begun) / 1000, memoryBytes });
    } catch (error) {
      this.#model = 'absent';
      await this.#report(undefined, RunnerFailure.from(error));
    }
  }

  async #unload(): Promise<void> {
    // Memory of a span that is being rendered is not there to give back.
    if (this.#running !== undefined || this.#model === 'loading') return;
    this.#model = 'absent';
    await this.#send({ type: 'unloaded', memoryBytes: await this.#renderer.unload() });
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
      const end = await this.#renderer.render(request, running.control, this.#send);
      this.#running = undefined;
      await this.#send({ type: 'spanEnded', leaseId, ...end });
    } catch (error) {
      this.#running = undefined;
      const end = request.start - request.preRoll;
      if (cancel.signal.aborted) await this.#send({ type: 'spanEnded', leaseId, reason: 'cancelled', end });
      else await this.#report(leaseId, RunnerFailure.from(error));
    }
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
    this.#renderer.admit(request);
  }

  async #report(leaseId: string | undefined, failure: RunnerFailure): Promise<void> {
    const { errorClass, message, numbers } = failure;
    if (FATAL.has(errorClass)) this.#fatal = failure;
    const lease = leaseId === undefined ? {} : { leaseId };
    const evidence = Object.keys(numbers).length === 0 ? {} : { numbers };
    await this.#send({ type: 'error', ...lease, class: errorClass, message, ...evidence });
  }
}

/** Throws FarmError `invalid_argument` unless the model could render the span. */
export function checkSpan(request: SpanRequest): void {
  checkLease(request);
  seedOfClip(request.baseSeed, request.end);
  if (request.end <= request.clips) return;
  throw new FarmError('invalid_argument', `end is ${request.end}; the job has ${request.clips} clips`, {
    field: 'end',
  });
}
