/**
 * Which frame of the job a frame of a model call is. A call over n clips makes 48n - 3 frames: the first three of its
 * first clip are missing, so what it produces as number 0 belongs three frames later on the audio's timeline.
 */
import { FarmError } from '../errors.ts';
import { requireInteger } from './check.ts';
import { CLIP_FRAMES, LOST_FRAMES, MAX_CLIPS_PER_CALL } from './clip.ts';

/**
 * Clips of a lease: `start` to `end - 1`. Its model call begins `preRoll` clips earlier, unless the lease goes on in the
 * call of the lease before it.
 */
export interface LeaseClips {
  readonly start: number;
  readonly end: number;
  readonly preRoll: number;
  /** Goes on in an open call: no pre-roll, nothing lost, and frames are counted from the first of clip `start`. */
  readonly continued?: boolean;
}

/** Where a produced frame goes: into `clip`, as the job's frames `frame` to `frame + copies - 1`. */
export interface RoutedFrame {
  readonly clip: number;
  readonly frame: number;
  readonly copies: number;
}

/**
 * Throws `invalid_argument` unless the lease is one that a model call can deliver in full: at least one clip, at most
 * {@link MAX_CLIPS_PER_CALL} with pre-roll, and pre-roll exactly where clips precede, since it takes the lost frames.
 */
export function checkLease(lease: LeaseClips): void {
  requireInteger('start', lease.start, 0);
  requireInteger('end', lease.end, lease.start + 1);
  requireInteger('pre_roll', lease.preRoll, 0);
  if (lease.preRoll > lease.start) {
    refusePreRoll(lease, `at most ${lease.start}, the clips before it`);
  }
  if (lease.start > 0 && lease.preRoll === 0) {
    refusePreRoll(lease, `1 or more, because a model call loses the first ${LOST_FRAMES} frames of its first clip`);
  }
  if (lease.continued && lease.start === 0) {
    throw new FarmError('invalid_argument', 'start is 0 for a lease that goes on; nothing comes before clip 0', {
      field: 'start',
    });
  }
  if (clipsOfCall(lease) > MAX_CLIPS_PER_CALL) {
    const message = `clips ${lease.start} to ${lease.end} with ${lease.preRoll} of pre-roll are ${clipsOfCall(lease)} clips in one model call; accepted: at most ${MAX_CLIPS_PER_CALL}`;
    throw new FarmError('invalid_argument', message, { field: 'end' });
  }
}

/** Frames that the runner produces for a lease, pre-roll included. */
export function producedFrames(lease: LeaseClips): number {
  checkLease(lease);
  if (lease.continued) return CLIP_FRAMES * (lease.end - lease.start);
  return CLIP_FRAMES * clipsOfCall(lease) - LOST_FRAMES;
}

/** Frame of the job, on the audio's timeline, that a produced frame shows; also for pre-roll. */
export function timelineFrame(lease: LeaseClips, produced: number): number {
  checkLease(lease);
  requireInteger('produced', produced, 0);
  if (lease.continued) return CLIP_FRAMES * lease.start + produced;
  return CLIP_FRAMES * (lease.start - lease.preRoll) + LOST_FRAMES + produced;
}

/**
 * What a produced frame fills in a job of `totalFrames`. Frame 0 of the job's first lease stands for the job's frames
 * 0 to 3, so that everything after stays in time with the audio. Null for what the lease does not deliver: pre-roll,
 * frames past its end (a call that was cut short finishes the clip in hand) and padding past the job's end.
 */
export function routeProduced(lease: LeaseClips, totalFrames: number, produced: number): RoutedFrame | null {
  requireInteger('totalFrames', totalFrames, 1);
  const frame = timelineFrame(lease, produced);
  if (isAnchor(lease, produced)) return { clip: 0, frame: 0, copies: Math.min(frame + 1, totalFrames) };
  const first = CLIP_FRAMES * lease.start;
  const end = Math.min(CLIP_FRAMES * lease.end, totalFrames);
  if (frame < first || frame >= end) return null;
  return { clip: Math.floor(frame / CLIP_FRAMES), frame, copies: 1 };
}

/** True for the first generated frame of the job, which is its anchor. */
export function isAnchor(lease: LeaseClips, produced: number): boolean {
  return lease.start === 0 && produced === 0;
}

function clipsOfCall(lease: LeaseClips): number {
  return lease.end - lease.start + lease.preRoll;
}

function refusePreRoll(lease: LeaseClips, accepted: string): never {
  const message = `pre_roll is ${lease.preRoll} for a lease that starts at clip ${lease.start}; accepted: ${accepted}`;
  throw new FarmError('invalid_argument', message, { field: 'pre_roll' });
}
