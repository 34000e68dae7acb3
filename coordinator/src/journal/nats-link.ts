import { readFile } from 'node:fs/promises';
import type { Clock } from '@clipfarm/shared/clock';
import { systemReason } from '@clipfarm/shared/disk-error';
import { FarmError } from '@clipfarm/shared/errors';
import type { Logger } from '@clipfarm/shared/log';
import { type ConnectionOptions, connect, credsAuthenticator, Events, type NatsConnection } from 'nats';
import type { CountedTroubleKind, JournalTrouble } from './journal-trouble.ts';
import { askClosingReason, closingReason, type NatsClient } from './nats-closings.ts';
import { NatsReports, type ReportParts } from './nats-reports.ts';
import { pause } from './pause.ts';
import { StandstillWatch } from './standstill.ts';

/** How to reach and authenticate to NATS. */
export interface NatsOptions {
  /** `nats://host:port` of one server or more; the others of a cluster are found by themselves. */
  readonly servers: readonly string[];
  /** File with a user's JWT and key, as `nsc generate creds` writes it. */
  readonly credentialsFile?: string;
  /** Files in PEM format. */
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string };
  /** HTTP monitoring addresses of the servers, which tell why one closed the connection. @default none */
  readonly monitors?: readonly string[];
  /** Connect to the named servers only, once, and let the connection end with them. @default false */
  readonly only?: boolean;
  /** Called when something begins to keep the journal from working, or this process is found to be too slow. */
  readonly onTrouble?: (kind: CountedTroubleKind) => void;
  readonly clock: Clock;
  readonly log: Logger;
}

/** A connection to NATS that reconnects for ever, and whether it is there at the moment. */
export interface NatsLink {
  readonly connection: NatsConnection;
  /** Resolves with true when connected, with false when that takes longer than `ms` milliseconds or the signal is aborted. */
  connected(ms: number, signal?: AbortSignal): Promise<boolean>;
  /** Aborted when the connection that is there, or the next one, breaks: what was sent into it may be lost. */
  broken(): AbortSignal;
  /** What is wrong with the connection now. */
  readonly troubles: readonly JournalTrouble[];
  /** Sends what is in hand and closes. */
  close(): Promise<void>;
}

/** The first connection must succeed within this time. */
const CONNECT_MILLIS = 5000;

/** A server that does not answer pings for two of these intervals is left for another. */
const PING_MILLIS = 3000;

const RECONNECT_MILLIS = 250;

/**
 * Connects to NATS.
 *
 * @throws FarmError `unavailable` when no server answers, `unauthenticated` when the user is refused,
 * `invalid_argument` when a file can't be read.
 */
export async function connectNats(options: NatsOptions): Promise<NatsLink> {
  const { servers, clock, log } = options;
  const credentials = await readCredentials(options.credentialsFile);
  const settings: ConnectionOptions = {
    servers: [...servers],
    name: 'clipfarm-coordinator',
    timeout: CONNECT_MILLIS,
    pingInterval: PING_MILLIS,
    maxPingOut: 2,
    maxReconnectAttempts: -1,
    ...(options.only === true ? { ignoreClusterUpdates: true, reconnect: false } : {}),
    reconnectTimeWait: RECONNECT_MILLIS,
    // A server that refuses the user while its accounts are changed must not end the reconnecting.
    ignoreAuthErrorAbort: true,
    noAsyncTraces: true,
    ...(credentials === undefined ? {} : { authenticator: credsAuthenticator(credentials) }),
    ...(options.tls === undefined ? {} : { tls: tlsOf(options.tls) }),
  };
  try {
    const { monitors = [], onTrouble: began = () => {} } = options;
    const whyClosed = async (client: NatsClient, connection: NatsConnection) =>
      (await closingReason(monitors, client)) ?? (await askClosingReason(connection, client));
    return new Link(await connect(settings), { clock, log, began, whyClosed });
  } catch (error) {
    throw connectError(error, servers);
  }
}

class Link implements NatsLink {
  readonly connection: NatsConnection;
  readonly #clock: Clock;
  readonly #reports: NatsReports;
  readonly #watch: StandstillWatch;
  /** Aborted while the connection is there. */
  #up = new AbortController();
  #break = new AbortController();

  constructor(connection: NatsConnection, parts: Omit<ReportParts, 'standstill'>) {
    this.connection = connection;
    this.#clock = parts.clock;
    this.#up.abort();
    this.#watch = new StandstillWatch(parts.clock, () => connection.stats().inBytes);
    this.#reports = new NatsReports({ ...parts, standstill: () => this.#watch.recent() }, connection);
    void this.#follow();
  }

  get troubles(): readonly JournalTrouble[] {
    return this.#reports.troubles;
  }

  async connected(ms: number, signal?: AbortSignal): Promise<boolean> {
    const up = this.#up.signal;
    await pause(this.#clock, ms, signal === undefined ? up : AbortSignal.any([up, signal]));
    return up.aborted;
  }

  broken(): AbortSignal {
    return this.#break.signal;
  }

  async close(): Promise<void> {
    this.#watch.close();
    // Draining needs the server; without one there is nothing to wait for.
    if (this.#up.signal.aborted) await this.connection.drain().catch(() => undefined);
    await this.connection.close();
  }

  async #follow(): Promise<void> {
    for await (const status of this.connection.status()) {
      if (status.type === Events.Disconnect) {
        if (this.#up.signal.aborted) this.#up = new AbortController();
        this.#break.abort();
        this.#break = new AbortController();
      } else if (status.type === Events.Reconnect) {
        this.#up.abort();
      }
      this.#reports.hear(status, this.connection);
    }
  }
}

async function readCredentials(path: string | undefined): Promise<Uint8Array | undefined> {
  if (path === undefined) return undefined;
  try {
    return await readFile(path);
  } catch (error) {
    throw new FarmError('invalid_argument', `NATS credentials ${path} can't be read: ${systemReason(error)}`, {
      field: 'nats-credentials',
      cause: error,
    });
  }
}

function tlsOf(tls: NonNullable<NatsOptions['tls']>) {
  return {
    ...(tls.ca === undefined ? {} : { caFile: tls.ca }),
    ...(tls.cert === undefined ? {} : { certFile: tls.cert }),
    ...(tls.key === undefined ? {} : { keyFile: tls.key }),
  };
}

function connectError(error: unknown, servers: readonly string[]): FarmError {
  const reason = error instanceof Error ? error.message : String(error);
  const list = servers.join(', ');
  if (/authorization|authentication|creds/i.test(reason)) {
    return new FarmError('unauthenticated', `NATS at ${list} refuses this user: ${reason}`, {
      field: 'nats-credentials',
      cause: error,
    });
  }
  return new FarmError('unavailable', `no connection to NATS at ${list}: ${reason}`, {
    field: 'nats',
    hint: 'Check the addresses, and that a server listens there: nats-server --jetstream',
    cause: error,
  });
}
