import { type ClipSet, clipSet, prefixLength, rangeWith, unionOf, withoutSet } from './clip-ranges.ts';
import type { CommittedSpan, JobState, LeaseState } from './job-model.ts';

/** Clips that are not committed. */
export function uncommittedClips(state: JobState): ClipSet {
  return withoutSet(clipSet(0, state.definition.clips), state.committedSet);
}

/** Clips that are neither committed nor leased. */
export function pendingClips(state: JobState): ClipSet {
  return withoutSet(uncommittedClips(state), unionOf([...state.leases.values()]));
}

/**
 * The clip that a lease has reached at least, judged by its own commits: what a coordinator that has just started knows.
 * The one before its start as long as it has committed nothing, because it may be in its pre-roll.
 */
export function begunClip(state: JobState, lease: Pick<LeaseState, 'leaseId' | 'start' | 'end'>): number {
  const run = rangeWith(state.committedSet, lease.start);
  let clip = run ? Math.min(run.end, lease.end) - 1 : lease.start - 1;
  while (clip >= lease.start && state.committed.get(clip)?.leaseId !== lease.leaseId) clip -= 1;
  return clip < lease.start ? clip : clip + 1;
}

/**
 * The clip that a lease is at, pre-roll included: as its node said, and not before the one that its commits prove, which is all
 * that is known right after a change of leaders.
 *
 * @param said clip that the node said it has in hand, if it has
 */
export function reachedClip(
  state: JobState,
  lease: Pick<LeaseState, 'leaseId' | 'start' | 'end' | 'preRoll'>,
  said: number | undefined,
): number {
  const begun = begunClip(state, lease);
  const proven = begun < lease.start ? lease.start - lease.preRoll : begun;
  return Math.max(proven, said ?? proven);
}

/** Clips from the beginning that are committed without a gap. */
export function committedPrefix(state: JobState): number {
  return prefixLength(state.committedSet);
}

/** The committed clips as maximal runs of one span each, in order. */
export function committedSpans(state: JobState): readonly CommittedSpan[] {
  if (state.finalSpans) return state.finalSpans;
  const spans: CommittedSpan[] = [];
  let last: number | null = null;
  for (const range of state.committedSet) {
    for (let clip = range.start; clip < range.end; clip++) {
      const record = state.committed.get(clip);
      if (!record) continue;
      const before = spans.at(-1);
      if (before && before.end === clip && last === record.span) {
        spans[spans.length - 1] = { ...before, end: clip + 1 };
      } else {
        spans.push({ start: clip, end: clip + 1, nodeId: record.nodeId, slotId: record.slotId });
      }
      last = record.span;
    }
  }
  return spans;
}
