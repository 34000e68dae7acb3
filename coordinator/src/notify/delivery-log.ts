import { FarmError } from '@clipfarm/shared/errors';
import { type AppendMeta, type Journal, JournalConflict, type NewEvent, type StoredEvent } from '../journal/journal.ts';
import {
  type Cursor,
  type CursorsMoved,
  cursorEvents,
  type DeliveryState,
  emptyDeliveryState,
  moveCursors,
} from './delivery-state.ts';

/** Events between two snapshots: what a new leader reads at most, about a quarter of an hour of steady deliveries. */
const SNAPSHOT_EVERY = 1000;

/** Times that cursors are recorded anew after another process was first. */
const MAX_CONFLICTS = 5;

/** Raised whenever the form of the snapshot or the meaning of an event changes. */
const SNAPSHOT_VERSION = 1;

/** A leader goes on delivering; an earlier one records nothing from here on. */
interface TermOpened {
  readonly type: 'TermOpened';
  readonly term: number;
}

/** A {@link DeliveryState} as JSON carries it. */
interface StoredState {
  readonly version: number;
  readonly open: readonly (readonly [string, number])[];
  readonly done: readonly (readonly [string, { readonly position: number; readonly at: number }])[];
  readonly at: number;
  readonly term: number;
}

/** What one endpoint has been told, in a stream of the journal: the way of a new leader to know where to go on. */
export class DeliveryLog {
  readonly stream: string;
  readonly #journal: Journal;
  #state: DeliveryState = emptyDeliveryState();
  #position = 0;
  #snapshotAt = 0;
  /** Highest term seen on the stream: whoever leads in a lower one is deposed. */
  #term = 0;

  constructor(journal: Journal, endpointId: string) {
    this.#journal = journal;
    this.stream = `notify/${endpointId}`;
  }

  /** What the endpoint has been told. */
  get state(): DeliveryState {
    return this.#state;
  }

  /** Whether nothing was ever recorded: the endpoint is new. */
  get isNew(): boolean {
    return this.#position === 0;
  }

  /** Reads what the journal has. @throws what the journal throws when it can't be read */
  async load(): Promise<void> {
    const snapshot = await this.#journal.loadSnapshot(this.stream);
    if (snapshot !== null && snapshot.position > this.#position) {
      const stored = snapshot.data as StoredState;
      if (stored.version !== SNAPSHOT_VERSION) throw otherVersion(this.stream, stored.version);
      this.#state = { open: new Map(stored.open), done: new Map(stored.done), at: stored.at };
      this.#term = stored.term;
      this.#position = this.#snapshotAt = snapshot.position;
    }
    await this.#catchUp();
  }

  /**
   * Goes on in a new term: an earlier leader records nothing from here on.
   *
   * @throws FarmError as {@link record} does
   */
  async open(meta: AppendMeta): Promise<void> {
    const event: TermOpened = { type: 'TermOpened', term: meta.term };
    await this.#append([{ type: event.type, data: event }], meta);
  }

  /**
   * Records cursors durably.
   *
   * @param meta wall-clock milliseconds, and the term of the leader
   * @throws FarmError `unavailable` when a later term's leader has recorded here; what the journal throws
   */
  async record(cursors: ReadonlyMap<string, Cursor>, meta: AppendMeta): Promise<void> {
    await this.#append(
      cursorEvents(cursors).map((data) => ({ type: data.type, data })),
      meta,
    );
    await this.#saveSnapshot();
  }

  async #append(events: readonly NewEvent[], meta: AppendMeta): Promise<void> {
    for (let conflicts = 0; ; conflicts++) {
      if (meta.term < this.#term) {
        throw new FarmError('unavailable', `the leader of term ${this.#term} took over from term ${meta.term}`);
      }
      const before = this.#position;
      try {
        await this.#journal.append(this.stream, before, events, meta);
        for (const [index, event] of events.entries()) {
          this.#take({ ...event, ...meta, stream: this.stream, position: before + index + 1 });
        }
        return;
      } catch (error) {
        if (!(error instanceof JournalConflict) || conflicts === MAX_CONFLICTS) throw error;
        await this.#catchUp();
      }
    }
  }

  async #catchUp(): Promise<void> {
    for await (const stored of this.#journal.read(this.stream, this.#position + 1)) this.#take(stored);
  }

  #take(stored: StoredEvent): void {
    this.#position = stored.position;
    this.#term = Math.max(this.#term, stored.term);
    const event = stored.data as CursorsMoved | TermOpened;
    // Of what is delivered a new term says nothing, not even that it was looked at.
    if (event.type === 'CursorsMoved') moveCursors(this.#state, event, stored.at);
  }

  async #saveSnapshot(): Promise<void> {
    if (this.#position - this.#snapshotAt < SNAPSHOT_EVERY) return;
    const { open, done, at } = this.#state;
    const data: StoredState = { version: SNAPSHOT_VERSION, open: [...open], done: [...done], at, term: this.#term };
    this.#snapshotAt = this.#position;
    const position = this.#position;
    try {
      await this.#journal.saveSnapshot(this.stream, position, data);
      // Nobody will ask for these again, and a busy farm writes one a second.
      await this.#journal.trim(this.stream, position);
    } catch {
      // It only saves reading and room: without it nothing is lost, and the next one is as good.
    }
  }
}

/** Cursors before a snapshot are removed, so there is nothing else to begin with. */
function otherVersion(stream: string, version: number): FarmError {
  const message = `snapshot of ${stream} has version ${version}; this version of Clipfarm knows ${SNAPSHOT_VERSION}`;
  return new FarmError('failed_precondition', message, { hint: 'Run the version that wrote it.' });
}
