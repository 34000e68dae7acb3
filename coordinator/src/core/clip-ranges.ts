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

/** The clips of all ranges, which may come in any order and overlap. */
export function unionOf(ranges: readonly ClipRange[]): ClipSet {
  const union: ClipRange[] = [];
  for (const { start, end } of [...ranges].sort((a, b) => a.start - b.start)) {
    if (start >= end) continue;
    const last = union.at(-1);
    if (last && start <= last.end) union[union.length - 1] = { start: last.start, end: Math.max(last.end, end) };
    else union.push({ start, end });
  }
  return union;
}

/** The clips of `set` that are not in `other`. O(ranges of both), those of `other` that lie before `set` not counted. */
export function withoutSet(set: ClipSet, other: ClipSet): ClipSet {
  const left: ClipRange[] = [];
  let next = firstAfter(other, set[0]?.start ?? 0);
  for (const { start, end } of set) {
    let from = start;
    for (let taken = other[next]; taken && taken.start < end; taken = other[next]) {
      if (from < taken.start) left.push({ start: from, end: taken.start });
      from = Math.max(from, taken.end);
      // One that reaches beyond this range may take from the next one too.
      if (taken.end > end) break;
      next += 1;
    }
    if (from < end) left.push({ start: from, end });
  }
  return left;
}

/** Number of clips. */
export function countClips(set: ClipSet): number {
  return set.reduce((sum, r) => sum + r.end - r.start, 0);
}

/** Whether the clip is in the set. */
export function hasClip(set: ClipSet, clip: number): boolean {
  return rangeWith(set, clip) !== undefined;
}

/** The range of the set that the clip is in, if any. */
export function rangeWith(set: ClipSet, clip: number): ClipRange | undefined {
  const range = set[firstAfter(set, clip)];
  return range && range.start <= clip ? range : undefined;
}

/** Index of the first range that ends after the clip. O(log ranges). */
function firstAfter(set: ClipSet, clip: number): number {
  let low = 0;
  let high = set.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((set[middle]?.end ?? 0) > clip) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Length of the run that begins at clip 0: how much could be played from the beginning. */
export function prefixLength(set: ClipSet): number {
  const first = set[0];
  return first?.start === 0 ? first.end : 0;
}
