import type { DatabaseSync } from 'node:sqlite';
import { FarmError } from '@clipfarm/shared/errors';

/** Marks the file as a journal of ours in SQLite's header: "CLPF". */
const APPLICATION_ID = 0x434c5046;

/**
 * Steps from each schema version to the next; never changed once released, only added to.
 *
 * `check_sum` is the CRC-32 of the row's other columns: SQLite notices a damaged page structure, not a flipped bit in a
 * text. Events are kept in the order of their key, so that reading a stream reads neighbouring pages.
 */
const migrations: readonly string[] = [
  `CREATE TABLE stream (
     id INTEGER PRIMARY KEY,
     name TEXT NOT NULL UNIQUE,
     position INTEGER NOT NULL
   ) STRICT;
   CREATE TABLE event (
     stream_id INTEGER NOT NULL REFERENCES stream (id),
     position INTEGER NOT NULL,
     at INTEGER NOT NULL,
     term INTEGER NOT NULL,
     type TEXT NOT NULL,
     data TEXT NOT NULL,
     check_sum INTEGER NOT NULL,
     PRIMARY KEY (stream_id, position)
   ) STRICT, WITHOUT ROWID;
   CREATE TABLE snapshot (
     stream_id INTEGER PRIMARY KEY REFERENCES stream (id),
     position INTEGER NOT NULL,
     data TEXT NOT NULL,
     check_sum INTEGER NOT NULL
   ) STRICT;
   CREATE TABLE term (
     name TEXT PRIMARY KEY,
     term INTEGER NOT NULL,
     holder TEXT NOT NULL
   ) STRICT, WITHOUT ROWID;`,
];

/**
 * Brings a database to the current schema, in one transaction.
 *
 * @param now milliseconds since 1970, recorded with each migration.
 * @throws FarmError `failed_precondition` when the file belongs to another program or to a newer version of this one.
 */
export function migrate(database: DatabaseSync, path: string, now: number): void {
  const applicationId = pragma(database, 'application_id');
  const empty = database.prepare('SELECT count(*) AS n FROM sqlite_schema').get()?.n === 0;
  if (applicationId !== APPLICATION_ID && !empty) {
    throw new FarmError('failed_precondition', `${path} is a database of another program, no journal`, {
      field: 'data-dir',
    });
  }
  database.exec(`BEGIN IMMEDIATE;
    PRAGMA application_id = ${APPLICATION_ID};
    CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, applied_at INTEGER NOT NULL) STRICT;`);
  const version = Number(database.prepare('SELECT coalesce(max(version), 0) AS v FROM schema_version').get()?.v);
  if (version > migrations.length) {
    const message = `journal ${path} has schema ${version}; this version of Clipfarm knows up to ${migrations.length}`;
    throw new FarmError('failed_precondition', message, {
      field: 'data-dir',
      hint: 'Run the newer version that wrote it, or restore a backup made before the upgrade.',
    });
  }
  const record = database.prepare('INSERT INTO schema_version (version, applied_at) VALUES (?, ?)');
  for (const [index, step] of migrations.entries()) {
    if (index < version) continue;
    database.exec(step);
    record.run(index + 1, now);
  }
  database.exec('COMMIT');
}

function pragma(database: DatabaseSync, name: string): unknown {
  return database.prepare(`PRAGMA ${name}`).get()?.[name];
}
