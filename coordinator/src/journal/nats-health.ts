import type { Clock, Timer } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import type { Logger } from '@clipfarm/shared/log';
import type { JetStreamClient, JetStreamManager } from 'nats';
import { CopyWatch, lateCopies } from './jetstream-copies.ts';
import { writeFault } from './jetstream-fault.ts';
import { differencesOf, type WantedStream } from './jetstream-stream.ts';
import type { CountedTroubleKind, JournalTrouble } from './journal-trouble.ts';
import { isTemporary, jetStreamCode, jetStreamError, natsFarmError } from './nats-error.ts';
import type { NatsLink } from './nats-link.ts';

/** What is watched. */
export interface NatsHealthParts {
  readonly link: Pick<NatsLink, 'troubles'>;
  readonly jsm: { readonly streams: Pick<JetStreamManager['streams'], 'info' | 'purge'> };
  readonly streams: readonly WantedStream[];
  readonly js: Pick<JetStreamClient, 'publish'>;
  /** Subject of which one message is kept, to find out whether there is room again. */
  readonly probeSubject: string;
  /** Called with each log line that says that something keeps the journal from working, or soon may. */
  readonly onTrouble: (kind: CountedTroubleKind) => void;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Between two looks. */
const LOOK_MILLIS = 5000;

/** A leader of JetStream that is being elected, or one lost answer, is no problem yet. */
const MISSES = 2;

/**
 * Watches whether a journal in NATS works: the connection, what the server refuses, and whether the farm's streams are there
 * and as they were made, with all their copies. Says so in the log when something begins and when it is over.
 */
export class NatsHealth {
  readonly #parts: NatsHealthParts;
  readonly #copies: CopyWatch;
  #streams: string | null = null;
  #full: string | null = null;
  /** Whether something could not be written and it is not known why. */
  #unanswered = false;
  #said: string | null = null;
  #misses = 0;
  #timer: Timer | null = null;
  #closed = false;

  constructor(parts: NatsHealthParts) {
    this.#parts = parts;
    this.#copies = new CopyWatch(parts.log, () => parts.onTrouble('copies'));
    this.#lookLater();
  }

  /** What keeps the journal from working now. */
  get troubles(): readonly JournalTrouble[] {
    const own = [
      { kind: 'room', words: this.#full },
      { kind: 'streams', words: this.#streams },
    ] as const;
    return [
      ...this.#parts.link.troubles,
      ...own.flatMap(({ kind, words }) => (words === null ? [] : [{ kind, words }])),
    ];
  }

  /** Notes that something could not be written. A lack of room is remembered until there is some again. */
  failed(thrown: unknown): void {
    const { code, message } = natsFarmError(thrown, 'writing');
    if (code === 'unavailable') this.#unanswered = true;
    if (code !== 'resource_exhausted') return;
    if (this.#full === null) {
      const hint = 'free disk space on the NATS servers, or raise their limits; nothing acknowledged is lost';
      this.#parts.onTrouble('room');
      this.#parts.log.error({ reason: message, hint }, 'the journal in NATS has no room');
    }
    this.#full = message;
  }

  /** Looks now. Never throws. */
  async look(): Promise<void> {
    // Without a connection there is nothing to see, and that is told already.
    if (this.#parts.link.troubles.some(({ kind }) => kind === 'connection')) return;
    const faults = this.#full !== null || this.#unanswered ? await this.#faults() : [];
    if (this.#full !== null && faults.length === 0) await this.#tryToWrite();
    const seen = await Promise.all(this.#parts.streams.map((stream) => this.#lookAt(stream)));
    if (seen.every(({ late }) => late !== undefined)) this.#copies.saw(seen.flatMap(({ late = [] }) => late));
    const found = [...faults, ...seen.map(({ problem }) => problem)];
    const silent = found.includes('silent');
    this.#misses = silent ? this.#misses + 1 : 0;
    if (silent && this.#misses < MISSES) return;
    const problems = found.filter((problem) => problem !== null && problem !== 'silent');
    if (silent && problems.length === 0) {
      problems.push(
        'JetStream does not answer: it has no leader, or a full disk has stopped it until the server restarts',
      );
    }
    this.#streams = problems.length === 0 ? null : problems.join('; ');
    this.#say();
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  /** What keeps streams from taking what is written to them, in words. */
  async #faults(): Promise<string[]> {
    this.#unanswered = false;
    const problems: string[] = [];
    for (const { name } of this.#parts.streams) {
      const fault = await writeFault(this.#parts, name);
      // That it is gone is seen otherwise.
      if (fault === null || jetStreamCode(fault) === jetStreamError.streamNotFound) continue;
      // As long as it is so, it is asked for.
      this.#unanswered = true;
      this.failed(fault);
      problems.push(
        `JetStream stream ${name} takes no writes, and will not until its server is restarted: ${wordsOf(fault)}`,
      );
    }
    return problems;
  }

  async #tryToWrite(): Promise<void> {
    try {
      await this.#parts.js.publish(this.#parts.probeSubject, '');
      this.#full = null;
      this.#parts.log.info('the journal in NATS has room again');
    } catch (error) {
      this.failed(error);
    }
  }

  /** What is wrong with a stream, and which of its copies are late, where that can be known. */
  async #lookAt(
    wanted: WantedStream,
  ): Promise<{ readonly problem: string | null | 'silent'; readonly late?: readonly string[] }> {
    try {
      const { config, cluster } = await this.#parts.jsm.streams.info(wanted.name);
      const differences = differencesOf(config, wanted);
      const altered = `JetStream stream ${wanted.name} was altered: ${differences.join(', ')}`;
      return {
        problem: differences.length === 0 ? null : altered,
        late: lateCopies(wanted.name, cluster, config.num_replicas),
      };
    } catch (error) {
      return { problem: problemOf(wanted.name, error) };
    }
  }

  #say(): void {
    if (this.#streams === this.#said) return;
    this.#said = this.#streams;
    if (this.#streams === null) {
      this.#parts.log.info('the journal in NATS is as it should be again');
      return;
    }
    this.#parts.onTrouble('streams');
    this.#parts.log.error({ reason: this.#streams }, 'the journal in NATS has trouble');
  }

  #lookLater(): void {
    this.#timer = this.#parts.clock.setTimeout(() => {
      void this.look().finally(() => {
        if (!this.#closed) this.#lookLater();
      });
    }, LOOK_MILLIS);
  }
}

function problemOf(stream: string, error: unknown): string | 'silent' {
  switch (jetStreamCode(error)) {
    case jetStreamError.streamNotFound:
      return `JetStream stream ${stream} is gone: restore it from a backup`;
    case jetStreamError.notEnabled:
    case jetStreamError.notEnabledForAccount:
      return 'JetStream is not enabled on this server or for this account';
  }
  if (isTemporary(error)) return 'silent';
  return `JetStream stream ${stream} can't be looked at: ${FarmError.from(error).message}`;
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
