import { copyFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { FarmError } from '@clipfarm/shared/errors';
import { CLIP_FRAMES, LOST_FRAMES } from '@clipfarm/shared/model/clip';
import { GIB } from '@clipfarm/shared/model/gpu-cost';
import { producedFrames } from '@clipfarm/shared/model/lease-frames';
import type { SpanRequest } from '../../src/runner/protocol.ts';
import { RunnerFailure } from '../common/runner-failure.ts';
import type { Renderer, Send, SpanControl, SpanEnd } from '../common/session.ts';
import { writeSlice } from './audio-slice.ts';
import { clipsOfCall, rankCommands, scriptArgs } from './command.ts';
import { type CallFigures, runModelCall } from './model-call.ts';
import type { CliOptions } from './options.ts';
import { checkVideo, decodeVideo } from './output-video.ts';
import { checkHost } from './preflight.ts';
import type { GpuPeak } from './resources.ts';
import { makeWorkFolder } from './work-folder.ts';

/** Frames that are handed over at once: a block of the model's. */
const BLOCK_FRAMES = 12;

/** Milliseconds that reading a clip of upstream's video may take, before the factor of `--patience`. */
const PROBE_MS_PER_CLIP = 2000;
const PROBE_MS = 60_000;

/** Times that a call is begun again because another process took the port. */
const PORT_ATTEMPTS = 3;

/** Renders each span by one run of upstream's own script. The model is loaded anew each time, and nothing stays. */
export class CliRenderer implements Renderer {
  readonly #options: CliOptions;
  readonly #environment: Readonly<Record<string, string>>;

  /** @param environment of upstream's processes, less what the runner sets itself */
  constructor(options: CliOptions, environment: Readonly<Record<string, string>>) {
    this.#options = options;
    this.#environment = environment;
  }

  /** Checks what upstream needs; the model itself is loaded with each span. */
  async load(report: (phase: string, fraction: number) => Promise<void>): Promise<number> {
    await report('checks', 0);
    await checkHost(this.#options, this.#environment.CUDA_VISIBLE_DEVICES);
    return 0;
  }

  async unload(): Promise<number> {
    return 0;
  }

  admit(request: SpanRequest): void {
    scriptArgs(this.#options, request, { image: 'image', audio: 'audio', output: 'output' });
  }

  async render(request: SpanRequest, control: SpanControl, send: Send): Promise<SpanEnd> {
    const { leaseId, width, height } = request;
    await send({ type: 'spanStarted', leaseId, continued: false });
    await using folder = await makeWorkFolder(this.#options.workDir, { width, height }, clipsOfCall(request));
    const files = {
      image: join(folder.path, 'reference.png'),
      audio: join(folder.path, 'audio.wav'),
      output: join(folder.path, 'video.mp4'),
    };
    await copyFile(request.referencePath, files.image);
    await writeSlice(request.audioPath, request, files.audio);
    const args = scriptArgs(this.#options, request, files);
    const figures = await this.#run(request, args, folder, control, send);
    return await this.#handOver(request, files.output, figures, control, send);
  }

  async #run(
    request: SpanRequest,
    args: readonly string[],
    folder: { readonly path: string; readonly limitBytes: number },
    control: SpanControl,
    send: Send,
  ): Promise<CallFigures> {
    const first = request.start - request.preRoll;
    const onShare = async (share: number): Promise<void> => {
      const position = share * clipsOfCall(request);
      const clip = first + Math.floor(position);
      await send({ type: 'progress', leaseId: request.leaseId, clip, fraction: position - Math.floor(position) });
    };
    for (let attempt = 1; ; attempt += 1) {
      const commands = rankCommands(this.#options, args, await freePort(), this.#environment);
      const { patience } = this.#options;
      const { CUDA_VISIBLE_DEVICES: devices } = this.#environment;
      try {
        return await runModelCall({
          commands,
          span: request,
          folder,
          patience,
          devices,
          onShare,
          signal: control.cancel,
        });
      } catch (error) {
        // The port was free a moment ago; nothing was rendered yet.
        const taken = error instanceof RunnerFailure && /EADDRINUSE|address already in use/i.test(error.message);
        if (!taken || attempt === PORT_ATTEMPTS) throw error;
      }
    }
  }

  /** Checks upstream's video and hands its frames to the agent, clip by clip, up to the end that is wanted by then. */
  async #handOver(
    request: SpanRequest,
    path: string,
    figures: CallFigures,
    control: SpanControl,
    send: Send,
  ): Promise<SpanEnd> {
    const { leaseId, width, height, start, preRoll, end } = request;
    const { ffmpeg, ffprobe, patience } = this.#options;
    const expected = { width, height, frames: producedFrames(request) };
    const timeoutMs = (PROBE_MS + PROBE_MS_PER_CLIP * clipsOfCall(request)) * Math.max(1, patience);
    const remarks = await checkVideo(ffprobe, path, expected, { signal: control.cancel, timeoutMs }).catch(
      (error: unknown) => {
        throw withComplaints(error, figures.complaints);
      },
    );
    for (const remark of remarks) process.stderr.write(`lease ${leaseId}: ${remark}\n`);
    const renderSeconds = figures.renderSeconds / clipsOfCall(request);
    const { hostBytes, gpu } = figures;
    const peakMemoryBytes = gpu.bytes;
    const basis = basisOf(gpu);
    if (basis !== null) process.stderr.write(`lease ${leaseId}: ${basis}\n`);
    let clip = start - preRoll;
    let produced = 0;
    if (clip < control.end) {
      for await (const frames of decodeVideo(ffmpeg, path, expected, blocks(expected.frames), control.cancel)) {
        const count = frames.length / (width * height * 3);
        await send({ type: 'frames', leaseId, produced, count }, frames);
        produced += count;
        if ((produced + LOST_FRAMES) % CLIP_FRAMES !== 0) continue;
        await send({ type: 'clip', leaseId, clip, renderSeconds, peakMemoryBytes, hostBytes });
        clip += 1;
        if (clip >= control.end) break;
      }
    }
    return { reason: clip < end ? 'stopped' : 'completed', end: clip };
  }
}

/** What the figure of GPU memory is, in words, where it is not that of the script's own processes. */
function basisOf({ basis, bytes, beforeBytes }: GpuPeak): string | null {
  if (basis === 'processes' || bytes === 0) return null;
  const gib = (beforeBytes / GIB).toFixed(1);
  return `nvidia-smi lists none of the script's processes: its GPU memory is that of the whole card, less ${gib} GiB in use before`;
}

/** Frames of the pieces of a call's video: blocks of 12, of which the first lacks what the call loses. */
function* blocks(frames: number): Generator<number> {
  for (let from = 0; from < frames; ) {
    const count = from === 0 ? BLOCK_FRAMES - LOST_FRAMES : BLOCK_FRAMES;
    yield count;
    from += count;
  }
}

/** A failure with what upstream said, which ended with status 0. */
function withComplaints(error: unknown, complaints: readonly string[]): unknown {
  if (!(error instanceof RunnerFailure) || complaints.length === 0) return error;
  return new RunnerFailure(error.errorClass, `${error.message}; upstream: ${complaints.join('; ')}`, error.numbers);
}

/** A TCP port of this host that was free just now. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => {
        if (typeof address === 'object' && address !== null) resolve(address.port);
        else reject(new FarmError('internal', 'the system gave no port'));
      });
    });
  });
}
