import { setTimeout as sleep } from 'node:timers/promises';
import { FarmError } from '@clipfarm/shared/errors';
import { CLIP_FRAMES, LOST_FRAMES, seedOfClip } from '@clipfarm/shared/model/clip';
import { checkLease, timelineFrame } from '@clipfarm/shared/model/lease-frames';
import type { FromRunner, SpanRequest } from '../../src/runner/protocol.ts';
import { actFault } from './faults.ts';
import type { SyntheticOptions } from './options.ts';
import { lookOf } from './picture/look.ts';
import { type Painter, painterOf } from './picture/painter.ts';
import { readReference } from './picture/reference.ts';
import type { MouthTrack } from './speech/mouth-track.ts';
import { jobHash } from './stamp.ts';

/** Frames that the model makes in one go. */
const BLOCK_FRAMES = 12;
const BLOCKS = CLIP_FRAMES / BLOCK_FRAMES;

/** What a span needs from the process that renders it. */
export interface SpanContext {
  readonly options: SyntheticOptions;
  /** Mouth of the job at `audioPath`, for that many frames. */
  readonly track: (audioPath: string, frames: number) => Promise<MouthTrack>;
  readonly send: (message: FromRunner, payload?: Uint8Array) => Promise<void>;
  /** Seconds to wait before the first clip. */
  readonly warmUpSeconds: number;
  /** Called when the span acts out a hang. */
  readonly onHang: () => void;
}

/** What can be done to a running span. */
export interface SpanControl {
  /** One past the last clip wanted; obeyed at every clip boundary. */
  end: number;
  /** Stops it at once when aborted. */
  readonly cancel: AbortSignal;
}

/** How a span ended, as the protocol reports it. */
export type SpanEnd = Pick<Extract<FromRunner, { type: 'spanEnded' }>, 'reason' | 'end'>;

/** Throws FarmError `invalid_argument` unless the model could render the span. */
export function checkSpan(request: SpanRequest): void {
  checkLease(request);
  seedOfClip(request.baseSeed, request.end);
  if (request.end <= request.clips) return;
  throw new FarmError('invalid_argument', `end is ${request.end}; the job has ${request.clips} clips`, {
    field: 'end',
  });
}

/**
 * Renders a span as the model does: clip after clip from the first of the pre-roll, in blocks of 12 frames, of which the
 * very first lacks 3. Throws what stops it; a cancel does not throw.
 */
export async function renderSpan(request: SpanRequest, control: SpanControl, context: SpanContext): Promise<SpanEnd> {
  let clip = request.start - request.preRoll;
  try {
    const paint = await preparePainter(request, control, context);
    await sleep(context.warmUpSeconds * 1000, undefined, { signal: control.cancel });
    const block = Buffer.allocUnsafe(BLOCK_FRAMES * request.width * request.height * 3);
    for (; clip < control.end; clip += 1) await renderClip(clip, paint, block, request, control, context);
  } catch (error) {
    if (!control.cancel.aborted) throw error;
    return { reason: 'cancelled', end: clip };
  }
  return { reason: clip < request.end ? 'stopped' : 'completed', end: clip };
}

async function preparePainter(request: SpanRequest, control: SpanControl, context: SpanContext): Promise<Painter> {
  const { width, height, baseSeed, anchored } = request;
  const firstSeed = seedOfClip(baseSeed, request.start - request.preRoll);
  const [reference, track] = await Promise.all([
    readReference(request.referencePath, width, height, control.cancel),
    context.track(request.audioPath, request.clips * CLIP_FRAMES),
  ]);
  const look = lookOf(firstSeed, context.options.drift, anchored);
  return painterOf({ width, height, reference, look, track, baseSeed });
}

async function renderClip(
  clip: number,
  paint: Painter,
  buffer: Uint8Array,
  request: SpanRequest,
  control: SpanControl,
  { options, send, onHang }: SpanContext,
): Promise<void> {
  const { leaseId, width, height, start, preRoll } = request;
  const begun = performance.now();
  const stamp = { job: jobHash(request.jobId), clip, span: request.span, seed: seedOfClip(request.baseSeed, clip) };
  const frameBytes = width * height * 3;
  for (let block = 0; block < BLOCKS; block += 1) {
    control.cancel.throwIfAborted();
    // The second block, so that a failed clip has left something half done.
    if (block === 1) await actFault(options, clip, onHang);
    const inCall = (clip - start + preRoll) * CLIP_FRAMES + block * BLOCK_FRAMES - LOST_FRAMES;
    const produced = Math.max(0, inCall);
    const count = inCall + BLOCK_FRAMES - produced;
    for (let i = 0; i < count; i += 1) {
      const rgb = buffer.subarray(i * frameBytes, (i + 1) * frameBytes);
      const frame = timelineFrame(request, produced + i);
      paint(rgb, { ...stamp, frame }, produced + i);
    }
    const due = begun + (options.secondsPerClip * 1000 * (block + 1)) / BLOCKS;
    const early = due - performance.now();
    if (early > 0) await sleep(early, undefined, { signal: control.cancel });
    await send({ type: 'frames', leaseId, produced, count }, buffer.subarray(0, count * frameBytes));
    await send({ type: 'progress', leaseId, clip, fraction: (block + 1) / BLOCKS });
  }
  await send({ type: 'clip', leaseId, clip, renderSeconds: (performance.now() - begun) / 1000 });
}
