import type { Face } from './face.ts';
import { boxAround, type Colour, coverage, mix } from './paint.ts';

const LASHES: Colour = [58, 31, 23];

/** Size of an eye as shares of the face's unit. */
const HALF_WIDTH = 0.06;
const HALF_HEIGHT = 0.046;

/** Thickness of the lashes' line. */
const LINE = 0.005;

/**
 * Closes both eyes by `lids` (0 to 1): a lid in the colour of the skin above comes down. `x` and `y` say where the head
 * moved, in pixels.
 */
export function drawEyelids(
  rgb: Uint8Array,
  width: number,
  height: number,
  face: Face,
  lids: number,
  x: number,
  y: number,
): void {
  if (lids <= 0) return;
  for (const side of [-1, 1]) {
    drawLid(rgb, width, height, face.unit, face.centerX + side * face.eyeOffset + x, face.eyesY + y, lids);
  }
}

function drawLid(
  rgb: Uint8Array,
  width: number,
  height: number,
  unit: number,
  eyeX: number,
  eyeY: number,
  lids: number,
): void {
  const halfWidth = HALF_WIDTH * unit;
  const halfHeight = HALF_HEIGHT * unit;
  const box = boxAround(width, height, eyeX, halfWidth, eyeY - halfHeight, eyeY + halfHeight);
  for (let column = box.left; column < box.right; column += 1) {
    const across = (column - eyeX) / halfWidth;
    if (Math.abs(across) >= 1) continue;
    const arc = halfHeight * Math.sqrt(1 - across * across);
    const top = eyeY - arc;
    const edge = top + lids * (eyeY + 0.62 * arc - top);
    const skinAt = (Math.max(0, Math.floor(eyeY - 1.08 * halfHeight)) * width + column) * 3;
    const skin: Colour = [rgb[skinAt] ?? 0, rgb[skinAt + 1] ?? 0, rgb[skinAt + 2] ?? 0];
    const line = LINE * unit * (1 - across * across);
    for (let row = box.top; row < box.bottom; row += 1) {
      const at = (row * width + column) * 3;
      mix(rgb, at, skin, Math.min(coverage(row - top), coverage(edge - row)));
      mix(rgb, at, LASHES, coverage(line - Math.abs(row - edge)));
    }
  }
}
