import { join } from 'node:path';
import { type Clock, systemClock } from '@clipfarm/shared/clock';
import type { Logger } from '@clipfarm/shared/log';
import type { NatsConnection } from 'nats';
import type { Metrics } from './admin/metrics.ts';
import type { CoordinatorConfig } from './config.ts';
import type { Election } from './journal/election.ts';
import type { Journal } from './journal/journal.ts';
import type { JournalTrouble } from './journal/journal-trouble.ts';
import type { NatsFinding } from './journal/nats-inspect.ts';
import { sqliteElection } from './journal/sqlite-election.ts';
import { openSqliteJournal } from './journal/sqlite-journal.ts';
import { type AppendRefusal, watchedJournal } from './journal/watched-journal.ts';

/** Where events are kept, and who leads. Close the election first. */
export interface OpenJournal {
  readonly journal: Journal;
  readonly election: Election;
  /** The connection, where the journal is in NATS. */
  readonly connection: NatsConnection | null;
  /** What keeps the journal from working now. */
  readonly troubles: () => readonly JournalTrouble[];
}

/**
 * Opens the journal that the configuration names.
 *
 * @throws FarmError when it can't be opened, another coordinator uses it, or it could lose what it acknowledges
 */
export async function openJournal(
  config: CoordinatorConfig,
  metrics: Metrics,
  clock: Clock,
  log: Logger,
): Promise<OpenJournal> {
  const onAppend = (seconds: number) => metrics.journalAppendSeconds.observe(seconds);
  const refused = (reason: AppendRefusal) => metrics.appendsRefused.inc({ reason });
  if (config.journal === 'sqlite') {
    const journal = await openSqliteJournal({ path: join(config['data-dir'], 'journal.db'), onAppend });
    const watched = watchedJournal(journal, refused, log);
    return { journal: watched, election: sqliteElection(journal), connection: null, troubles: () => [] };
  }
  // Loaded only where it is used: a farm on one machine needs no NATS.
  const { openJetStreamJournal } = await import('./journal/open-jetstream-journal.ts');
  const opened = await openJetStreamJournal({
    ...natsOptions(config),
    allowUnsafe: config['nats-allow-unsafe'],
    leaseMillis: config['election-millis'],
    onAppend,
    onTrouble: (kind) => metrics.journalTroubles.inc({ kind }),
    clock,
    log,
  });
  return { ...opened, journal: watchedJournal(opened.journal, refused, log) };
}

/** Looks whether the NATS that the configuration names can keep the journal. */
export async function checkJournal(config: CoordinatorConfig): Promise<readonly NatsFinding[]> {
  const { checkNats } = await import('./journal/nats-check.ts');
  return checkNats({ ...natsOptions(config), clock: systemClock });
}

/** How NATS is reached, as configured. */
function natsOptions(config: CoordinatorConfig) {
  const tls = present({ ca: config['nats-ca'], cert: config['nats-cert'], key: config['nats-key'] });
  return {
    servers: config.journal.split(',').map((server) => (server.includes('://') ? server : `nats://${server}`)),
    prefix: config['nats-prefix'],
    ...(Object.keys(tls).length === 0 ? {} : { tls }),
    ...present({
      credentialsFile: config['nats-credentials'],
      replicas: config['nats-replicas'],
      monitors: config['nats-monitor']?.split(','),
    }),
  };
}

/** The object without the fields that are undefined. */
function present<T extends object>(object: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: NonNullable<T[K]>;
  };
}
