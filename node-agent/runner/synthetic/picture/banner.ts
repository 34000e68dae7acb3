import { FPS } from '@clipfarm/shared/model/clip';
import { type Stamp, stampHeight, stampWidth, writeStamp } from '../stamp.ts';
import { drawText, fillRect, GLYPH_HEIGHT, textWidth } from './font.ts';
import type { Colour } from './paint.ts';

const PANEL: Colour = [16, 22, 28];
const EDGE: Colour = [52, 66, 76];
const CAPTION: Colour = [244, 184, 96];
const SMALL: Colour = [188, 200, 208];

const TITLE = 'SYNTHETIC PREVIEW';

/** Width beside the stamp that is enough for text; where there is less, text gets a line above the stamp. */
const BESIDE_PIXELS = textWidth(TITLE, 1) + 16;

/** Height of the line above the stamp. */
const LINE_PIXELS = GLYPH_HEIGHT + 6;

/** Pixels above the banner that are taken for part of it when a picture with a banner is used as reference. */
const MARGIN = 4;

/** Height of the banner in pixels: the strip along the bottom edge that tells the preview from a rendered video. */
export function bannerHeight(width: number): number {
  return stampHeight(width) + (isBeside(width) ? 0 : LINE_PIXELS);
}

/** Draws the banner: stamp, title, time code, clip and span. */
export function drawBanner(rgb: Uint8Array, width: number, height: number, stamp: Stamp): void {
  const top = height - bannerHeight(width);
  fillRect(rgb, width, 0, top, width, height - top, PANEL);
  fillRect(rgb, width, 0, top, width, 1, EDGE);
  if (isBeside(width)) drawBeside(rgb, width, top, stamp);
  else drawAbove(rgb, width, top, stamp);
  writeStamp(rgb, width, height, stamp);
}

/**
 * Copy of a picture whose banner area repeats the row above: the reference of an anchored span is a generated frame,
 * and its banner must not move with the picture.
 */
export function withoutBanner(rgb: Uint8Array, width: number, height: number): Uint8Array {
  const out = Uint8Array.from(rgb);
  const row = Math.max(0, height - bannerHeight(width) - MARGIN);
  for (let y = row + 1; y < height; y += 1) out.copyWithin(y * width * 3, row * width * 3, (row + 1) * width * 3);
  return out;
}

/** "00:01:02:24": hours, minutes, seconds, frames. */
export function timeCode(frame: number): string {
  const two = (value: number): string => String(Math.floor(value)).padStart(2, '0');
  const seconds = frame / FPS;
  return [seconds / 3600, (seconds / 60) % 60, seconds % 60, frame % FPS].map(two).join(':');
}

function isBeside(width: number): boolean {
  return width - stampWidth(width) >= BESIDE_PIXELS;
}

function drawBeside(rgb: Uint8Array, width: number, top: number, stamp: Stamp): void {
  const left = stampWidth(width) + 10;
  const room = width - left - 8;
  const scale = textWidth(TITLE, 2) <= room ? 2 : 1;
  drawText(rgb, width, TITLE, left, top + (scale === 2 ? 6 : 5), scale, CAPTION);
  const time = timeCode(stamp.frame);
  const where = `CLIP ${stamp.clip}  SPAN ${stamp.span}`;
  const oneLine = `${time}   ${where}`;
  if (textWidth(oneLine, 1) <= room) {
    drawText(rgb, width, oneLine, left, top + 27, 1, SMALL);
  } else {
    drawText(rgb, width, time, left, top + 16, 1, SMALL);
    if (textWidth(where, 1) <= room) drawText(rgb, width, where, left, top + 27, 1, SMALL);
  }
}

function drawAbove(rgb: Uint8Array, width: number, top: number, stamp: Stamp): void {
  const y = top + 4;
  let x = 4;
  for (const [text, colour] of [
    [TITLE, CAPTION],
    [timeCode(stamp.frame), SMALL],
    [`C${stamp.clip} S${stamp.span}`, SMALL],
  ] as const) {
    if (x + textWidth(text, 1) > width) return;
    drawText(rgb, width, text, x, y, 1, colour);
    x += textWidth(text, 1) + 8;
  }
}
