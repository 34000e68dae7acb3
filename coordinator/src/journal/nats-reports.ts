import type { Clock } from '@clipfarm/shared/clock';
import type { Logger } from '@clipfarm/shared/log';
import { Events, type NatsConnection, type Status } from 'nats';
import type { JournalTrouble, JournalTroubleKind } from './journal-trouble.ts';
import type { NatsClient } from './nats-closings.ts';
import { inspectVersion } from './nats-inspect.ts';

/** What was reported this long ago and not again is over. */
const CURRENT_MILLIS = 60_000;

/** Kinds of errors that are remembered; beyond, something makes up ever new ones. */
const MAX_ERRORS = 100;

/** What reports are made with. */
export interface ReportParts {
  readonly clock: Clock;
  readonly log: Logger;
  /** Called with each log line that says that something keeps the journal from working. */
  readonly began: (kind: JournalTroubleKind) => void;
  /** Asks a server why it closed a connection; null when nobody knows. */
  readonly whyClosed: (client: NatsClient) => Promise<string | null>;
}

/**
 * What NATS says about a connection without being asked: that it broke, that an operation is not allowed, that this process
 * reads too slowly. Each thing is logged when it begins, and not again while it goes on.
 */
export class NatsReports {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #began: (kind: JournalTroubleKind) => void;
  readonly #whyClosed: ReportParts['whyClosed'];
  /** The connection that is there, or was until it broke, as its server knows it. */
  #client: NatsClient | null;
  #disconnectedAt: number | null = null;
  /** What was reported, when last, by the monotonic clock, and whether it keeps the journal from working. */
  readonly #errors = new Map<string, { readonly last: number; readonly grave: boolean }>();

  constructor({ clock, log, began, whyClosed }: ReportParts, connection: Pick<NatsConnection, 'info'>) {
    this.#clock = clock;
    this.#log = log;
    this.#began = began;
    this.#whyClosed = whyClosed;
    this.#client = clientOf(connection);
  }

  /** What keeps the connection from doing its work now. A reader that is slow catches up by itself. */
  get troubles(): readonly JournalTrouble[] {
    const at = this.#disconnectedAt;
    if (at !== null) {
      return [{ kind: 'connection', words: `no connection to NATS since ${new Date(at).toISOString().slice(0, 19)}Z` }];
    }
    const since = this.#clock.monotonic() - CURRENT_MILLIS;
    return [...this.#errors]
      .filter(([, { last, grave }]) => grave && last > since)
      .map(([text]) => ({ kind: 'permission', words: `NATS reports: ${text}` }));
  }

  /** Takes what the client says about its connection. */
  hear(status: Status, connection: NatsConnection): void {
    const server = String(status.data);
    switch (status.type) {
      case Events.Disconnect:
        if (this.#disconnectedAt !== null) return;
        this.#disconnectedAt = this.#clock.now();
        this.#began('connection');
        this.#log.warn({ server }, 'connection to NATS lost; reconnecting until it succeeds');
        return;
      case Events.Reconnect:
        this.#reconnected(server, connection);
        return;
      case Events.LDM:
        this.#log.info({ server }, 'this NATS server is about to stop; the client moves to another');
        return;
      case Events.Error:
        this.#failed(server, status);
        return;
      default:
        this.#log.debug({ type: status.type, server }, 'NATS connection');
    }
  }

  #failed(error: string, { permissionContext }: Status): void {
    const now = this.#clock.monotonic();
    const text = permissionContext
      ? `${permissionContext.operation} to ${permissionContext.subject} is not allowed`
      : error;
    const last = this.#errors.get(text)?.last;
    this.#errors.delete(text);
    this.#errors.set(text, { last: now, grave: permissionContext !== undefined });
    for (const oldest of this.#errors.keys()) {
      if (this.#errors.size <= MAX_ERRORS) break;
      this.#errors.delete(oldest);
    }
    if (last !== undefined && last > now - CURRENT_MILLIS) return;
    if (permissionContext) this.#began('permission');
    this.#log.error({ reason: text, hint: hintOf(error) }, 'NATS reports an error');
  }

  /** In a cluster the next server may be an older one. */
  #reconnected(server: string, connection: NatsConnection): void {
    const at = this.#disconnectedAt ?? this.#clock.now();
    this.#disconnectedAt = null;
    const { level, detail, fix } = inspectVersion(connection.info?.version ?? '');
    const fields = { server, version: detail, seconds: (this.#clock.now() - at) / 1000 };
    if (level === 'error') this.#log.error({ ...fields, hint: fix }, 'connected to a NATS server that is too old');
    else this.#log.info(fields, 'connected to NATS again');
    const before = this.#client;
    this.#client = clientOf(connection);
    if (before !== null) void this.#tellWhy(before);
  }

  async #tellWhy(client: NatsClient): Promise<void> {
    const reason = await this.#whyClosed(client);
    if (reason !== null) this.#log.warn({ reason, hint: hintOf(reason) }, 'NATS had closed the connection');
  }
}

function clientOf({ info }: Pick<NatsConnection, 'info'>): NatsClient | null {
  return info === undefined ? null : { serverId: info.server_id, clientId: info.client_id };
}

function hintOf(problem: string): string {
  if (/permission/i.test(problem)) return 'allow this user the operation on this subject in the NATS configuration';
  if (/slow consumer/i.test(problem))
    return 'this process or its network is too slow for what it reads; check its load';
  if (/auth/i.test(problem)) return 'check the credentials file: the user may be unknown, revoked or expired';
  return 'see the log of the NATS server';
}
