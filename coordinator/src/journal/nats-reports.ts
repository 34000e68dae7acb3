import type { Clock } from '@clipfarm/shared/clock';
import type { Logger } from '@clipfarm/shared/log';
import { secondsOf } from '@clipfarm/shared/log-number';
import { Events, type NatsConnection, type Status } from 'nats';
import type { CountedTroubleKind, JournalTrouble } from './journal-trouble.ts';
import { CLOSINGS_SUBJECT, type NatsClient } from './nats-closings.ts';
import { inspectVersion } from './nats-inspect.ts';
import { SLOW_HINT } from './reading-pace.ts';
import type { Standstill } from './standstill.ts';

/** What was reported this long ago and not again is over. */
const CURRENT_MILLIS = 60_000;

/** Kinds of errors that are remembered; beyond, something makes up ever new ones. */
const MAX_ERRORS = 100;

/** As much waits at least where NATS has lost patience: both systems' buffers of the connection are full then. */
const BACKLOG_BYTES = 64 * 1024;

/** What reports are made with. */
export interface ReportParts {
  readonly clock: Clock;
  readonly log: Logger;
  /** Called with each log line that says that something keeps the journal from working, or that this process is too slow. */
  readonly began: (kind: CountedTroubleKind) => void;
  /** Asks why a server closed a connection; null when nobody knows. */
  readonly whyClosed: (client: NatsClient, connection: NatsConnection) => Promise<string | null>;
  /** The time that this process stood still until a moment ago; null when it did not. */
  readonly standstill: () => Standstill | null;
}

/**
 * What NATS says about a connection without being asked: that it broke, that an operation is not allowed, that this process
 * reads too slowly. Each thing is logged when it begins, and not again while it goes on.
 */
export class NatsReports {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #began: ReportParts['began'];
  readonly #whyClosed: ReportParts['whyClosed'];
  readonly #standstill: ReportParts['standstill'];
  /** The connection that is there, or was until it broke, as its server knows it. */
  #client: NatsClient | null;
  #disconnectedAt: number | null = null;
  /** Before the connection broke. */
  #stoodStill: Standstill | null = null;
  /** What was reported, when last, by the monotonic clock, and whether it keeps the journal from working. */
  readonly #errors = new Map<string, { readonly last: number; readonly grave: boolean }>();

  constructor({ clock, log, began, whyClosed, standstill }: ReportParts, connection: Pick<NatsConnection, 'info'>) {
    this.#clock = clock;
    this.#log = log;
    this.#began = began;
    this.#whyClosed = whyClosed;
    this.#standstill = standstill;
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
        this.#stoodStill = this.#standstill();
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
    if (permissionContext?.subject === CLOSINGS_SUBJECT) {
      this.#log.debug('this user may not ask why NATS closed a connection');
      return;
    }
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
    if (isSlowness(error)) this.#began('slow');
    this.#log.error({ reason: text, hint: hintOf(error) }, 'NATS reports an error');
  }

  /** In a cluster the next server may be an older one. */
  #reconnected(server: string, connection: NatsConnection): void {
    const at = this.#disconnectedAt ?? this.#clock.now();
    this.#disconnectedAt = null;
    const { level, detail, fix } = inspectVersion(connection.info?.version ?? '');
    const fields = { server, version: detail, seconds: secondsOf(this.#clock.now() - at) };
    if (level === 'error') this.#log.error({ ...fields, hint: fix }, 'connected to a NATS server that is too old');
    else this.#log.info(fields, 'connected to NATS again');
    const before = this.#client;
    this.#client = clientOf(connection);
    if (before !== null) void this.#tellWhy(before, connection, this.#stoodStill);
  }

  async #tellWhy(client: NatsClient, connection: NatsConnection, stoodStill: Standstill | null): Promise<void> {
    const reason = await this.#whyClosed(client, connection);
    if (reason !== null) {
      if (isSlowness(reason)) this.#began('slow');
      this.#log.warn({ reason, hint: hintOf(reason) }, 'NATS had closed the connection');
      return;
    }
    if (stoodStill === null) return;
    const fields = { seconds: secondsOf(stoodStill.millis), bytes: stoodStill.bytes, hint: SLOW_HINT };
    if (stoodStill.bytes < BACKLOG_BYTES) {
      this.#log.warn(fields, 'this process had stood still before the connection to NATS was lost');
      return;
    }
    this.#began('slow');
    this.#log.warn(
      fields,
      'this process had stood still while NATS sent to it, which closes connections of readers that are too slow',
    );
  }
}

function clientOf({ info }: Pick<NatsConnection, 'info'>): NatsClient | null {
  return info === undefined ? null : { serverId: info.server_id, clientId: info.client_id };
}

function isSlowness(problem: string): boolean {
  return /slow consumer/i.test(problem);
}

function hintOf(problem: string): string {
  if (/permission/i.test(problem)) return 'allow this user the operation on this subject in the NATS configuration';
  if (isSlowness(problem)) return SLOW_HINT;
  if (/auth/i.test(problem)) return 'check the credentials file: the user may be unknown, revoked or expired';
  return 'see the log of the NATS server';
}
