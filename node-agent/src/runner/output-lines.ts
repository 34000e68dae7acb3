import { StringDecoder } from 'node:string_decoder';

/** Longest line in characters; what goes beyond is left out. */
export const MAX_LINE_LENGTH = 4096;

/** A splitter of program output into lines; see {@link outputLines}. */
export interface OutputLines {
  /** Takes the next bytes. */
  push(bytes: Uint8Array): void;
  /** Gives out the last line if it has no end of line. */
  end(): void;
}

/**
 * Splits output into lines, each at most {@link MAX_LINE_LENGTH} characters with a mark where more was left out, so
 * that memory stays bounded whatever a program prints. A carriage return ends a line too: progress bars redraw theirs
 * for hours. Blank lines are dropped.
 */
export function outputLines(onLine: (line: string) => void): OutputLines {
  const decoder = new StringDecoder('utf8');
  let line = '';
  let cut = false;
  const append = (text: string): void => {
    cut ||= line.length + text.length > MAX_LINE_LENGTH;
    line += text.slice(0, MAX_LINE_LENGTH - line.length);
  };
  const flush = (): void => {
    const whole = line.trimEnd();
    if (whole !== '') onLine(cut ? `${whole} [cut]` : whole);
    line = '';
    cut = false;
  };
  return {
    push(bytes) {
      const parts = decoder.write(bytes).split(/[\r\n]/);
      for (const [i, part] of parts.entries()) {
        append(part);
        if (i < parts.length - 1) flush();
      }
    },
    end() {
      append(decoder.end());
      flush();
    },
  };
}
