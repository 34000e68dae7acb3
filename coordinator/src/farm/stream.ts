import { FarmError } from '@clipfarm/shared/errors';
import { type Journal, JournalConflict, type StoredEvent } from '../journal/journal.ts';

/** Times that a decision is made anew after another process was first. */
const MAX_CONFLICTS = 5;

/** Said once for all events of an append. */
interface AppendMeta {
  /** Wall-clock milliseconds. */
  readonly at: number;
  readonly term: number;
}

/**
 * One stream of the journal and the fold of its events. Whatever way an event comes, by the own append or from another
 * process, it is folded once and in order.
 */
export class Stream<E extends { readonly type: string }> {
  readonly name: string;
  readonly #journal: Journal;
  readonly #fold: (event: E, at: number) => void;
  #position = 0;
  /** Highest term seen on the stream: whoever leads in a lower one is deposed. */
  #term = 0;

  /** @param fold takes each event after it is durable; must not throw */
  constructor(journal: Journal, name: string, fold: (event: E, at: number) => void) {
    this.name = name;
    this.#journal = journal;
    this.#fold = fold;
  }

  /** Folds everything that the journal has and this process does not know yet. */
  async catchUp(): Promise<void> {
    for await (const stored of this.#journal.read(this.name, this.#position + 1)) this.take(stored);
  }

  /** Takes an event that the journal announced. @returns false when events are missing before it */
  take(stored: StoredEvent): boolean {
    if (stored.position > this.#position + 1) return false;
    if (stored.position === this.#position + 1) {
      this.#position = stored.position;
      this.#term = Math.max(this.#term, stored.term);
      this.#fold(stored.data as E, stored.at);
    }
    return true;
  }

  /**
   * Makes the events that `decide` returns durable and folds them. When another process was first, its events are
   * folded and `decide` is asked again. Calls must not overlap.
   *
   * @param decide looks at the folded state; no events means nothing to do
   * @throws FarmError `unavailable` when a later term's leader has written to the stream; what the journal throws when
   * it can't be written
   */
  async append<D extends { readonly events: readonly E[] }>(decide: () => D, meta: () => AppendMeta): Promise<D> {
    for (let conflicts = 0; ; conflicts++) {
      const decision = decide();
      if (decision.events.length === 0) return decision;
      const before = this.#position;
      const bodies = decision.events.map((event) => ({ type: event.type, data: event }));
      const said = meta();
      if (said.term < this.#term) {
        throw new FarmError('unavailable', `the leader of term ${this.#term} took over from term ${said.term}`);
      }
      try {
        await this.#journal.append(this.name, before, bodies, said);
      } catch (error) {
        if (!(error instanceof JournalConflict) || conflicts === MAX_CONFLICTS) throw error;
        await this.catchUp();
        continue;
      }
      for (const [index, body] of bodies.entries()) {
        this.take({ ...body, ...said, stream: this.name, position: before + index + 1 });
      }
      return decision;
    }
  }
}
