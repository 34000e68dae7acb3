/** Sub-pixel positions for which the picture is kept; an eighth of a pixel is below what the eye follows. */
const PHASES = 8;

/** A still picture that can be drawn with each row shifted sideways and taken from any height; see {@link backdropOf}. */
export interface Backdrop {
  /**
   * Draws into `out` (width x height x 3 bytes): row y shows the picture's row `sourceY[y]`, moved right by
   * `shiftX[y]` pixels. Both may be fractions; what lies outside the picture repeats its edge.
   */
  draw(out: Uint8Array, shiftX: Float32Array, sourceY: Float32Array): void;
}

/**
 * Prepares a picture (width x height x 3 bytes) for fast drawing: the horizontal interpolation is done once, for every
 * phase, so that a frame costs one blend of two rows. `reach` is the largest sideways shift in pixels; more is cut.
 */
export function backdropOf(rgb: Uint8Array, width: number, height: number, reach: number): Backdrop {
  const stride = (width + 2 * reach + 1) * 3;
  const planes = phasePlanes(rgb, width, height, reach, stride);
  const rowBytes = width * 3;

  return {
    draw(out, shiftX, sourceY) {
      for (let y = 0; y < height; y += 1) {
        const left = Math.min(reach, Math.max(-reach, -(shiftX[y] ?? 0))) + reach;
        const column = Math.floor(left);
        const phase = Math.floor((left - column) * PHASES);
        const source = Math.min(height - 1, Math.max(0, sourceY[y] ?? 0));
        const row = Math.floor(source);
        const weight = Math.round((source - row) * 256);
        const upper = (phase * height + row) * stride + column * 3;
        const at = y * rowBytes;
        if (weight === 0) out.set(planes.subarray(upper, upper + rowBytes), at);
        else blendRows(out, at, planes, upper, upper + stride, rowBytes, weight);
      }
    },
  };
}

/** `out[at…] = a * (256 - weight) + b * weight`, over 256, for rows of `planes` at `upper` and `lower`. */
function blendRows(
  out: Uint8Array,
  at: number,
  planes: Uint8Array,
  upper: number,
  lower: number,
  bytes: number,
  weight: number,
): void {
  for (let i = 0; i < bytes; i += 1) {
    const a = planes[upper + i] as number;
    const b = planes[lower + i] as number;
    out[at + i] = a + (((b - a) * weight + 128) >> 8);
  }
}

/** One plane per phase, each height rows of `stride` bytes with `reach` repeated pixels on the left, one more right. */
function phasePlanes(rgb: Uint8Array, width: number, height: number, reach: number, stride: number): Uint8Array {
  const planes = new Uint8Array(PHASES * height * stride);
  for (let phase = 0; phase < PHASES; phase += 1) {
    for (let y = 0; y < height; y += 1) {
      let at = (phase * height + y) * stride;
      for (let x = -reach; x <= width + reach; x += 1) {
        const here = (y * width + Math.min(width - 1, Math.max(0, x))) * 3;
        const next = (y * width + Math.min(width - 1, Math.max(0, x + 1))) * 3;
        for (let c = 0; c < 3; c += 1) {
          const a = rgb[here + c] ?? 0;
          const b = rgb[next + c] ?? 0;
          planes[at++] = a + Math.round(((b - a) * phase) / PHASES);
        }
      }
    }
  }
  return planes;
}
