import { FarmError } from '@clipfarm/shared/errors';
import type { Logger } from '@clipfarm/shared/log';
import { feed } from './jetstream-feed.ts';
import { type Head, positionOf, readHead } from './jetstream-heads.ts';
import { Lane, largestAppend } from './jetstream-lane.ts';
import { appendText, storedAppends } from './jetstream-message.ts';
import { publishOnce } from './jetstream-publish.ts';
import { listStreams, type ReaderParts, readEvents } from './jetstream-reader.ts';
import type { JetStreamSnapshots } from './jetstream-snapshots.ts';
import { Tail } from './jetstream-tail.ts';
import {
  type AppendMeta,
  checkStreamName,
  checkWhole,
  type Journal,
  type JournalWatcher,
  type NewEvent,
  notCovered,
  type Snapshot,
  type StoredEvent,
  type StreamPosition,
} from './journal.ts';
import { ask } from './nats-ask.ts';
import type { NatsHealth } from './nats-health.ts';
import type { NatsLink } from './nats-link.ts';
import { pause } from './pause.ts';
import type { ReadingPace } from './reading-pace.ts';

/** Between two looks at where a stream ends. */
const AGAIN_MILLIS = 200;

/**
 * Records of terms that are kept. The last one alone is needed; older ones, should a server without synced writes lose it in a
 * power cut, and for whoever looks into what happened.
 */
const KEPT_TERMS = 100;

/** What a journal in JetStream is made of. */
export interface JetStreamJournalParts extends ReaderParts {
  readonly link: NatsLink;
  readonly snapshots: JetStreamSnapshots;
  /** Last sequence of the JetStream stream when it was opened. */
  readonly lastSequence: number;
  readonly onAppend: ((seconds: number) => void) | undefined;
  readonly health: Pick<NatsHealth, 'failed' | 'close'>;
  /** Hears how far behind the journal's end its reader is. */
  readonly pace: Pick<ReadingPace, 'read'>;
  readonly log: Logger;
}

/** A journal in a JetStream stream: a subject for each of its streams, appends as messages. Closing it closes the connection. */
export class JetStreamJournal implements Journal {
  readonly #parts: JetStreamJournalParts;
  readonly #lanes = new Map<string, Lane>();
  /** Where reading a stream may begin: what comes after the position is in messages after the sequence. */
  readonly #marks = new Map<string, Head>();
  readonly #tail: Tail;
  /** Highest sequence that is known to be stored. */
  #lastSequence: number;
  #closing: Promise<void> | undefined;

