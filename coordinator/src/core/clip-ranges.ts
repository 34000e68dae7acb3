/** Contiguous clips `[start, end)`, `start < end`. */
export interface ClipRange {
  readonly start: number;
  readonly end: number;
}

/** A set of clips as sorted, disjoint, non-touching ranges. Values are never changed; every function returns a new one. */
export type ClipSet = readonly ClipRange[];

/** The empty set. */
export const NO_CLIPS: ClipSet = [];

/** Clips `[start, end)` as a set; empty when `start >= end`. */
export function clipSet(start: number, end: number): ClipSet {
  return start < end ? [{ start, end }] : NO_CLIPS;
}

/** The set with `range` added. O(ranges). */
export function withRange(set: ClipSet, range: ClipRange): ClipSet {
  if (range.start >= range.end) return set;
  const before = set.filter((r) => r.end < range.start);
  const after = set.filter((r) => r.start > range.end);
  const touching = set.slice(before.length, set.length - after.length);
  const start = Math.min(range.start, touching[0]?.start ?? range.start);
  const end = Math.max(range.end, touching.at(-1)?.end ?? range.end);
  return [...before, { start, end }, ...after];
}

/** The set without the clips of `range`. O(ranges). */
export function withoutRange(set: ClipSet, range: ClipRange): ClipSet {
  if (range.start >= range.end) return set;
  return set.flatMap((r) => {
    if (r.end <= range.start || r.start >= range.end) return [r];
    return [...clipSet(r.start, range.start), ...clipSet(range.end, r.end)];
  });
}

/** The clips of `set` that are not in `other`. */
export function withoutSet(set: ClipSet, other: ClipSet): ClipSet {
  return other.reduce<ClipSet>(withoutRange, set);
}

/** Number of clips. */
export function countClips(set: ClipSet): number {
  return set.reduce((sum, r) => sum + r.end - r.start, 0);
}

/** Whether the clip is in the set. */
export function hasClip(set: ClipSet, clip: number): boolean {
  return set.some((r) => r.start <= clip && clip < r.end);
}

/** Length of the run that begins at clip 0: how much could be played from the beginning. */
export function prefixLength(set: ClipSet): number {
  const first = set[0];
  return first?.start === 0 ? first.end : 0;
}
