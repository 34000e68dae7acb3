import type { Clock } from '@clipfarm/shared/clock';
import type { Journal, StoredEvent } from '../journal/journal.ts';
import { Mutex } from './mutex.ts';
import type { Office } from './office.ts';
import type { SnapshotKeeper } from './snapshot-keeper.ts';
import { Stream } from './stream.ts';

/** Where a leader is about to write: at the end of a job's history. */
export interface WriteIntent {
  readonly jobId: string;
  /** Last position of the job's stream that the leader knows; 0 for a job that is new. */
  readonly position: number;
}

type IntentEvent =
  /** A leader took over; appends of an earlier one fail from here on. */
  { readonly type: 'TermOpened'; readonly term: number } | ({ readonly type: 'WriteIntended' } & WriteIntent);

/** Intents from which on it is looked whether some are carried out. */
const PRUNE_FROM = 256;

/** Raised whenever the form changes. Whoever raises it goes on reading the forms before: the events that they cover are gone. */
const SNAPSHOT_VERSION = 1;

/**
 * Where leaders have said that they are about to write, and nobody has written yet. A take-over moves the end of every live
 * job's stream, and so earlier leaders' appends fail there. It can't do so with jobs that are new or over: it does not know the
 * former, and of the latter there are too many. So whoever writes there says so here first. The end of this stream is moved by
 * every take-over too: an earlier leader either says it too late and fails, or the new one knows the place and takes it.
 */
export class WriteIntents {
  static readonly stream = 'intents';
  readonly #clock: Clock;
  readonly #office: Office;
  readonly #isTaken: (intent: WriteIntent) => boolean;
  readonly #places = new Map<string, number>();
  readonly #stream: Stream<IntentEvent>;
  readonly #mutex = new Mutex();
  #pruneAt = PRUNE_FROM;

  /** @param isTaken whether something is written where the intent says, by whomever: then it can't happen any more */
  constructor(
    parts: {
      readonly journal: Journal;
      readonly clock: Clock;
      readonly office: Office;
      readonly snapshots: SnapshotKeeper;
    },
    isTaken: (intent: WriteIntent) => boolean,
  ) {
    this.#clock = parts.clock;
    this.#office = parts.office;
    this.#isTaken = isTaken;
    const fold = (event: IntentEvent) => {
      if (event.type === 'WriteIntended') this.#note(event);
      if (parts.office.leads && this.#stream.snapshotDue) parts.snapshots.request(this.#stream);
    };
    this.#stream = new Stream<IntentEvent>(parts.journal, WriteIntents.stream, fold, {
      pack: () => this.#pack(),
      unpack: (data) => this.#unpack(data as { version: number; places: readonly (readonly [string, number])[] }),
      weight: () => this.#places.size,
      trims: true,
    });
  }

  /** Reads what the journal has. @throws what the journal throws when it can't be read */
  load(): Promise<void> {
    return this.#stream.load();
  }

  /**
   * Takes over for a new term: an earlier leader says nothing more here from here on.
   *
   * @throws FarmError as {@link say} does
   */
  async takeOver(): Promise<void> {
    await this.#stream.catchUp();
    await this.#append(() => [{ type: 'TermOpened', term: this.#office.term }]);
  }

  /** Takes an event that the journal announced. */
  heard(event: StoredEvent): void {
    // What was missed may be gone, and then no later event would do either. The next take-over closes a gap at the latest.
    if (!this.#stream.take(event)) void this.#stream.catchUp().catch(() => undefined);
  }

  /**
   * Says durably that this leader is about to write; once for a place is enough.
   *
   * @throws FarmError `unavailable` when this coordinator does not lead; what the journal throws
   */
  say(intent: WriteIntent): Promise<void> {
    const { jobId, position } = intent;
    return this.#append(() =>
      this.#places.get(jobId) === position ? [] : [{ type: 'WriteIntended', jobId, position }],
    );
  }

  /** Forgets a job that was removed: whoever meant to write to it has done so, or finds that end of it no more. */
  forget(jobId: string): void {
    this.#places.delete(jobId);
  }

  /** Jobs at whose end an earlier leader may still write. */
  open(): string[] {
    this.#prune();
    return [...this.#places.keys()];
  }

  async #append(decide: () => readonly IntentEvent[]): Promise<void> {
    const meta = () => ({ at: this.#clock.now(), term: this.#office.term });
    await this.#mutex.run(() => this.#stream.append(() => ({ events: decide() }), meta));
  }

  #note({ jobId, position }: WriteIntent): void {
    // Whoever says a later one has seen the place of the earlier one taken.
    this.#places.set(jobId, Math.max(position, this.#places.get(jobId) ?? 0));
    if (this.#places.size >= this.#pruneAt) this.#prune();
  }

  #prune(): void {
    for (const [jobId, position] of this.#places) {
      if (this.#isTaken({ jobId, position })) this.#places.delete(jobId);
    }
    this.#pruneAt = Math.max(PRUNE_FROM, 2 * this.#places.size);
  }

  #pack() {
    this.#prune();
    return { version: SNAPSHOT_VERSION, places: [...this.#places] };
  }

  #unpack({ version, places }: { version: number; places: readonly (readonly [string, number])[] }): boolean {
    if (version !== SNAPSHOT_VERSION) return false;
    this.#places.clear();
    for (const [jobId, position] of places) this.#places.set(jobId, position);
    return true;
  }
}
