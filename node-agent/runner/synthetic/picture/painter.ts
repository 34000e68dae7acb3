import { FarmError } from '@clipfarm/shared/errors';
import type { MouthTrack } from '../speech/mouth-track.ts';
import type { Stamp } from '../stamp.ts';
import { backdropOf } from './backdrop.ts';
import { bannerHeight, drawBanner, withoutBanner } from './banner.ts';
import { drawEyelids } from './eyelids.ts';
import { type Face, faceOf, smoothStep } from './face.ts';
import { jawOf } from './jaw.ts';
import { type Look, tinted } from './look.ts';
import { drawMouth, JAW_DROP } from './mouth.ts';
import { type Pose, poseAt } from './pose.ts';

/** What a span's frames are painted from. */
export interface Scene {
  readonly width: number;
  readonly height: number;
  /** Reference picture, width x height x 3 bytes. */
  readonly reference: Uint8Array;
  readonly look: Look;
  /** Mouth of the whole job. */
  readonly track: MouthTrack;
  /** Seed of clip 0. */
  readonly baseSeed: number;
}

/** Paints frame `stamp.frame` of the job, frame `produced` of its model call, into `rgb`, width x height x 3 bytes. */
export type Painter = (rgb: Uint8Array, stamp: Stamp, produced: number) => void;

/** Largest share of the face's unit that anything moves sideways, with drift at its strongest. */
const REACH = 0.06;

/** Rows above the banner that a picture needs. */
const MIN_PICTURE_ROWS = 64;

/**
 * Prepares a span. Throws FarmError `invalid_argument` on `height` for a picture that the banner would fill.
 */
export function painterOf(scene: Scene): Painter {
  const { width, height, look, track, baseSeed } = scene;
  const least = bannerHeight(width) + MIN_PICTURE_ROWS;
  if (height < least) {
    throw new FarmError('invalid_argument', `height is ${height}; at least ${least} is accepted at width ${width}`, {
      field: 'height',
    });
  }
  const face = faceOf(width, height);
  const still = tinted(withoutBanner(scene.reference, width, height), look);
  const backdrop = backdropOf(still, width, height, Math.ceil(REACH * face.unit));
  const jaw = jawOf(width, height, face);
  const rows = rowWeights(height, face);
  const shiftX = new Float32Array(height);
  const sourceY = new Float32Array(height);

  return (rgb, stamp, produced) => {
    const pose = poseAt(stamp.frame, produced, baseSeed, track, look);
    placeRows(pose, face, rows, shiftX, sourceY);
    backdrop.draw(rgb, shiftX, sourceY);
    const x = pose.headX * face.unit;
    const y = pose.headY * face.unit;
    jaw.drop(rgb, JAW_DROP * face.unit * pose.mouthOpen, x, y);
    drawMouth(rgb, width, height, face, { open: pose.mouthOpen, broad: pose.mouthBroad, x, y });
    drawEyelids(rgb, width, height, face, pose.lids, x, y);
    drawBanner(rgb, width, height, stamp);
  };
}

/** How much each row moves with the head, and with the shoulders; what lies between is sheared. */
interface RowWeights {
  readonly head: Float32Array;
  readonly shoulders: Float32Array;
}

function rowWeights(height: number, face: Face): RowWeights {
  const chin = face.mouthY + 0.13 * face.unit;
  const chest = face.mouthY + 0.3 * face.unit;
  const head = Float32Array.from({ length: height }, (_, y) => 0.2 + 0.8 * smoothStep(chest, chin, y));
  const shoulders = Float32Array.from({ length: height }, (_, y) => smoothStep(chin, face.neckY, y));
  return { head, shoulders };
}

function placeRows(pose: Pose, face: Face, rows: RowWeights, shiftX: Float32Array, sourceY: Float32Array): void {
  const { unit } = face;
  for (let y = 0; y < shiftX.length; y += 1) {
    const head = rows.head[y] ?? 0;
    shiftX[y] = pose.headX * unit * head;
    sourceY[y] = y - (pose.headY * head - pose.breath * (rows.shoulders[y] ?? 0)) * unit;
  }
}
