import { createLogger } from '@clipfarm/shared/log';
import type { Journal } from '../../coordinator/src/journal/journal.ts';
import { openJetStreamJournal } from '../../coordinator/src/journal/open-jetstream-journal.ts';
import { openSqliteJournal } from '../../coordinator/src/journal/sqlite-journal.ts';

/** Where a journal is, in words that survive JSON. */
export type JournalPlace =
  | { readonly kind: 'sqlite'; readonly path: string }
  | { readonly kind: 'nats'; readonly servers: readonly string[]; readonly prefix: string };

/** Opens the journal there. */
export async function openPlace(place: JournalPlace): Promise<Journal> {
  if (place.kind === 'sqlite') return openSqliteJournal({ path: place.path });
  const { servers, prefix } = place;
  const log = createLogger({ name: 'bench', level: 'silent' });
  return (await openJetStreamJournal({ servers, prefix, log, timeoutMillis: 30_000 })).journal;
}
