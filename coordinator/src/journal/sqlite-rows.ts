import type { DatabaseSync, SQLOutputValue } from 'node:sqlite';
import { crc32 } from 'node:zlib';
import {
  type AppendMeta,
  checkStreamName,
  checkWhole,
  encodeBody,
  MAX_EVENT_BYTES,
  type NewEvent,
  type StoredEvent,
} from './journal.ts';

/** An event as the table holds it: its body is JSON text. */
export interface EventRow {
  readonly stream: string;
  readonly position: number;
  readonly at: number;
  readonly term: number;
  readonly type: string;
  readonly data: string;
}

/** The statements of a journal, compiled once. */
export type Statements = ReturnType<typeof prepareStatements>;

/** Compiles the statements of a journal. */
export function prepareStatements(database: DatabaseSync) {
  return {
    position: database.prepare('SELECT position FROM stream WHERE name = ?'),
    setPosition: database.prepare(
      `INSERT INTO stream (name, position) VALUES (?, ?)
       ON CONFLICT (name) DO UPDATE SET position = excluded.position`,
    ),
    insertEvent: database.prepare(
      `INSERT INTO event (stream_id, position, at, term, type, data, check_sum)
       VALUES ((SELECT id FROM stream WHERE name = ?), ?, ?, ?, ?, ?, ?)`,
    ),
    readPage: database.prepare(
      `SELECT position, at, term, type, data, check_sum FROM event
       WHERE stream_id = (SELECT id FROM stream WHERE name = ?) AND position >= ? ORDER BY position LIMIT ?`,
    ),
    allStreams: database.prepare('SELECT name, position FROM stream ORDER BY name'),
    putSnapshot: database.prepare(
      `INSERT INTO snapshot (stream_id, position, data, check_sum)
       VALUES ((SELECT id FROM stream WHERE name = ?), ?, ?, ?)
       ON CONFLICT (stream_id) DO UPDATE
       SET position = excluded.position, data = excluded.data, check_sum = excluded.check_sum
       WHERE excluded.position >= position`,
    ),
    getSnapshot: database.prepare(
      `SELECT position, data, check_sum FROM snapshot WHERE stream_id = (SELECT id FROM stream WHERE name = ?)`,
    ),
    trimEvents: database.prepare(
      'DELETE FROM event WHERE stream_id = (SELECT id FROM stream WHERE name = ?) AND position <= ?',
    ),
    removeSnapshot: database.prepare('DELETE FROM snapshot WHERE stream_id = (SELECT id FROM stream WHERE name = ?)'),
    removeStream: database.prepare('DELETE FROM stream WHERE name = ?'),
    nextTerm: database.prepare(
      `INSERT INTO term (name, term, holder) VALUES (?, 1, ?)
       ON CONFLICT (name) DO UPDATE SET term = term + 1, holder = excluded.holder RETURNING term`,
    ),
  };
}

/**
 * The rows of an append.
 *
 * @throws FarmError `invalid_argument` when a name, number or body can't be stored.
 */
export function encodeAppend(
  stream: string,
  expectedPosition: number,
  events: readonly NewEvent[],
  { at, term }: AppendMeta,
): readonly EventRow[] {
  checkStreamName(stream);
  checkWhole(expectedPosition, 'expectedPosition', 0);
  checkWhole(at, 'at', 0);
  checkWhole(term, 'term', 0);
  return events.map(({ type, data }, index) => ({
    stream,
    position: expectedPosition + index + 1,
    at,
    term,
    type,
    data: encodeBody(data, `event ${type} of stream ${stream}`, MAX_EVENT_BYTES),
  }));
}

/** CRC-32 over everything that makes up an event. */
export function checkSumOf(row: EventRow): number {
  return crc32(JSON.stringify([row.stream, row.position, row.at, row.term, row.type, row.data]));
}

/** A row as the database returned it. */
export function rowOf(row: Record<string, SQLOutputValue>, stream: string): EventRow & { readonly checkSum: number } {
  return {
    stream,
    position: Number(row.position),
    at: Number(row.at),
    term: Number(row.term),
    type: String(row.type),
    data: String(row.data),
    checkSum: Number(row.check_sum),
  };
}

/** The event that a row stands for. */
export function storedEvent({ stream, position, at, term, type, data }: EventRow): StoredEvent {
  return { stream, position, at, term, type, data: JSON.parse(data) };
}
