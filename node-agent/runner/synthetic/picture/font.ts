import type { Colour } from './paint.ts';

/** Glyph size in dots. */
const GLYPH_WIDTH = 5;
export const GLYPH_HEIGHT = 7;

/** Dots from one glyph to the next. */
const ADVANCE = GLYPH_WIDTH + 1;

/** Seven rows from the top, two hex digits each: the five low bits are dots, the highest is on the left. */
const GLYPHS: Readonly<Record<string, string>> = {
  A: '0e11111f111111',
  B: '1e11111e11111e',
  C: '0e11101010110e',
  D: '1c12111111121c',
  E: '1f10101e10101f',
  F: '1f10101e101010',
  G: '0e11101711110f',
  H: '1111111f111111',
  I: '0e04040404040e',
  J: '0702020202120c',
  K: '11121418141211',
  L: '1010101010101f',
  M: '111b1515111111',
  N: '11111915131111',
  O: '0e11111111110e',
  P: '1e11111e101010',
  Q: '0e11111115120d',
  R: '1e11111e141211',
  S: '0f10100e01011e',
  T: '1f040404040404',
  U: '1111111111110e',
  V: '11111111110a04',
  W: '1111111515150a',
  X: '11110a040a1111',
  Y: '1111110a040404',
  Z: '1f01020408101f',
  0: '0e11131519110e',
  1: '040c040404040e',
  2: '0e11010204081f',
  3: '1f02040201110e',
  4: '02060a121f0202',
  5: '1f101e0101110e',
  6: '0608101e11110e',
  7: '1f010204080808',
  8: '0e11110e11110e',
  9: '0e11110f01020c',
  ':': '00040400040400',
  '.': '00000000000c0c',
  '-': '0000001f000000',
};

/** Width of a text in pixels, without the gap after its last glyph. */
export function textWidth(text: string, scale: number): number {
  return Math.max(0, text.length * ADVANCE - 1) * scale;
}

/**
 * Draws capitals, digits, colon, full stop and hyphen into `rgb`, `scale` pixels a dot, top left corner at `x`, `y`;
 * any other character is a gap. The text must lie within the picture.
 */
export function drawText(
  rgb: Uint8Array,
  width: number,
  text: string,
  x: number,
  y: number,
  scale: number,
  colour: Colour,
): void {
  for (let i = 0; i < text.length; i += 1) {
    const glyph = GLYPHS[text.charAt(i)];
    if (glyph === undefined) continue;
    for (let row = 0; row < GLYPH_HEIGHT; row += 1) {
      const dots = Number.parseInt(glyph.slice(2 * row, 2 * row + 2), 16);
      for (let column = 0; column < GLYPH_WIDTH; column += 1) {
        if (((dots >> (GLYPH_WIDTH - 1 - column)) & 1) === 0) continue;
        const left = x + (i * ADVANCE + column) * scale;
        fillRect(rgb, width, left, y + row * scale, scale, scale, colour);
      }
    }
  }
}

/** Fills a rectangle of `rgb`, which must lie within the picture. */
export function fillRect(
  rgb: Uint8Array,
  width: number,
  left: number,
  top: number,
  columns: number,
  rows: number,
  [r, g, b]: Colour,
): void {
  for (let row = top; row < top + rows; row += 1) {
    let at = (row * width + left) * 3;
    for (let i = 0; i < columns; i += 1) {
      rgb[at++] = r;
      rgb[at++] = g;
      rgb[at++] = b;
    }
  }
}
