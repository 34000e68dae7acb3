import { join } from 'node:path';
import type { Metrics } from './admin/metrics.ts';
import type { CoordinatorConfig } from './config.ts';
import type { Election } from './journal/election.ts';
import type { Journal } from './journal/journal.ts';
import { sqliteElection } from './journal/sqlite-election.ts';
import { openSqliteJournal } from './journal/sqlite-journal.ts';

/** Where events are kept, and who leads. */
export interface OpenJournal {
  readonly journal: Journal;
  readonly election: Election;
}

/**
 * Opens the journal that the configuration names.
 *
 * @throws FarmError when it can't be opened, or another coordinator uses it
 */
export async function openJournal(config: CoordinatorConfig, metrics: Metrics): Promise<OpenJournal> {
  const journal = await openSqliteJournal({
    path: join(config['data-dir'], 'journal.db'),
    onAppend: (seconds) => metrics.journalAppendSeconds.observe(seconds),
  });
  return { journal, election: sqliteElection(journal) };
}
