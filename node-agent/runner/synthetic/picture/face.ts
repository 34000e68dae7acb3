/** Where a face is taken to be, in pixels: upright, centred, seen from the front, as in the usual talking portrait. */
export interface Face {
  /** Length that the sizes of features are given in: the picture's height, less where the picture is narrow. */
  readonly unit: number;
  readonly centerX: number;
  /** Middle of the closed lips. */
  readonly mouthY: number;
  /** Rows between which the lower face is stretched when the jaw drops. */
  readonly noseY: number;
  readonly neckY: number;
  readonly eyesY: number;
  /** Distance of either eye from the middle. */
  readonly eyeOffset: number;
}

/** The face of a picture of that size. */
export function faceOf(width: number, height: number): Face {
  const unit = Math.min(height, 1.4 * width);
  const mouthY = 0.66 * height;
  return {
    unit,
    centerX: width / 2,
    mouthY,
    noseY: mouthY - 0.085 * unit,
    neckY: mouthY + 0.2 * unit,
    eyesY: mouthY - 0.225 * unit,
    eyeOffset: 0.0944 * unit,
  };
}

/** A smooth step from 0 at `from` to 1 at `to`; `from` may be the larger. */
export function smoothStep(from: number, to: number, value: number): number {
  const t = Math.min(1, Math.max(0, (value - from) / (to - from)));
  return t * t * (3 - 2 * t);
}
