import { type Clock, systemClock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import { type JetStreamManager, millis, type NatsConnection } from 'nats';
import type { Election } from './election.ts';
import { JetStreamElection } from './jetstream-election.ts';
import { JetStreamJournal } from './jetstream-journal.ts';
import { eventStream, leaderStream, snapshotStream } from './jetstream-layout.ts';
import { LEASE_KEY } from './jetstream-lease.ts';
import { bucketStream, type JetStreamNames, jetStreamNames } from './jetstream-names.ts';
import { JetStreamSnapshots } from './jetstream-snapshots.ts';
import { type EnsureParts, ensureStream } from './jetstream-stream.ts';
import type { Journal } from './journal.ts';
import type { JournalTrouble } from './journal-trouble.ts';
import { jetStreamCode, jetStreamError, natsFarmError } from './nats-error.ts';
import { NatsHealth } from './nats-health.ts';
import { inspectNats } from './nats-inspect.ts';
import { connectNats, type NatsLink, type NatsOptions } from './nats-link.ts';
import { ReadingPace } from './reading-pace.ts';

/** Where the journal is and how it is kept. */
export interface JetStreamJournalOptions extends Omit<NatsOptions, 'clock'> {
  /** Tells farms on the same NATS apart: 1 to 32 lower-case letters, digits and `-`. @default 'clipfarm' */
  readonly prefix?: string;
  /** Copies of everything. @default 3 in a cluster, 1 with a single server */
  readonly replicas?: number;
  /** Go on with a warning where acknowledged events could be lost. @default false */
  readonly allowUnsafe?: boolean;
  /**
   * Lifetime of the leader's lease in milliseconds, used when the farm is first opened.
   * @default 4000: with what a follower needs to notice that it ran out, a killed leader is replaced within five seconds
   */
  readonly leaseMillis?: number;
  /** Requests that NATS has not answered by then fail with `unavailable`, in milliseconds. @default 5000 */
  readonly timeoutMillis?: number;
  /** Called for every append that was stored, with the seconds from the call until it was acknowledged. */
  readonly onAppend?: (seconds: number) => void;
  /** @default the system's */
  readonly clock?: Clock;
}

/** A journal in JetStream. Close the election first, then the journal, which closes the connection. */
export interface OpenJetStreamJournal {
  readonly journal: Journal;
  readonly election: Election;
  readonly connection: NatsConnection;
  /** What keeps it from working now. */
  readonly troubles: () => readonly JournalTrouble[];
}

/** One request to JetStream's management gets this long. */
const REQUEST_MILLIS = 2000;

/**
 * Connects to NATS and opens or makes the farm's streams there.
 *
 * @throws FarmError `unavailable` when NATS can't be reached, `unauthenticated`, `permission_denied` when it refuses this
 * user, `failed_precondition` when it could lose acknowledged events or its streams are not as needed.
 */
export async function openJetStreamJournal(options: JetStreamJournalOptions): Promise<OpenJetStreamJournal> {
  const { clock = systemClock, log } = options;
  const names = jetStreamNames(options.prefix ?? 'clipfarm');
  const link = await connectNats({ ...options, clock });
  try {
    await checkInstallation(link, options);
    return await open(link, names, options, clock);
  } catch (error) {
    await link.close();
    log.debug({ err: error }, 'the journal in NATS could not be opened');
    throw natsFarmError(error, 'opening the journal in NATS');
  }
}

async function open(
  link: NatsLink,
  names: JetStreamNames,
  options: JetStreamJournalOptions,
  clock: Clock,
): Promise<OpenJetStreamJournal> {
  const { log, timeoutMillis: patienceMillis = 5000 } = options;
  const { connection } = link;
  const jsm = await connection.jetstreamManager({ timeout: REQUEST_MILLIS, checkAPI: false });
  const js = connection.jetstream({ timeout: REQUEST_MILLIS });
  const ensure: EnsureParts = { jsm, clock, log, allowUnsafe: options.allowUnsafe ?? false };
  const replicas = wantedReplicas(connection, options.replicas);
  const wantedEvents = eventStream(names, replicas);
  const events = await ensureStream(ensure, wantedEvents);
  const asked = { jsm, js, link, clock };
  const wantedSnapshots = snapshotStream(names, replicas);
  await ensureStream(ensure, wantedSnapshots);
  const leaseMillis = options.leaseMillis ?? 4000;
  const firstTerm = (await lastTerm(jsm, names)) + 1;
  const wantedLeader = leaderStream(names, replicas, leaseMillis, firstTerm);
  const lease = await ensureStream(ensure, wantedLeader);
  // Where anything goes, only what is missing is trouble.
  const streams = [wantedEvents, wantedSnapshots, wantedLeader].map((wanted) =>
    ensure.allowUnsafe ? { ...wanted, settings: {} } : wanted,
  );
  const probeSubject = `$KV.${names.snapshots}.health`;
  const { onTrouble = () => {} } = options;
  const health = new NatsHealth({ ...asked, streams, probeSubject, onTrouble, log });
  const journal = new JetStreamJournal({
    ...asked,
    health,
    pace: new ReadingPace({ clock, log, onSlow: () => onTrouble('slow') }),
    stream: names.events,
    names,
    snapshots: new JetStreamSnapshots({
      ...asked,
      bucket: names.snapshots,
      kv: await js.views.kv(names.snapshots, { bindOnly: true }),
      patienceMillis,
    }),
    lastSequence: events.state.last_seq,
    onAppend: options.onAppend,
    patienceMillis,
    log,
  });

  // What the server counts with is what the holder must count with.
  const ttlMillis = millis(lease.config.max_age);
  if (ttlMillis !== leaseMillis) {
    log.warn(
      { leaseMillis: ttlMillis, asked: leaseMillis },
      'the lease keeps the lifetime that it was first opened with',
    );
  }
  const election = new JetStreamElection({
    link,
    kv: await connection.jetstream({ timeout: ttlMillis / 5 }).views.kv(names.leader, { bindOnly: true }),
    source: { ...asked, stream: bucketStream(names.leader) },
    subject: `$KV.${names.leader}.${LEASE_KEY}`,
    lastSequence: lease.state.last_seq,
    ttlMillis,
    clock,
    log,
    failed: (error) => health.failed(error),
    onElected: (term, candidate) => journal.recordTerm(term, candidate),
  });
  return { journal, election, connection, troubles: () => health.troubles };
}

/** Copies that a farm on this NATS keeps. */
export function wantedReplicas({ info }: NatsConnection, asked: number | undefined): number {
  return asked ?? (info?.cluster === undefined ? 1 : 3);
}

/** Highest term that was ever recorded; 0 if none. */
async function lastTerm(jsm: JetStreamManager, names: JetStreamNames): Promise<number> {
  try {
    const record = await jsm.streams.getMessage(names.events, { last_by_subj: names.terms });
    return record.json<{ term: number }>().term;
  } catch (error) {
    if (jetStreamCode(error) === jetStreamError.messageNotFound) return 0;
    throw error;
  }
}

async function checkInstallation({ connection }: NatsLink, options: JetStreamJournalOptions): Promise<void> {
  const { log, allowUnsafe = false, monitors } = options;
  const findings = await inspectNats(connection, monitors === undefined ? {} : { monitors });
  const errors = findings.filter(({ level, hopeless }) => level === 'error' && (hopeless || !allowUnsafe));
  if (errors.length > 0) {
    const fixes = errors.flatMap(({ fix }) => fix ?? []);
    const code = errors.every(({ temporary }) => temporary) ? 'unavailable' : 'failed_precondition';
    throw new FarmError(code, errors.map(({ check, detail }) => `${check}: ${detail}`).join('; '), {
      field: 'nats',
      hint: fixes.join(' '),
    });
  }
  for (const { check, level, detail, fix } of findings) {
    if (level === 'ok') log.debug({ check }, detail);
    else log.warn({ check, hint: fix }, detail);
  }
}
