import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setImmediate } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { type Clock, systemClock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import type { ExclusiveLock } from '@clipfarm/shared/exclusive-lock';
import { lockDirectory } from './directory-lock.ts';
import {
  type AppendMeta,
  checkStreamName,
  checkWhole,
  encodeBody,
  type Journal,
  JournalConflict,
  type JournalWatcher,
  MAX_SNAPSHOT_BYTES,
  missingEvents,
  type NewEvent,
  notCovered,
  type Snapshot,
  type StoredEvent,
  type StreamPosition,
} from './journal.ts';
import { runApart } from './run-apart.ts';
import { damaged, journalError } from './sqlite-error.ts';
import {
  checkSumOf,
  type EventRow,
  encodeAppend,
  prepareStatements,
  rowOf,
  type Statements,
  storedEvent,
} from './sqlite-rows.ts';
import { migrate } from './sqlite-schema.ts';

/** Where the journal is and who wants to know about it. */
export interface SqliteJournalOptions {
  /** Database file; its directory must exist. Beside it lie `-wal` and `.lock`. */
  readonly path: string;
  /** Called for every append that was stored, with the seconds from the call until it was on disk. */
  readonly onAppend?: (seconds: number) => void;
  /** Bytes that the database may take. @default no limit but the disk */
  readonly maxBytes?: number;
  /** @default the system's */
  readonly clock?: Clock;
}

/** A journal in a SQLite file. Its watchers hear of an append before the appender's promise resolves. */
export interface SqliteJournal extends Journal {
  /**
   * Gives out the next term of an office.
   *
   * @param name the office, for example `leader`.
   * @param holder who takes it, for the record.
   * @returns a number higher than any given out for this name before.
   */
  acquireTerm(name: string, holder: string): Promise<number>;
}

/** Rows that `read` takes from the database at a time; in between, others get their turn. */
const READ_PAGE = 200;

/** One write that waits for the next commit. */
interface Pending {
  /** Runs inside the transaction. A FarmError refuses this write alone and must come before it has changed anything. */
  readonly write: () => void;
  readonly settle: (error: unknown) => void;
}

/**
 * Opens or makes a journal in a SQLite file and locks it against other processes.
 *
 * @throws FarmError `failed_precondition` when another coordinator has it open, when it is of another program or a newer
 * version, or can't be opened; `internal` when it is damaged.
 */
export async function openSqliteJournal(options: SqliteJournalOptions): Promise<SqliteJournal> {
  const { path, maxBytes, clock = systemClock } = options;
  let lock: ExclusiveLock | undefined;
  let database: DatabaseSync | undefined;
  try {
    lock = lockDirectory(`${path}.lock`, dirname(path));
    database = new DatabaseSync(path, { timeout: 5000 });
    // FULL makes SQLite sync the log at every commit; less would lose acknowledged events in a power cut.
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 67108864;');
    migrate(database, path, clock.now());
    if (maxBytes !== undefined) database.exec(`PRAGMA max_page_count = ${Math.ceil(maxBytes / 4096)}`);
    return new OpenSqliteJournal(database, lock, options, clock);
  } catch (error) {
    database?.close();
    lock?.release();
    throw journalError(error, path);
  }
}

/**
 * Group commit: writes that are handed in during one turn of the event loop share a transaction, hence one sync of the
 * disk. Within it they are applied in order, each checked against what the ones before it left.
 */
class OpenSqliteJournal implements SqliteJournal {
  readonly #database: DatabaseSync;
  readonly #lock: ExclusiveLock;
  readonly #path: string;
  readonly #clock: Clock;
  readonly #onAppend: ((seconds: number) => void) | undefined;
  readonly #watchers = new Set<JournalWatcher>();
  readonly #sql: Statements;
  #pending: Pending[] = [];
  #closed = false;

  constructor(database: DatabaseSync, lock: ExclusiveLock, options: SqliteJournalOptions, clock: Clock) {
    this.#database = database;
    this.#lock = lock;
    this.#path = options.path;
    this.#clock = clock;
    this.#onAppend = options.onAppend;
    this.#sql = prepareStatements(database);
  }

  async append(
    stream: string,
    expectedPosition: number,
    events: readonly NewEvent[],
    meta: AppendMeta,
  ): Promise<number> {
    const rows = encodeAppend(stream, expectedPosition, events, meta);
    const started = this.#clock.monotonic();
    await this.#commit(
      () => {
        this.#checkPosition(stream, expectedPosition);
        this.#insert(stream, rows);
      },
      () => this.#announce(rows, (this.#clock.monotonic() - started) / 1000),
    );
    return expectedPosition + rows.length;
  }

  async *read(stream: string, fromPosition: number): AsyncGenerator<StoredEvent> {
    checkStreamName(stream);
    checkWhole(fromPosition, 'fromPosition', 1);
    for (let next = fromPosition; ; ) {
      const rows = this.#query(() => this.#sql.readPage.all(stream, next, READ_PAGE));
      for (const row of rows) {
        const event = rowOf(row, stream);
        if (event.position > next) throw missingEvents(stream, next, event.position - 1);
        if (event.checkSum !== checkSumOf(event)) {
          throw damaged(this.#path, `event ${event.position} of stream ${stream} does not match its check sum`);
        }
        yield storedEvent(event);
        next = event.position + 1;
      }
      // Without a row there is no telling from the rows whether events are missing.
      if (rows.length === 0) this.#checkNoneMissing(stream, next);
      if (rows.length < READ_PAGE) break;
      await setImmediate();
    }
  }

  async streams(): Promise<readonly StreamPosition[]> {
    const rows = this.#query(() => this.#sql.allStreams.all());
    return rows.map((row) => ({ stream: String(row.name), position: Number(row.position) }));
  }

  watch(watcher: JournalWatcher): () => void {
    // An object of its own, so that the same function can watch twice and each registration ends by itself.
    const registered: JournalWatcher = (events) => watcher(events);
    this.#watchers.add(registered);
    return () => void this.#watchers.delete(registered);
  }

  async saveSnapshot(stream: string, position: number, data: unknown): Promise<void> {
    checkStreamName(stream);
    checkWhole(position, 'position', 1);
    const text = encodeBody(data, `snapshot of ${stream}`, MAX_SNAPSHOT_BYTES);
    await this.#commit(() => {
      const reached = this.#position(stream);
      if (position > reached) {
        const message = `position: ${position}; stream ${stream} reaches only ${reached}`;
        throw new FarmError('invalid_argument', message, { field: 'position' });
      }
      this.#sql.putSnapshot.run(stream, position, text, crc32(`${position} ${text}`));
    });
  }

  async loadSnapshot(stream: string): Promise<Snapshot | null> {
    checkStreamName(stream);
    const row = this.#query(() => this.#sql.getSnapshot.get(stream));
    if (row === undefined) return null;
    const [position, text] = [Number(row.position), String(row.data)];
    // A damaged one is as good as none: it can be made again from the events, or reading says that they are gone.
    if (crc32(`${position} ${text}`) !== row.check_sum) return null;
    return { position, data: JSON.parse(text) };
  }

  async trim(stream: string, position: number): Promise<void> {
    checkStreamName(stream);
    checkWhole(position, 'position', 1);
    await this.#commit(() => {
      const covered = Number(this.#sql.getSnapshot.get(stream)?.position ?? 0);
      if (position > covered) throw notCovered(stream, position, covered);
      this.#sql.trimEvents.run(stream, position);
    });
  }

  async remove(stream: string): Promise<void> {
    checkStreamName(stream);
    await this.#commit(() => {
      this.#sql.removeSnapshot.run(stream);
      this.#sql.trimEvents.run(stream, Number.MAX_SAFE_INTEGER);
      this.#sql.removeStream.run(stream);
    });
  }

  async acquireTerm(name: string, holder: string): Promise<number> {
    checkStreamName(name);
    let term = 0;
    await this.#commit(() => {
      term = Number(this.#sql.nextTerm.get(name, holder)?.term);
    });
    return term;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#flush();
    this.#closed = true;
    this.#database.close();
    this.#lock.release();
  }

  #position(stream: string): number {
    return Number(this.#sql.position.get(stream)?.position ?? 0);
  }

  #checkNoneMissing(stream: string, next: number): void {
    const reached = this.#query(() => this.#position(stream));
    if (reached >= next) throw missingEvents(stream, next, reached);
  }

  #checkPosition(stream: string, expected: number): void {
    const actual = this.#position(stream);
    if (actual !== expected) throw new JournalConflict(stream, expected, actual);
  }

  #insert(stream: string, rows: readonly EventRow[]): void {
    const last = rows.at(-1);
    if (last === undefined) return;
    // Position first, because a new stream gets its id there.
    this.#sql.setPosition.run(stream, last.position);
    for (const row of rows) {
      const { position, at, term, type, data } = row;
      this.#sql.insertEvent.run(stream, position, at, term, type, data, checkSumOf(row));
    }
  }

  #announce(rows: readonly EventRow[], seconds: number): void {
    runApart(() => this.#onAppend?.(seconds));
    if (rows.length === 0 || this.#watchers.size === 0) return;
    const events = rows.map(storedEvent);
    for (const watcher of [...this.#watchers]) runApart(() => watcher(events));
  }

  /** Resolves when the write is on disk, after `committed` ran. */
  #commit(write: () => void, committed: () => void = () => {}): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#closed) {
        reject(closedError(this.#path));
        return;
      }
      if (this.#pending.length === 0) setImmediate().then(() => this.#flush());
      this.#pending.push({
        write,
        settle: (error) => {
          if (error !== undefined) {
            reject(error);
            return;
          }
          committed();
          resolve();
        },
      });
    });
  }

  #flush(): void {
    const batch = this.#pending;
    if (batch.length === 0) return;
    this.#pending = [];
    const outcomes = this.#transact(batch);
    for (const [index, { settle }] of batch.entries()) settle(outcomes[index]);
  }

  /** What became of each write: undefined when it is on disk, otherwise the error that it is refused with. */
  #transact(batch: readonly Pending[]): readonly unknown[] {
    try {
      this.#database.exec('BEGIN IMMEDIATE');
      const outcomes = batch.map(({ write }) => refusalOf(write));
      this.#database.exec('COMMIT');
      return outcomes;
    } catch (cause) {
      // SQLite ends the transaction by itself after some errors, such as a full disk, and not after others.
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
      const error = journalError(cause, this.#path);
      return batch.map(() => error);
    }
  }

  #query<T>(run: () => T): T {
    if (this.#closed) throw closedError(this.#path);
    try {
      return run();
    } catch (error) {
      throw journalError(error, this.#path);
    }
  }
}

function refusalOf(write: () => void): FarmError | undefined {
  try {
    write();
    return undefined;
  } catch (error) {
    if (error instanceof FarmError) return error;
    throw error;
  }
}

function closedError(path: string): FarmError {
  return new FarmError('failed_precondition', `journal ${path} is closed`);
}
