import { createHash } from 'node:crypto';
import type { Logger } from '@clipfarm/shared/log';
import type { NatsConnection } from 'nats';
import type { JobNotice } from './job-notices.ts';

/** What became of a notice: `dropped` when the connection is gone or too slow. */
export type NatsOutcome = 'published' | 'dropped';

/** What {@link NatsEvents} works with. */
export interface NatsEventsParts {
  readonly connection: Pick<NatsConnection, 'publish' | 'flush'>;
  /** First token of every subject: the farm's name on this NATS, as the journal has checked it. */
  readonly prefix: string;
  readonly count: (outcome: NatsOutcome) => void;
  readonly log: Logger;
}

/** Bytes on their way to the server beyond which notices are dropped: a stalled connection must not fill memory. */
const MAX_UNFLUSHED_BYTES = 1024 * 1024;

/** Characters of a token; longer ones become a hash. */
const MAX_TOKEN = 128;

/**
 * Publishes notices on NATS, at most once each: nobody waits for them, and what can't be sent is dropped. The record that
 * lasts is the journal.
 */
export class NatsEvents {
  readonly #parts: NatsEventsParts;
  #unflushed = 0;
  #flushing = false;
  #dropping = false;

  constructor(parts: NatsEventsParts) {
    this.#parts = parts;
  }

  /** Publishes a notice on {@link subjectOf}. Returns at once and never throws. */
  tell(notice: JobNotice): void {
    const { connection, prefix } = this.#parts;
    const body = Buffer.from(JSON.stringify(notice));
    if (this.#unflushed + body.length > MAX_UNFLUSHED_BYTES) {
      this.#drop('NATS takes nothing at the moment');
      return;
    }
    try {
      connection.publish(subjectOf(prefix, notice), body);
    } catch (error) {
      this.#drop(error instanceof Error ? error.message : String(error));
      return;
    }
    this.#parts.count('published');
    this.#unflushed += body.length;
    if (!this.#flushing) void this.#flush();
  }

  /** Learns from the server's answer that everything before it has arrived. */
  async #flush(): Promise<void> {
    this.#flushing = true;
    const sent = this.#unflushed;
    try {
      await this.#parts.connection.flush();
      this.#unflushed -= sent;
      this.#dropping = false;
    } catch {
      // The connection is gone, and with it what was on its way.
      this.#unflushed = 0;
    }
    this.#flushing = false;
    if (this.#unflushed > 0) void this.#flush();
  }

  #drop(reason: string): void {
    this.#parts.count('dropped');
    if (this.#dropping) return;
    this.#dropping = true;
    this.#parts.log.warn({ reason }, 'job events for NATS are dropped');
  }
}

/** `<prefix>.jobs.<owner>.<job>.<type>`, for example `clipfarm.jobs.ann.3f2b-51.completed`. */
export function subjectOf(prefix: string, notice: JobNotice): string {
  const type = notice.type.slice('job.'.length);
  return [prefix, 'jobs', subjectToken(notice.job.owner), subjectToken(notice.job.id), type].join('.');
}

/**
 * Any text as one token of a subject. Letters, digits, `_` and `-` stand for themselves; every other byte of its UTF-8
 * becomes `=` and two hexadecimal digits, so that neither dots nor wildcards come from users and different texts stay
 * different. The empty text becomes `=`; one that would be longer than 128 characters becomes `=h` and its SHA-256.
 */
export function subjectToken(text: string): string {
  if (text === '') return '=';
  const token = [...Buffer.from(text)]
    .map((byte) => {
      const char = String.fromCharCode(byte);
      return /[A-Za-z0-9_-]/.test(char) ? char : `=${byte.toString(16).padStart(2, '0')}`;
    })
    .join('');
  return token.length <= MAX_TOKEN ? token : `=h${createHash('sha256').update(text).digest('hex')}`;
}
