import { type Face, smoothStep } from './face.ts';
import { between, boxAround, type Colour, coverage, mix } from './paint.ts';

const UPPER_LIP: Colour = [194, 90, 82];
const LOWER_LIP: Colour = [212, 110, 98];
const LIP_LIGHT: Colour = [238, 158, 146];
const CAVITY: Colour = [84, 24, 28];
const CAVITY_DEEP: Colour = [52, 14, 20];
const TEETH: Colour = [247, 242, 233];
const TEETH_SHADE: Colour = [196, 176, 166];
const TONGUE: Colour = [190, 84, 84];

/** Pixels that the chin drops when the mouth is wide open, as a share of the face's unit. */
export const JAW_DROP = 0.02;

/** Shape of the mouth for one frame; lengths in pixels, up and down from the middle of the closed lips. */
interface Shape {
  readonly halfWidth: number;
  readonly curve: number;
  readonly sag: number;
  readonly gapUp: number;
  readonly gapDown: number;
  readonly lipUp: number;
  readonly lipDown: number;
  readonly teeth: number;
  readonly tongue: number;
}

/**
 * Draws an open mouth over the one in the picture. A closed one (`open` near 0) is not drawn at all: the picture's own
 * lips are better. `x` and `y` say where the head moved, in pixels.
 */
export function drawMouth(
  rgb: Uint8Array,
  width: number,
  height: number,
  face: Face,
  mouth: { readonly open: number; readonly broad: number; readonly x: number; readonly y: number },
): void {
  const alpha = smoothStep(0.03, 0.13, mouth.open);
  if (alpha === 0) return;
  const shape = shapeOf(face.unit, mouth.open, mouth.broad);
  const centerX = face.centerX + mouth.x;
  const centerY = face.mouthY + mouth.y;
  const top = centerY - shape.curve - shape.gapUp - shape.lipUp;
  const bottom = centerY + shape.sag + shape.gapDown + shape.lipDown;
  const box = boxAround(width, height, centerX, shape.halfWidth, top, bottom);
  for (let x = box.left; x < box.right; x += 1) {
    const across = (x - centerX) / shape.halfWidth;
    if (Math.abs(across) >= 1) continue;
    drawColumn(rgb, width, x, across, centerY, shape, alpha, box.top, box.bottom);
  }
}

function shapeOf(unit: number, open: number, broad: number): Shape {
  return {
    halfWidth: unit * (0.074 + 0.006 * broad - 0.014 * open * (1 - broad)),
    curve: unit * 0.028 * (1 - 0.6 * open),
    sag: unit * 0.007,
    gapUp: unit * 0.009 * open,
    gapDown: unit * 0.05 * open,
    lipUp: unit * 0.0165,
    lipDown: unit * 0.02,
    teeth: unit * 0.017,
    tongue: 0.42,
  };
}

function drawColumn(
  rgb: Uint8Array,
  width: number,
  x: number,
  across: number,
  centerY: number,
  shape: Shape,
  alpha: number,
  top: number,
  bottom: number,
): void {
  const round = 1 - across * across;
  const full = round ** 0.6;
  const line = centerY + shape.sag - shape.curve * across * across;
  // Two bows and a dip between them.
  const bow = 1 - 0.22 * Math.exp(-((across / 0.16) ** 2));
  const upperEdge = line - shape.gapUp * round;
  const lowerEdge = line + shape.gapDown * full;
  const lipTop = upperEdge - shape.lipUp * full * bow;
  const lipBottom = lowerEdge + shape.lipDown * full;
  const gap = lowerEdge - upperEdge;
  const teethEdge = upperEdge + Math.min(shape.teeth * smoothStep(1, 0.6, Math.abs(across)), 0.55 * gap);
  const tongueEdge = lowerEdge - shape.tongue * gap * smoothStep(0.85, 0.2, Math.abs(across));
  const teeth = between(TEETH, TEETH_SHADE, across * across);
  for (let y = top; y < bottom; y += 1) {
    const inside = Math.min(coverage(y - lipTop), coverage(lipBottom - y));
    if (inside === 0) continue;
    const light = 0.75 * smoothStep(0.7, 0, Math.abs(across)) * bump((y - lowerEdge) / (lipBottom - lowerEdge));
    const depth = gap > 0 ? (y - upperEdge) / gap : 0;
    let colour = between(CAVITY, CAVITY_DEEP, smoothStep(0, 0.6, depth));
    colour = between(teeth, colour, coverage(y - teethEdge));
    colour = between(colour, TONGUE, 0.8 * coverage((y - tongueEdge) / 2));
    colour = between(UPPER_LIP, colour, coverage(y - upperEdge));
    colour = between(colour, between(LOWER_LIP, LIP_LIGHT, light), coverage(y - lowerEdge));
    mix(rgb, (y * width + x) * 3, colour, inside * alpha);
  }
}

/** 1 at a third of the way, 0 at both ends. */
function bump(t: number): number {
  return smoothStep(0.05, 0.35, t) * smoothStep(0.75, 0.4, t);
}
