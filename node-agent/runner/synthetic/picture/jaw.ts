import { type Face, smoothStep } from './face.ts';
import { boxAround } from './paint.ts';

/** Half the width of the lower face, as a share of the face's unit. */
const HALF_WIDTH = 0.2;

/** Rows below the mouth, as shares of the unit: the lower lip moves all the way, the chin a little less. */
const LIP = 0.03;
const CHIN = 0.11;

/** A jaw that can be dropped; see {@link jawOf}. */
export interface Jaw {
  /** Moves the chin of `rgb` down by `drop` pixels and stretches what lies between it and nose and neck. */
  drop(rgb: Uint8Array, drop: number, headX: number, headY: number): void;
}

/** Prepares the lower face of a picture of that size; `headX` and `headY` of `drop` say where it moved, in pixels. */
export function jawOf(width: number, height: number, face: Face): Jaw {
  const halfWidth = HALF_WIDTH * face.unit;
  const across = (x: number): number => smoothStep(halfWidth, 0.45 * halfWidth, Math.abs(x - face.centerX));
  const lipY = face.mouthY + LIP * face.unit;
  const chinY = face.mouthY + CHIN * face.unit;
  const down = (y: number): number => smoothStep(face.noseY, lipY, y) * smoothStep(face.neckY, chinY, y);

  return {
    drop(rgb, drop, headX, headY) {
      const box = boxAround(width, height, face.centerX + headX, halfWidth, face.noseY + headY, face.neckY + headY);
      const columns = Float32Array.from({ length: box.right - box.left }, (_, i) => across(box.left + i - headX));
      // Rows are taken from further up, so going upwards never reads a row that was written.
      for (let y = box.bottom - 1; y > box.top; y -= 1) {
        const reach = drop * down(y - headY);
        if (reach < 0.02) continue;
        for (let x = box.left; x < box.right; x += 1) {
          const source = Math.max(0, y - reach * (columns[x - box.left] ?? 0));
          const row = Math.floor(source);
          const weight = source - row;
          const a = (row * width + x) * 3;
          const b = row < y ? a + width * 3 : a;
          const at = (y * width + x) * 3;
          for (let c = 0; c < 3; c += 1) {
            const upper = rgb[a + c] as number;
            rgb[at + c] = upper + ((rgb[b + c] as number) - upper) * weight + 0.5;
          }
        }
      }
    },
  };
}
