/** A colour: red, green, blue, 0 to 255. */
export type Colour = readonly [number, number, number];

/** Mixes `colour` into the pixel at byte offset `at` of `rgb`; `alpha` of 0 leaves it, 1 replaces it. */
export function mix(rgb: Uint8Array, at: number, [r, g, b]: Colour, alpha: number): void {
  const weight = Math.min(1, Math.max(0, alpha));
  rgb[at] = (rgb[at] ?? 0) * (1 - weight) + r * weight + 0.5;
  rgb[at + 1] = (rgb[at + 1] ?? 0) * (1 - weight) + g * weight + 0.5;
  rgb[at + 2] = (rgb[at + 2] ?? 0) * (1 - weight) + b * weight + 0.5;
}

/** The colour `t` of the way from `a` to `b`. */
export function between(a: Colour, b: Colour, t: number): Colour {
  return [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t];
}

/** How much of a pixel lies on the positive side of an edge that is `distance` pixels from its centre. */
export function coverage(distance: number): number {
  return Math.min(1, Math.max(0, distance + 0.5));
}

/** A rectangle in whole pixels within a picture: columns `left` to `right` - 1, rows `top` to `bottom` - 1. */
export interface Box {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

/** The smallest box around `centerX` ± `halfWidth`, `top` to `bottom`, cut to the picture. */
export function boxAround(
  width: number,
  height: number,
  centerX: number,
  halfWidth: number,
  top: number,
  bottom: number,
): Box {
  return {
    left: Math.max(0, Math.floor(centerX - halfWidth)),
    right: Math.min(width, Math.ceil(centerX + halfWidth) + 1),
    top: Math.max(0, Math.floor(top)),
    bottom: Math.min(height, Math.ceil(bottom) + 1),
  };
}
