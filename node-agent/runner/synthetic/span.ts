import { setTimeout as sleep } from 'node:timers/promises';
import { CLIP_FRAMES, LOST_FRAMES, MAX_CLIPS_PER_CALL, seedOfClip } from '@clipfarm/shared/model/clip';
import { timelineFrame } from '@clipfarm/shared/model/lease-frames';
import type { SpanRequest } from '../../src/runner/protocol.ts';
import type { Send, SpanControl, SpanEnd } from '../common/session.ts';
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
  readonly send: Send;
  /** Bytes that the pretended GPU has in use; 0 without one. */
  readonly peakMemoryBytes: number;
  /** Called when the span acts out a hang. */
  readonly onHang: () => void;
}

/** A model call: what all its clips have in common, and how far it is. */
export interface ModelCall {
  /** The lease that began it, or that went on in it last. */
  leaseId: string;
  /** The request that began it. */
  readonly first: SpanRequest;
  readonly paint: Painter;
  /** The clip that comes next. */
  next: number;
  /** Set while a clip of it is half done: nothing can go on from there. */
  broken: boolean;
}

/** Mouth of the job at `audioPath`, for that many frames. */
export type TrackOf = (audioPath: string, frames: number) => Promise<MouthTrack>;

/**
 * Begins the model call of a span, at the first clip of its pre-roll. Throws what speaks against it; when it was
 * cancelled, the reason of the signal.
 *
 * @param drift strength of the differences in appearance between calls
 */
export async function beginCall(
  request: SpanRequest,
  track: TrackOf,
  drift: number,
  cancel: AbortSignal,
): Promise<ModelCall> {
  const { width, height, baseSeed, anchored, leaseId } = request;
  const next = request.start - request.preRoll;
  const [reference, mouth] = await Promise.all([
    readReference(request.referencePath, width, height, cancel),
    track(request.audioPath, request.clips * CLIP_FRAMES),
  ]);
  const look = lookOf(seedOfClip(baseSeed, next), drift, anchored);
  const paint = painterOf({ width, height, reference, look, track: mouth, baseSeed });
  return { leaseId, first: request, paint, next, broken: false };
}

/** Whether a span can go on in a call. */
export function goesOnIn(call: ModelCall, request: SpanRequest): boolean {
  const { first } = call;
  if (call.broken || call.leaseId !== request.continues || call.next !== request.start) return false;
  if (request.end - (first.start - first.preRoll) > MAX_CLIPS_PER_CALL) return false;
  const same = ['jobId', 'width', 'height', 'sampleSteps', 'baseSeed', 'prompt'] as const;
  return same.every((key) => first[key] === request[key]);
}

/**
 * Renders a span as the model does: clip after clip, in blocks of 12 frames, of which the first of the call lacks 3.
 * Throws what stops it; a cancel does not throw.
 */
export async function renderSpan(
  request: SpanRequest,
  call: ModelCall,
  control: SpanControl,
  context: SpanContext,
): Promise<SpanEnd> {
  try {
    while (call.next < control.end) {
      call.broken = true;
      await renderClip(call, request, control, context);
      call.next += 1;
      call.broken = false;
    }
  } catch (error) {
    if (!control.cancel.aborted) throw error;
    return { reason: 'cancelled', end: call.next };
  }
  return { reason: call.next < request.end ? 'stopped' : 'completed', end: call.next };
}

async function renderClip(
  call: ModelCall,
  request: SpanRequest,
  control: SpanControl,
  { options, send, peakMemoryBytes, onHang }: SpanContext,
): Promise<void> {
  const { leaseId, width, height, jobId, baseSeed } = request;
  const { first, paint, next: clip } = call;
  const begun = performance.now();
  const stamp = { job: jobHash(jobId), clip, span: first.span, seed: seedOfClip(baseSeed, clip) };
  const frameBytes = width * height * 3;
  const buffer = Buffer.allocUnsafe(BLOCK_FRAMES * frameBytes);
  // Produced frames are counted from the start of the call for the lease that began it, from its own start for others.
  const skipped =
    leaseId === first.leaseId ? 0 : timelineFrame({ ...request, continued: true }, 0) - timelineFrame(first, 0);
  for (let block = 0; block < BLOCKS; block += 1) {
    control.cancel.throwIfAborted();
    // The second block, so that a failed clip has left something half done.
    if (block === 1) await actFault(options, clip, onHang);
    const untrimmed = (clip - first.start + first.preRoll) * CLIP_FRAMES + block * BLOCK_FRAMES - LOST_FRAMES;
    const inCall = Math.max(0, untrimmed);
    const count = untrimmed + BLOCK_FRAMES - inCall;
    for (let i = 0; i < count; i += 1) {
      const rgb = buffer.subarray(i * frameBytes, (i + 1) * frameBytes);
      paint(rgb, { ...stamp, frame: timelineFrame(first, inCall + i) }, inCall + i);
    }
    const due = begun + (options.secondsPerClip * 1000 * (block + 1)) / BLOCKS;
    // A timer counts whole milliseconds and may come one early.
    for (let early = due - performance.now(); early > 0; early = due - performance.now()) {
      await sleep(Math.ceil(early), undefined, { signal: control.cancel });
    }
    await send({ type: 'frames', leaseId, produced: inCall - skipped, count }, buffer.subarray(0, count * frameBytes));
    await send({ type: 'progress', leaseId, clip, fraction: (block + 1) / BLOCKS });
  }
  const renderSeconds = (performance.now() - begun) / 1000;
  await send({ type: 'clip', leaseId, clip, renderSeconds, peakMemoryBytes, hostBytes: process.memoryUsage.rss() });
}
