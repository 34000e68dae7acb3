import type { Clock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import { checkChunk, inspectChunk } from '@clipfarm/shared/media/chunk';
import { pngEncoderArgs } from '@clipfarm/shared/media/encode';
import { framesInClip } from '@clipfarm/shared/model/clip';
import { isAnchor, routeProduced } from '@clipfarm/shared/model/lease-frames';
import { runTool } from '@clipfarm/shared/process';
import { ClipEncoder } from './clip-encoder.ts';
import type { LeaseTask } from './lease-task.ts';
import type { Spool, SpoolEntry } from './spool.ts';

/** What the runner says of a finished clip: seconds that it took, and memory in bytes. */
export interface ClipFigures {
  readonly renderSeconds: number;
  readonly peakMemoryBytes: number;
  /** With what its allocator holds in reserve; 0 where the runner can't tell. */
  readonly reservedMemoryBytes: number;
  readonly hostBytes: number;
}

/** The model call that renders a lease. */
export interface ModelCall {
  /** It was open already. */
  readonly continued: boolean;
  /** Number of its span. */
  readonly span: number;
}

/** What a {@link ClipPipeline} works with. */
export interface ClipPipelineOptions {
  readonly lease: LeaseTask;
  /** One past the last clip that is still wanted; shrinks while the lease is rendered. */
  readonly wantedEnd: () => number;
  readonly spool: Spool;
  /** Path or name of ffmpeg. */
  readonly ffmpeg: string;
  readonly clock: Clock;
  /** A chunk or the anchor is in the spool. `encodeSeconds` is what encoding added after the last frame. */
  readonly onSpooled: (entry: SpoolEntry, encodeSeconds: number) => void;
  /** Nothing more comes of this lease; called once. `fault` says whose doing it is. */
  readonly onFailed: (error: FarmError, fault: 'runner' | 'host') => void;
}

interface ClipInHand {
  readonly clip: number;
  readonly encoder: ClipEncoder;
  readonly output: string;
  frames: number;
}

/** Milliseconds that one PNG may take. */
const ANCHOR_MILLIS = 60_000;

/**
 * From the frames of a lease's model call to chunks in the spool: picks the frames that the lease delivers, encodes each
 * clip by a process of its own, checks the result and spools it. While one clip is being finished the next one is
 * taken in, but it is not finished before its predecessor is in the spool: whatever dies, at most one finished clip is
 * lost. The promises of {@link frames} and {@link clipDone} are the back-pressure on the runner.
 */
export class ClipPipeline {
  readonly #options: ClipPipelineOptions;
  readonly #closed = new AbortController();
  #call: ModelCall | null = null;
  #inHand: ClipInHand | null = null;
  #finishing: Promise<void> = Promise.resolve();
  #cleaning: Promise<void> = Promise.resolve();
  #failed = false;

  constructor(options: ClipPipelineOptions) {
    this.#options = options;
  }

  /** The runner has begun: what it sends from now on comes from this call. */
  started(call: ModelCall): void {
    this.#call = call;
  }

  /**
   * Takes frames of the runner. Never rejects; faults go to `onFailed`.
   *
   * @param produced index of the first frame as the runner counts
   * @param payload `count` frames of height x width x 3 bytes
   */
  async frames(produced: number, count: number, payload: Uint8Array): Promise<void> {
    const { lease } = this.#options;
    const frameBytes = lease.width * lease.height * 3;
    if (this.#call === null) {
      this.#runnerFault('frames before it said which model call they are of');
      return;
    }
    if (payload.length !== count * frameBytes) {
      this.#runnerFault(`${payload.length} bytes for ${count} frames of ${lease.width}x${lease.height}`);
      return;
    }
    try {
      for (let i = 0; i < count && !this.#closed.signal.aborted; i += 1) {
        await this.#take(produced + i, payload.subarray(i * frameBytes, (i + 1) * frameBytes));
      }
    } catch (error) {
      // What fails because the pipeline was closed is no failure of the lease.
      if (!this.#closed.signal.aborted) this.#fail(FarmError.from(error), 'host');
    }
  }

  /**
   * Every frame of a clip came. Resolves once the clip before it is in the spool. Never rejects.
   */
  async clipDone(clip: number, figures: ClipFigures): Promise<void> {
    const { lease, wantedEnd } = this.#options;
    if (clip < lease.start || this.#closed.signal.aborted) return;
    if (clip >= wantedEnd()) {
      this.#drop();
      return;
    }
    const expected = framesInClip(clip, lease.frames);
    const inHand = this.#inHand;
    const frames = inHand?.clip === clip ? inHand.frames : 0;
    if (inHand === null || frames !== expected) {
      this.#runnerFault(`${frames} of the ${expected} frames of clip ${clip}`);
      return;
    }
    await this.#finishing;
    // The lease may have ended or shrunk meanwhile.
    if (this.#inHand !== inHand) return;
    this.#inHand = null;
    // Even when the lease is over by then, a finished clip that is lost must be known.
    this.#finishing = this.#finish(inHand, figures).catch((error) => this.#fail(FarmError.from(error), 'host'));
  }

  /** Throws the clip in hand away and takes nothing more. A clip that is being finished still gets into the spool. */
  close(): void {
    this.#closed.abort(new FarmError('unavailable', 'the lease is over'));
    this.#drop();
  }

  /** Resolves when finished clips are in the spool and no encoder runs any more. */
  async flushed(): Promise<void> {
    await this.#finishing;
    await this.#cleaning;
  }

  async #take(produced: number, frame: Uint8Array): Promise<void> {
    const { lease, wantedEnd } = this.#options;
    const continued = this.#call?.continued ?? false;
    const route = routeProduced({ ...lease, continued }, lease.frames, produced);
    if (route === null || route.clip >= wantedEnd()) return;
    if (lease.makeAnchor && isAnchor(lease, produced)) await this.#spoolAnchor(frame);
    const inHand = await this.#clipInHand(route.clip);
    if (inHand === null) return;
    for (let copy = 0; copy < route.copies; copy += 1) await inHand.encoder.write(frame);
    inHand.frames += route.copies;
  }

  /** The encoder of a clip, started with its first frame; null when the pipeline is closed. */
  async #clipInHand(clip: number): Promise<ClipInHand | null> {
    const { spool, ffmpeg, lease, clock } = this.#options;
    if (this.#inHand?.clip === clip) return this.#inHand;
    if (this.#inHand !== null) {
      this.#runnerFault(`frames of clip ${clip} before clip ${this.#inHand.clip} was done`);
      return null;
    }
    await spool.whenRoom(this.#closed.signal);
    if (this.#closed.signal.aborted) return null;
    const output = spool.scratchPath('mp4');
    const { width, height } = lease;
    this.#inHand = { clip, output, frames: 0, encoder: new ClipEncoder({ ffmpeg, width, height, output, clock }) };
    return this.#inHand;
  }

  async #finish({ clip, encoder, output, frames }: ClipInHand, figures: ClipFigures): Promise<void> {
    const { lease, spool, clock, onSpooled } = this.#options;
    const { farmId, jobId, leaseId, width, height } = lease;
    const began = clock.monotonic();
    try {
      await encoder.finish();
      checkChunk(await inspectChunk(output), { width, height, frames });
      const entry = await spool.add(output, {
        kind: 'chunk',
        ...{ farmId, jobId, leaseId, clip, frames, ...figures },
        span: this.#call?.span ?? lease.span,
      });
      onSpooled(entry, (clock.monotonic() - began) / 1000);
    } catch (error) {
      await encoder.abort();
      const { code, message } = FarmError.from(error);
      throw new FarmError(code, `clip ${clip} could not be encoded: ${message}`, { cause: error });
    }
  }

  async #spoolAnchor(frame: Uint8Array): Promise<void> {
    const { lease, spool, ffmpeg, clock, onSpooled } = this.#options;
    const { farmId, jobId, leaseId, width, height } = lease;
    const output = spool.scratchPath('png');
    const began = clock.monotonic();
    await runTool(ffmpeg, pngEncoderArgs({ width, height, output }), {
      timeoutMs: ANCHOR_MILLIS,
      stdin: frame,
      signal: this.#closed.signal,
    });
    const entry = await spool.add(output, { kind: 'anchor', farmId, jobId, leaseId });
    onSpooled(entry, (clock.monotonic() - began) / 1000);
  }

  #drop(): void {
    const { encoder } = this.#inHand ?? {};
    this.#inHand = null;
    if (encoder === undefined) return;
    const before = this.#cleaning;
    this.#cleaning = Promise.all([before, encoder.abort().catch(() => {})]).then(() => {});
  }

  /** The runner broke the protocol. */
  #runnerFault(sent: string): void {
    this.#fail(new FarmError('failed_precondition', `the runner sent ${sent}`), 'runner');
  }

  #fail(error: FarmError, fault: 'runner' | 'host'): void {
    this.close();
    if (this.#failed) return;
    this.#failed = true;
    this.#options.onFailed(error, fault);
  }
}
