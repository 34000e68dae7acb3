import { type Clock, systemClock } from '@clipfarm/shared/clock';
import { createLogger } from '@clipfarm/shared/log';
import type { Journal } from '../../coordinator/src/journal/journal.ts';
import {
  type JetStreamJournalOptions,
  type OpenJetStreamJournal,
  openJetStreamJournal,
} from '../../coordinator/src/journal/open-jetstream-journal.ts';

/** Options that survive JSON, so that another process can be given them. */
export type QuietOptions = Omit<JetStreamJournalOptions, 'log' | 'clock' | 'onAppend'>;

/** Requests of a test that is not about their time get this long: a disk that is busy syncs for seconds. */
const TIMEOUT_MILLIS = 60_000;

/** Opens a farm's journal and election in NATS without a log. */
export function openQuietly(options: QuietOptions, clock: Clock = systemClock): Promise<OpenJetStreamJournal> {
  return openJetStreamJournal({
    timeoutMillis: TIMEOUT_MILLIS,
    ...options,
    clock,
    log: createLogger({ name: 'test', level: 'silent' }),
  });
}

/** Opens the journal alone, for the contract's writer. */
export async function openJournalQuietly(options: QuietOptions): Promise<Journal> {
  return (await openQuietly(options)).journal;
}
