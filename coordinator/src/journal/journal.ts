import { FarmError } from '@clipfarm/shared/errors';

/** An event before it is stored. */
export interface NewEvent {
  /** Kind of event, for example `jobAccepted`. */
  readonly type: string;
  /** Its body: anything that JSON can carry. */
  readonly data: unknown;
}

/** An event as it was stored. */
export interface StoredEvent extends NewEvent {
  readonly stream: string;
  /** 1-based within its stream, without gaps. */
  readonly position: number;
  /** When, in milliseconds since 1970, as the appender said. */
  readonly at: number;
  /** Term of the leader that appended it. */
  readonly term: number;
}

/** Said once for all events of an append. */
export interface AppendMeta {
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly term: number;
}

/** A stream and how far it reaches. */
export interface StreamPosition {
  readonly stream: string;
  readonly position: number;
}

/** State of a projection after the events up to `position`. */
export interface Snapshot {
  readonly position: number;
  readonly data: unknown;
}

/** Called with the events of one append; for each stream in the order in which they were stored. It must not throw. */
export type JournalWatcher = (events: readonly StoredEvent[]) => void;

/**
 * The coordinator's only durable truth: append-only streams of events, one per job and one for the farm. When a
 * promise of a writing method resolves, what it wrote survives a crash of the process and of the machine. Writes to one
 * stream take effect in the order of the calls, without waiting for one another.
 *
 * Every method can throw FarmError `resource_exhausted` when the disk is full (the journal stays usable), `unavailable`
 * when a store elsewhere can't be reached in time, `internal` when the journal is damaged, and `failed_precondition`
 * after `close`.
 */
export interface Journal {
  /**
   * Appends all of the events or none.
   *
   * @param expectedPosition last position that the appender knows; 0 for a stream that has no events yet.
   * @returns the stream's new last position.
   * @throws JournalConflict when the stream's last position is not `expectedPosition`.
   * @throws FarmError `invalid_argument` for a malformed stream name or a body that JSON can't carry or that is too
   * large; `unavailable` when it is not known whether the events were stored: the next append or `read` will tell.
   */
  append(stream: string, expectedPosition: number, events: readonly NewEvent[], meta: AppendMeta): Promise<number>;

  /** Events of a stream from position `fromPosition` (1 for all) on, in order; none for an unknown stream. */
  read(stream: string, fromPosition: number): AsyncIterable<StoredEvent>;

  /** All streams that have events, by name. */
  streams(): Promise<readonly StreamPosition[]>;

  /**
   * Registers a watcher for everything that is appended from now on, by whatever process: each append once, in order for
   * each stream. It may hear of an append somewhat after the appender does, and of some that were stored just before
   * it was registered. Returns the function that ends it.
   */
  watch(watcher: JournalWatcher): () => void;

  /**
   * Stores a snapshot of a stream in place of an older one; an older one than the stored is ignored.
   *
   * @throws FarmError `invalid_argument` when the stream does not reach `position`.
   */
  saveSnapshot(stream: string, position: number, data: unknown): Promise<void>;

  /** The stored snapshot, null when there is none. */
  loadSnapshot(stream: string): Promise<Snapshot | null>;

  /**
   * Removes events that the stored snapshot covers; the last event of a stream may stay. Reading a removed one fails with
   * `internal` from then on.
   *
   * @throws FarmError `invalid_argument` when the stored snapshot does not reach `position`.
   */
  trim(stream: string, position: number): Promise<void>;

  /** Removes a stream with its events and its snapshot, for good: it is at position 0 again. Fine when there is none. */
  remove(stream: string): Promise<void>;

  /** Waits for what was handed in, then closes. Closing twice is fine. */
  close(): Promise<void>;
}

/** The stream has moved on: read what is new, decide again. */
export class JournalConflict extends FarmError {
  readonly stream: string;
  readonly expectedPosition: number;
  readonly actualPosition: number;

  constructor(stream: string, expectedPosition: number, actualPosition: number) {
    super('conflict', `stream ${stream} is at position ${actualPosition}, not at ${expectedPosition}`);
    this.stream = stream;
    this.expectedPosition = expectedPosition;
    this.actualPosition = actualPosition;
  }
}

/** The error for events that are not in the journal any more. */
export function missingEvents(stream: string, first: number, last: number): FarmError {
  const which = first === last ? `event ${first}` : `events ${first} to ${last}`;
  return new FarmError('internal', `${which} of stream ${stream} are gone: removed after a snapshot, or lost`, {
    hint: 'If a newer version of Clipfarm wrote the snapshot, run that one; otherwise restore a backup of the journal.',
  });
}

/** The error for removing events that would be lost. */
export function notCovered(stream: string, position: number, covered: number): FarmError {
  const message = `position: ${position}; the snapshot of stream ${stream} covers only what is up to ${covered}`;
  return new FarmError('invalid_argument', message, { field: 'position' });
}

/** Largest JSON body of an event in bytes. */
export const MAX_EVENT_BYTES = 1024 * 1024;

/** Largest JSON body of a snapshot in bytes. */
export const MAX_SNAPSHOT_BYTES = 64 * 1024 * 1024;

const streamName = /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}$/;

/** @throws FarmError `invalid_argument` unless the name is 1 to 200 letters, digits and `._:/-`, a letter or digit first. */
export function checkStreamName(stream: string): void {
  if (streamName.test(stream)) return;
  const accepted = 'accepted are 1 to 200 letters, digits and . _ : / -, beginning with a letter or digit';
  throw new FarmError('invalid_argument', `stream: ${JSON.stringify(stream.slice(0, 80))}; ${accepted}`, {
    field: 'stream',
  });
}

/** @throws FarmError `invalid_argument` unless the value is a whole number of at least `min`. */
export function checkWhole(value: number, field: string, min: number): void {
  if (Number.isSafeInteger(value) && value >= min) return;
  throw new FarmError('invalid_argument', `${field}: ${value}; accepted are whole numbers from ${min}`, { field });
}

/**
 * The JSON text of a body.
 *
 * @param what what it is, for the message.
 * @param limit largest size in bytes.
 * @throws FarmError `invalid_argument` when JSON can't carry it or it is too large.
 */
export function encodeBody(data: unknown, what: string, limit: number): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(data);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new FarmError('invalid_argument', `${what} can't be written as JSON: ${reason}`, {
      field: 'data',
      cause: error,
    });
  }
  if (text === undefined) {
    throw new FarmError('invalid_argument', `${what} can't be written as JSON: it is ${typeof data}`, {
      field: 'data',
    });
  }
  const bytes = Buffer.byteLength(text);
  if (bytes > limit) {
    const message = `${what} has ${bytes} bytes of JSON; accepted are at most ${limit}`;
    throw new FarmError('invalid_argument', message, { field: 'data' });
  }
  return text;
}
