/** What can keep a journal from working: the words of log, `/readyz` and metrics. */
export const journalTroubleKinds = ['connection', 'permission', 'room', 'streams'] as const;

/** One of {@link journalTroubleKinds}. */
export type JournalTroubleKind = (typeof journalTroubleKinds)[number];

/**
 * What is counted: trouble that begins; `slow`, a reader that falls behind or is cut off for it and catches up by itself;
 * `copies`, streams that lack copies and work without them.
 */
export const countedTroubleKinds = [...journalTroubleKinds, 'slow', 'copies'] as const;

/** One of {@link countedTroubleKinds}. */
export type CountedTroubleKind = (typeof countedTroubleKinds)[number];

/** Something that keeps a journal from working now. */
export interface JournalTrouble {
  readonly kind: JournalTroubleKind;
  /** For people. */
  readonly words: string;
}

/** What to do about it. */
export const JOURNAL_HINT =
  'The farm goes on by itself when the journal works again. To see what is wrong: clipfarm doctor --journal nats://HOST[,HOST...]';

/** What is wrong, in words; null when nothing is. */
export function wordsOf(troubles: readonly JournalTrouble[]): string | null {
  return troubles.length === 0 ? null : troubles.map(({ words }) => words).join('; ');
}
