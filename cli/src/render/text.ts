import { stripVTControlCharacters } from 'node:util';
import stringWidth from 'string-width';

/** Unicode's embeddings, overrides and isolates of the direction of writing. */
const directionMarks = /[\u202a-\u202e\u2066-\u2069]/g;

/**
 * Text from a file, a node or the coordinator made safe for a terminal: one line, without control characters and
 * without marks that change the direction of writing, so that a name can neither move the cursor nor turn round or forge
 * a line of output.
 */
export function printable(text: string): string {
  return stripVTControlCharacters(text)
    .replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ')
    .replace(directionMarks, '');
}

/** Columns that the text takes in a terminal; colour codes take none, wide characters two. */
export function widthOf(text: string): number {
  return stringWidth(text);
}

/** Plain text cut to at most `width` columns, with an ellipsis where something was left out. */
export function truncate(text: string, width: number): string {
  if (widthOf(text) <= width) return text;
  let kept = '';
  let used = 0;
  for (const character of text) {
    const step = widthOf(character);
    if (used + step > width - 1) break;
    kept += character;
    used += step;
  }
  return width > 0 ? `${kept}…` : '';
}

/** The text with spaces added on its right up to `width` columns; longer text stays as it is. */
export function padEnd(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - widthOf(text)));
}

/** The text with spaces added on its left up to `width` columns; longer text stays as it is. */
export function padStart(text: string, width: number): string {
  return ' '.repeat(Math.max(0, width - widthOf(text))) + text;
}
