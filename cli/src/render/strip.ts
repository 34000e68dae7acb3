/** What the strip shows of one clip. */
export interface StripClip {
  /** Index of the slot that rendered or renders it; undefined while nobody has it. */
  readonly owner: number | undefined;
  /** Share of it that is done: 1 once committed. */
  readonly done: number;
}

/** One character of the strip. */
export interface StripCell {
  readonly glyph: string;
  /** Slot that has most of the clips behind it. */
  readonly owner: number | undefined;
}

/** Nobody has it yet. */
const WAITING = '·';

/** A column that rises with the work done. The last one is kept for clips that are committed, every one of them. */
const LEVELS = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'] as const;

/**
 * The clips of a job in exactly `width` characters: a clip gets several of them in a short job, and many clips share
 * one in a long job.
 */
export function strip(clips: readonly StripClip[], width: number): StripCell[] {
  return Array.from({ length: clips.length === 0 ? 0 : width }, (_, cell) => cellOf(bucket(clips, cell, width)));
}

function bucket(clips: readonly StripClip[], cell: number, width: number): readonly StripClip[] {
  if (clips.length <= width) {
    const index = Math.floor(((cell + 0.5) * clips.length) / width);
    return clips.slice(index, index + 1);
  }
  return clips.slice(Math.floor((cell * clips.length) / width), Math.floor(((cell + 1) * clips.length) / width));
}

function cellOf(clips: readonly StripClip[]): StripCell {
  const owner = majority(clips);
  if (owner === undefined) return { glyph: WAITING, owner };
  const done = clips.reduce((sum, clip) => sum + clip.done, 0) / clips.length;
  return { glyph: LEVELS[Math.floor(done * (LEVELS.length - 1))] ?? LEVELS[0], owner };
}

function majority(clips: readonly StripClip[]): number | undefined {
  const counts = new Map<number, number>();
  for (const { owner } of clips) {
    if (owner !== undefined) counts.set(owner, (counts.get(owner) ?? 0) + 1);
  }
  let best: number | undefined;
  for (const [owner, count] of counts) {
    if (best === undefined || count > (counts.get(best) ?? 0)) best = owner;
  }
  return best;
}

/**
 * A line for below the strip: the letter of a slot where its clips begin. It tells what the colours tell, for whoever
 * has none.
 */
export function stripLegend(cells: readonly StripCell[], letters: readonly string[]): string {
  let previous: number | undefined;
  let line = '';
  for (const { owner } of cells) {
    line += owner !== undefined && owner !== previous ? (letters[owner] ?? '?') : ' ';
    previous = owner;
  }
  return line.trimEnd();
}

const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'] as const;

/** A bar of `width` characters, filled in steps of an eighth of a character, in two parts for separate colours. */
export function bar(share: number, width: number): { readonly filled: string; readonly rest: string } {
  const eighths = Math.floor(Math.min(1, Math.max(0, share)) * width * 8);
  const filled = '█'.repeat(Math.floor(eighths / 8)) + (EIGHTHS[eighths % 8] ?? '');
  return { filled, rest: '░'.repeat(width - filled.length) };
}
