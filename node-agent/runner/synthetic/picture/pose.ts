import { FPS } from '@clipfarm/shared/model/clip';
import type { MouthTrack } from '../speech/mouth-track.ts';
import { smoothStep } from './face.ts';
import { type Look, unitHash } from './look.ts';

/** Everything that moves in one frame. Lengths are shares of the face's unit, right and down; the rest is 0 to 1. */
export interface Pose {
  readonly headX: number;
  readonly headY: number;
  /** Rise of the shoulders. */
  readonly breath: number;
  readonly mouthOpen: number;
  readonly mouthBroad: number;
  /** How far the eyes are closed. */
  readonly lids: number;
}

/** Frames after which a model call has left its reference picture, and after which its lips follow the sound. */
const SETTLING_FRAMES = 30;
const LIPS_FRAMES = 6;

/** One blink falls somewhere in every such stretch of frames. */
const BLINK_EVERY = 95;

/** Closing of the lids over the frames of a blink. */
const BLINK = [0.55, 1, 1, 0.6];

/**
 * The pose of frame `frame` of a job, which is frame `produced` of its model call. A call starts from the reference
 * picture as it is and moves away from it within a second, which pre-roll hides. The movement itself follows from
 * frame, seed of the job and sound, so neighbouring spans differ by their look only.
 */
export function poseAt(frame: number, produced: number, baseSeed: number, track: MouthTrack, look: Look): Pose {
  const settled = smoothStep(0, SETTLING_FRAMES, produced);
  const lips = smoothStep(0, LIPS_FRAMES, produced);
  const open = lips * (track.open[frame] ?? 0);
  const seconds = frame / FPS;
  const wave = (period: number, field: number): number =>
    Math.sin(2 * Math.PI * (seconds / period + unitHash(baseSeed, field)));
  return {
    headX: settled * (look.offsetX + 0.0065 * wave(6.1, 10) + 0.003 * wave(2.7, 11)),
    headY: settled * (look.offsetY + 0.003 * wave(4.3, 12) + 0.004 * nod(frame, track)),
    breath: settled * 0.004 * wave(3.9, 13),
    mouthOpen: open,
    mouthBroad: track.broad[frame] ?? 0,
    lids: lips * lidsAt(frame, baseSeed),
  };
}

/** Slow emphasis: the loudness of the last half second. */
function nod(frame: number, { open }: MouthTrack): number {
  let sum = 0;
  for (let i = frame - 11; i <= frame; i += 1) sum += open[i] ?? 0;
  return sum / 12;
}

function lidsAt(frame: number, baseSeed: number): number {
  const stretch = Math.floor(frame / BLINK_EVERY);
  const start = stretch * BLINK_EVERY + Math.floor(unitHash(baseSeed + stretch, 20) * (BLINK_EVERY - BLINK.length));
  return BLINK[frame - start] ?? 0;
}
