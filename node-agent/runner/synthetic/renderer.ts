import { appendFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SpanRequest } from '../../src/runner/protocol.ts';
import type { Renderer, Send, SpanControl, SpanEnd } from '../common/session.ts';
import { checkMemory, pretendedBytes } from './memory.ts';
import type { SyntheticOptions } from './options.ts';
import { beginCall, goesOnIn, type ModelCall, renderSpan } from './span.ts';
import { type MouthTrack, mouthTrack, readSoundTrack } from './speech/mouth-track.ts';

/** The steps of loading that the real model reports. */
const PHASES = ['text encoder', 'video decoder', 'transformer', 'adapter'] as const;

/** Draws spans, and imitates what the real model takes and how it fails. */
export class SyntheticRenderer implements Renderer {
  readonly #options: SyntheticOptions;
  #loaded = false;
  /** The model call that was begun last, while it can be gone on with. */
  #call: ModelCall | undefined;
  #hung = false;
  #track: { readonly key: string; readonly value: MouthTrack } | undefined;
  readonly #compiled = new Set<string>();

  constructor(options: SyntheticOptions) {
    this.#options = options;
  }

  /** True once it acts out a hang. */
  get hung(): boolean {
    return this.#hung;
  }

  async load(report: (phase: string, fraction: number) => Promise<void>): Promise<number> {
    this.#call = undefined;
    const { loadSeconds } = this.#options;
    const steps = this.#loaded ? 0 : Math.max(PHASES.length, Math.ceil(loadSeconds));
    for (let step = 0; step < steps; step += 1) {
      await report(PHASES[Math.floor((step * PHASES.length) / steps)] ?? '', step / steps);
      await sleep((loadSeconds * 1000) / steps);
    }
    this.#loaded = true;
    return process.memoryUsage.rss();
  }

  async unload(): Promise<number> {
    this.#loaded = false;
    this.#call = undefined;
    this.#track = undefined;
    this.#compiled.clear();
    return this.#options.unloadKeepsBytes ?? 0;
  }

  admit(request: SpanRequest): void {
    checkMemory(request, this.#options.memoryBytes);
  }

  async render(request: SpanRequest, control: SpanControl, send: Send): Promise<SpanEnd> {
    const { requestLog } = this.#options;
    if (requestLog !== undefined) await appendFile(requestLog, `${JSON.stringify(request)}\n`);
    try {
      const call = await this.#openCall(request, control.cancel, send);
      const end = await renderSpan(request, call, control, {
        options: this.#options,
        send,
        peakMemoryBytes: pretendedBytes(request, this.#options.memoryBytes),
        onHang: () => {
          this.#hung = true;
        },
      });
      if (end.reason === 'cancelled') this.#call = undefined;
      return end;
    } catch (error) {
      this.#call = undefined;
      throw error;
    }
  }

  /** The open call where the span goes on in it, otherwise a new one, after the warm-up of a new picture size. */
  async #openCall(request: SpanRequest, cancel: AbortSignal, send: Send): Promise<ModelCall> {
    const { leaseId, width, height } = request;
    const open = this.#call;
    if (open !== undefined && goesOnIn(open, request)) {
      open.leaseId = leaseId;
      await send({ type: 'spanStarted', leaseId, continued: true });
      return open;
    }
    this.#call = undefined;
    const begun = await beginCall(request, this.#trackOf, this.#options.drift, cancel);
    await send({ type: 'spanStarted', leaseId, continued: false });
    const shape = `${width}x${height}`;
    if (!this.#compiled.has(shape)) await sleep(this.#options.warmUpSeconds * 1000, undefined, { signal: cancel });
    this.#compiled.add(shape);
    this.#call = begun;
    return begun;
  }

  readonly #trackOf = async (path: string, frames: number): Promise<MouthTrack> => {
    const key = `${frames} ${path}`;
    if (this.#track?.key !== key) this.#track = { key, value: mouthTrack(await readSoundTrack(path, frames)) };
    return this.#track.value;
  };
}