  constructor(parts: JetStreamJournalParts) {
    this.#parts = parts;
    this.#lastSequence = parts.lastSequence;
    this.#tail = new Tail(parts, parts.names, parts.log, parts.pace, {
      lastKnown: () => this.#lastSequence,
      passed: (stream, head) => this.#mark(stream, head),
    });
  }

  async append(
    stream: string,
    expectedPosition: number,
    events: readonly NewEvent[],
    meta: AppendMeta,
  ): Promise<number> {
    this.#checkOpen();
    const { clock, link, onAppend, patienceMillis } = this.#parts;
    checkStreamName(stream);
    checkWhole(expectedPosition, 'expectedPosition', 0);
    const text = appendText(stream, events, meta);
    checkSize(stream, text, largestAppend(link));
    const started = clock.monotonic();
    const lane = this.#lane(stream);
    const position = await new Promise<number>((resolve, reject) => {
      const deadline = started + patienceMillis;
      lane.push({ expectedPosition, count: events.length, text, deadline, resolve, reject });
    }).catch((error: unknown) => {
      this.#parts.health.failed(error);
      throw error;
    });
    this.#lastSequence = Math.max(this.#lastSequence, lane.sequence);
    onAppend?.((clock.monotonic() - started) / 1000);
    return position;
  }

  async *read(stream: string, fromPosition: number): AsyncGenerator<StoredEvent> {
    this.#checkOpen();
    checkStreamName(stream);
    checkWhole(fromPosition, 'fromPosition', 1);
    const known = this.#lanes.get(stream)?.sequence ?? 0;
    const after = this.#markBefore(stream, fromPosition);
    yield* readEvents(this.#parts, stream, fromPosition, known, after, (head) => this.#mark(stream, head));
  }

  async streams(): Promise<readonly StreamPosition[]> {
    this.#checkOpen();
    return listStreams(this.#parts, this.#lastSequence);
  }

  watch(watcher: JournalWatcher): () => void {
    this.#checkOpen();
    return this.#tail.watch(watcher);
  }

  async saveSnapshot(stream: string, position: number, data: unknown): Promise<void> {
    this.#checkOpen();
    checkStreamName(stream);
    checkWhole(position, 'position', 1);
    // Before anything is awaited: whoever knows the position has just heard of the message that ends there.
    const { sequence } = this.#markBefore(stream, position + 1);
    await this.#lanes.get(stream)?.settled();
    const head = await this.#head(stream);
    if (position > head.position) {
      const message = `position: ${position}; stream ${stream} reaches only ${head.position}`;
      throw new FarmError('invalid_argument', message, { field: 'position' });
    }
    await this.#parts.snapshots.save(stream, { position, sequence }, data);
    this.#mark(stream, { position, sequence });
  }

  async loadSnapshot(stream: string): Promise<Snapshot | null> {
    this.#checkOpen();
    checkStreamName(stream);
    const found = await this.#parts.snapshots.load(stream);
    if (found === null) return null;
    const { position, sequence, data } = found;
    if (!(await this.#reaches(stream, position))) {
      if (await this.#isTrimmed(stream)) {
        const hint = 'restore the events and the snapshots of one backup';
        this.#parts.log.error({ stream, position, hint }, 'a snapshot is of events that are not in the journal');
        return null;
      }
      this.#parts.log.warn({ stream, position }, 'a snapshot is of events that are not in the journal: it is removed');
      await this.#parts.snapshots.remove(stream);
      return null;
    }
    this.#mark(stream, { position, sequence });
    return { position, data };
  }

  async trim(stream: string, position: number): Promise<void> {
    this.#checkOpen();
    checkStreamName(stream);
    checkWhole(position, 'position', 1);
    const covered = await this.#parts.snapshots.reach(stream);
    if (position > covered) throw notCovered(stream, position, covered);
    await this.#purge(stream, position, (await this.#head(stream)).sequence);
  }

  async remove(stream: string): Promise<void> {
    this.#checkOpen();
    checkStreamName(stream);
    await this.#lanes.get(stream)?.settled();
    const { clock, jsm, names, patienceMillis, snapshots, stream: name } = this.#parts;
    // The snapshot first: events without one are as good as ever, should it end in between.
    await snapshots.remove(stream);
    const filter = names.subjectOf(stream);
    const deadline = clock.monotonic() + patienceMillis;
    await ask(this.#parts, `removing stream ${stream}`, deadline, () => jsm.streams.purge(name, { filter }));
    this.#lanes.delete(stream);
    this.#marks.delete(stream);
  }

  /**
   * Records a new term, so that everything written before it is visible to this process: the record is stored after all of
   * it, and later lists wait until they reach it.
   *
   * @returns once the record is stored.
   * @throws FarmError `unavailable` when NATS does not answer.
   */
  async recordTerm(term: number, holder: { readonly id: string; readonly address: string }): Promise<void> {
    const { clock, names, patienceMillis } = this.#parts;
    const sequence = await publishOnce(this.#parts, {
      subject: names.terms,
      body: JSON.stringify({ v: 1, term, ...holder, at: clock.now() }),
      deadline: clock.monotonic() + patienceMillis,
    });
    if (sequence !== 'conflict') this.#lastSequence = Math.max(this.#lastSequence, sequence);
    // Nobody waits for it before leading, and the next term does it as well.
    this.#trimTerms().catch((error: unknown) =>
      this.#parts.log.debug({ err: error }, 'old records of terms were not removed'),
    );
  }

  async #trimTerms(): Promise<void> {
    const { clock, jsm, names, patienceMillis, stream } = this.#parts;
    const deadline = clock.monotonic() + patienceMillis;
    await ask(this.#parts, 'removing old records of terms', deadline, () =>
      jsm.streams.purge(stream, { filter: names.terms, keep: KEPT_TERMS }),
    );
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#tail.close();
    this.#parts.health.close();
    await Promise.all([...this.#lanes.values()].map((lane) => lane.settled()));
    await this.#parts.link.close();
  }

  #checkOpen(): void {
    if (this.#closing === undefined) return;
    throw new FarmError('failed_precondition', `journal ${this.#parts.stream} is closed`);
  }

  #lane(stream: string): Lane {
    const known = this.#lanes.get(stream);
    if (known) return known;
    const lane = new Lane(this.#parts, stream, this.#parts.names.subjectOf(stream));
    this.#lanes.set(stream, lane);
    return lane;
  }

  #mark(stream: string, mark: Head): void {
    if (mark.position >= (this.#marks.get(stream)?.position ?? 0)) this.#marks.set(stream, mark);
  }

  /** The best place to begin reading at a position. */
  #markBefore(stream: string, fromPosition: number): Head {
    const known = [this.#lanes.get(stream)?.head, this.#marks.get(stream)];
    const before = known.flatMap((mark) => (mark && mark.position < fromPosition ? mark : []));
    return before.reduce((best, mark) => (mark.sequence > best.sequence ? mark : best), { position: 0, sequence: 0 });
  }

  /** Whether the stream has that many events. A server that has just taken over may need a moment to know. */
  async #reaches(stream: string, position: number): Promise<boolean> {
    const { clock, patienceMillis } = this.#parts;
    const deadline = clock.monotonic() + patienceMillis;
    while ((await this.#head(stream)).position < position) {
      if (clock.monotonic() >= deadline) return false;
      await pause(clock, AGAIN_MILLIS);
    }
    return true;
  }

  /** Whether the beginning of a stream was removed: then only its snapshot can be restored to what it was. */
  async #isTrimmed(stream: string): Promise<boolean> {
    const { names, patienceMillis } = this.#parts;
    if ((await this.#head(stream)).sequence === 0) return false;
    const range = { subject: names.subjectOf(stream), from: 1, patienceMillis };
    for await (const { seq, data } of feed(this.#parts, range)) {
      return (storedAppends(stream, seq, data)[0]?.[0]?.position ?? 1) > 1;
    }
    return false;
  }

  #head(stream: string) {
    const { clock, names, patienceMillis } = this.#parts;
    const deadline = clock.monotonic() + patienceMillis;
    return readHead(this.#parts, this.#parts.stream, names.subjectOf(stream), deadline);
  }

  /** Removes the messages that end at or before the position; never the last one, which tells where the stream ends. */
  async #purge(stream: string, position: number, last: number): Promise<void> {
    const { clock, jsm, names, patienceMillis, stream: name } = this.#parts;
    const filter = names.subjectOf(stream);
    let keepFrom = last;
    for await (const message of feed(this.#parts, { subject: filter, from: 1, headersOnly: true, patienceMillis })) {
      if (message.seq < last && positionOf(message.headers, filter, message.seq) <= position) continue;
      keepFrom = message.seq;
      break;
    }
    const deadline = clock.monotonic() + patienceMillis;
    await ask(this.#parts, `removing old events of ${stream}`, deadline, () =>
      jsm.streams.purge(name, { filter, seq: keepFrom }),
    );
  }
}

function checkSize(stream: string, text: string, limit: number): void {
  const bytes = Buffer.byteLength(text);
  if (bytes <= limit) return;
  const message = `append to stream ${stream} has ${bytes} bytes; this NATS accepts at most ${limit} at a time`;
  throw new FarmError('invalid_argument', message, {
    field: 'data',
    hint: 'Raise max_payload on the NATS servers, or append less at a time.',
  });
}
