import { FarmError } from '@clipfarm/shared/errors';
import type { Candidate, Election, Leader, Leadership } from './election.ts';
import { LeaderBoard } from './leader-board.ts';
import type { SqliteJournal } from './sqlite-journal.ts';
import { Turns } from './turns.ts';

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
  readonly #turns = new Turns();
  readonly #closed = new AbortController();

  constructor(journal: SqliteJournal) {
    this.#journal = journal;
  }

  async campaign(candidate: Candidate, signal: AbortSignal): Promise<Leadership> {
    const over = AbortSignal.any([signal, this.#closed.signal]);
    const end = await this.#turns.take(over);
    try {
      const term = await this.#journal.acquireTerm(OFFICE, candidate.address);
      over.throwIfAborted();
      this.#board.set({ ...candidate, term });
      let held = true;
      const release = async () => {
        held = false;
        this.#board.vacate(term);
        end();
      };
      return { term, lost: new AbortController().signal, holds: () => held, release };
    } catch (error) {
      end();
      throw error;
    }
  }

  current(): Leader | null {
    return this.#board.current();
  }

  vacantSince(): number | null {
    return this.#board.vacantSince();
  }

  onChange(handler: (leader: Leader | null) => void): () => void {
    return this.#board.onChange(handler);
  }

  async close(): Promise<void> {
    this.#closed.abort(new FarmError('failed_precondition', 'the election is closed'));
    this.#board.set(null);
  }
}
