import { FarmError } from '@clipfarm/shared/errors';
import { type Journal, JournalConflict, type Snapshot, type StoredEvent } from '../journal/journal.ts';

/** Times that a decision is made anew after another process was first. */
const MAX_CONFLICTS = 5;

/** How the fold of a stream is kept, so that a restart need not read what ever was. */
export interface Folded {
  /** What is folded so far, as JSON carries it. */
  pack(): unknown;
  /** Takes up what `pack` gave, in place of all that is folded so far. @returns false when this version can't read it */
  unpack(data: unknown): boolean;
  /** Its size, counted in what costs about as much to read as one event. */
  weight(): number;
  /** Whether events that snapshots cover are removed: the stream is as old as the farm, and nobody asks for them again. */
  readonly trims?: boolean;
}

/** A snapshot of a stream as the journal keeps it. */
interface StreamSnapshot {
  /** Highest term on the stream. */
  readonly term: number;
  readonly state: unknown;
}

/** What {@link Folded.pack} gave for a snapshot that the journal has. */
export function snapshotState({ data }: Snapshot): unknown {
  return (data as StreamSnapshot).state;
}

/** Events after the last snapshot from which on another one is due, however small the state is. */
const SNAPSHOT_EVENTS = 256;

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
  readonly #folded: Folded;
  #position = 0;
  #snapshotPosition = 0;
  /** Highest term seen on the stream: whoever leads in a lower one is deposed. */
  #term = 0;

  /** @param fold takes each event after it is durable; must not throw */
  constructor(journal: Journal, name: string, fold: (event: E, at: number) => void, folded: Folded) {
    this.name = name;
    this.#journal = journal;
    this.#fold = fold;
    this.#folded = folded;
  }

  /** Position of the last event that is folded. */
  get position(): number {
    return this.#position;
  }

  /** Highest term of its events; 0 without any. */
  get term(): number {
    return this.#term;
  }

  /** Position that the last snapshot reaches, as far as this process knows; 0 when there is none. */
  get snapshotPosition(): number {
    return this.#snapshotPosition;
  }

  /**
   * Whether another snapshot is worth its while: once the events after the last one are many, and half of what the snapshot
   * itself holds. So all snapshots together cost no more than a few times the events, and a restart reads about what is live.
   */
  get snapshotDue(): boolean {
    return this.#position - this.#snapshotPosition >= Math.max(SNAPSHOT_EVENTS, this.#folded.weight() / 2);
  }

  /**
   * Keeps what is folded now, so that a restart reads only what comes after it, and removes the events that the snapshot
   * before it covers where that is wanted. A deposed leader may do so too: what it has folded is what the journal has up to there, the journal
   * keeps the newer one of two snapshots, and removes nothing that it does not cover.
   *
   * @throws what the journal throws when it can't be written
   */
  async saveSnapshot(): Promise<void> {
    const position = this.#position;
    const snapshot: StreamSnapshot = { term: this.#term, state: this.#folded.pack() };
    const before = this.#snapshotPosition;
    await this.#journal.saveSnapshot(this.name, position, snapshot);
    this.#snapshotPosition = Math.max(before, position);
    // Not what only the new one covers: a store that does not sync may lose it in a power cut, and then has the one before.
    if (this.#folded.trims && before > 0) await this.#journal.trim(this.name, before);
  }

  /**
   * Takes up the snapshot, where there is one that this version can read, and everything that came after it. To be called
   * before anyone relies on hearing of every event.
   */
  async load(): Promise<void> {
    if (this.#position === 0) await this.#loadSnapshot();
    await this.catchUp();
  }

  /**
   * Folds every event that the journal has and this process does not know yet. Those that were removed meanwhile are in a
   * snapshot, which is taken up in their place.
   */
  async catchUp(): Promise<void> {
    for (;;) {
      try {
        for await (const stored of this.#journal.read(this.name, this.#position + 1)) this.take(stored);
        return;
      } catch (error) {
        if (!this.#folded.trims || !(await this.#loadSnapshot())) throw error;
      }
    }
  }

  /** @returns whether there is one that tells more than what is folded */
  async #loadSnapshot(): Promise<boolean> {
    const stored = await this.#journal.loadSnapshot(this.name);
    // Events may have come while it was read; what they told is not to be taken back.
    if (stored === null || this.#position >= stored.position) return false;
    if (this.#position > 0 && !this.#folded.trims) return false;
    const { term, state } = stored.data as StreamSnapshot;
    if (!this.#folded.unpack(state)) return false;
    this.#term = Math.max(this.#term, term);
    this.#position = this.#snapshotPosition = stored.position;
    return true;
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
   * @param before called with the position after which the events are to be stored, each time before they are
   * @throws FarmError `unavailable` when a later term's leader has written to the stream; what the journal throws when
   * it can't be written
   */
  async append<D extends { readonly events: readonly E[] }>(
    decide: () => D,
    meta: () => AppendMeta,
    before?: (position: number) => Promise<void> | undefined,
  ): Promise<D> {
    for (let conflicts = 0; ; conflicts++) {
      const decision = decide();
      if (decision.events.length === 0) return decision;
      const position = this.#position;
      const prepared = before?.(position);
      if (prepared) await prepared;
      const bodies = decision.events.map((event) => ({ type: event.type, data: event }));
      const said = meta();
      if (said.term < this.#term) {
        throw new FarmError('unavailable', `the leader of term ${this.#term} took over from term ${said.term}`);
      }
      try {
        await this.#journal.append(this.name, position, bodies, said);
      } catch (error) {
        if (!(error instanceof JournalConflict) || conflicts === MAX_CONFLICTS) throw error;
        await this.catchUp();
        continue;
      }
      for (const [index, body] of bodies.entries()) {
        this.take({ ...body, ...said, stream: this.name, position: position + index + 1 });
      }
      return decision;
    }
  }
}
