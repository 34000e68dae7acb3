import { FarmError } from '@clipfarm/shared/errors';
import type { Candidate, Election, Leader, Leadership } from './election.ts';
import { LeaderBoard } from './leader-board.ts';
import type { SqliteJournal } from './sqlite-journal.ts';

/** The office whose terms are counted. */
const OFFICE = 'leader';

/**
 * The election of a coordinator that has its journal to itself: the lock on the data directory has decided already, so a
 * campaign succeeds at once and the lead is never lost. Only within this process candidates wait for one another.
 */
export function sqliteElection(journal: SqliteJournal): Election {
  return new SqliteElection(journal);
}

class SqliteElection implements Election {
  readonly #journal: SqliteJournal;
  readonly #board = new LeaderBoard();
  /** Resolves when the last of those who campaigned so far has released or given up. */
  #vacant: Promise<void> = Promise.resolve();
  #release: () => void = () => undefined;
  readonly #closed = new AbortController();

  constructor(journal: SqliteJournal) {
    this.#journal = journal;
  }

  async campaign(candidate: Candidate, signal: AbortSignal): Promise<Leadership> {
    const over = AbortSignal.any([signal, this.#closed.signal]);
    over.throwIfAborted();
    const mine = Promise.withResolvers<void>();
    const before = this.#vacant;
    this.#vacant = before.then(() => mine.promise);
    try {
      await untilAborted(before, over);
      const term = await this.#journal.acquireTerm(OFFICE, candidate.address);
      over.throwIfAborted();
      this.#board.set({ ...candidate, term });
      const release = () => {
        if (this.#board.current()?.term === term) this.#board.set(null);
        mine.resolve();
      };
      this.#release = release;
      return { term, lost: new AbortController().signal, release: async () => release() };
    } catch (error) {
      mine.resolve();
      throw error;
    }
  }

  current(): Leader | null {
    return this.#board.current();
  }

  onChange(handler: (leader: Leader | null) => void): () => void {
    return this.#board.onChange(handler);
  }

  async close(): Promise<void> {
    this.#closed.abort(new FarmError('failed_precondition', 'the election is closed'));
    this.#release();
  }
}

/** The promise, or the signal's reason as soon as it is aborted. */
function untilAborted(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
