import { FarmError } from '@clipfarm/shared/errors';
import type { JetStreamManager } from 'nats';
import { type Head, readHead } from './jetstream-heads.ts';
import { messageText, POSITION_HEADER } from './jetstream-message.ts';
import { type PublishParts, publishOnce } from './jetstream-publish.ts';
import { JournalConflict } from './journal.ts';
import type { AskParts } from './nats-ask.ts';
import type { NatsLink } from './nats-link.ts';

/** What a lane needs. */
export interface LaneParts extends PublishParts, AskParts {
  readonly link: NatsLink;
  readonly jsm: JetStreamManager;
}

/** An append that waits for its turn. */
export interface PendingAppend {
  readonly expectedPosition: number;
  /** Number of its events. */
  readonly count: number;
  /** JSON of them, as `appendText` makes it. */
  readonly text: string;
  /** When to give up, by the monotonic clock. */
  readonly deadline: number;
  readonly resolve: (position: number) => void;
  readonly reject: (error: unknown) => void;
}

/** Left of a message for its headers and what surrounds the appends, in bytes. */
const FRAME_BYTES = 2048;

/** Largest text of an append in bytes that the connected server accepts in a message. */
export function largestAppend(link: NatsLink): number {
  return (link.connection.info?.max_payload ?? 1024 * 1024) - FRAME_BYTES;
}

/** Appends that came while another was under way share a message up to this size in bytes. */
const BATCH_BYTES = 256 * 1024;

/** Other writers that are first so often mean that two coordinators believe to lead. */
const MAX_RACES = 5;

/**
 * The appends to one stream. One message is under way at a time, for two with the same expected sequence would conflict with
 * each other; what comes meanwhile is collected for the next.
 */
export class Lane {
  readonly #parts: LaneParts;
  readonly #stream: string;
  readonly #subject: string;
  #queue: PendingAppend[] = [];
  /** Undefined when it is not known: at the start and after an append whose fate is unknown. */
  #head: Head | undefined;
  #running: Promise<void> | undefined;

  constructor(parts: LaneParts, stream: string, subject: string) {
    this.#parts = parts;
    this.#stream = stream;
    this.#subject = subject;
  }

  /** Sequence of the last message that is known here, 0 if none. */
  get sequence(): number {
    return this.#head?.sequence ?? 0;
  }

  /** The end of the stream as it is known here; undefined when it is not. */
  get head(): Head | undefined {
    return this.#head;
  }

  /** Queues an append; its functions are called when its fate is known. */
  push(append: PendingAppend): void {
    this.#queue.push(append);
    this.#running ??= this.#run();
  }

  /** Resolves when nothing is queued or under way. */
  async settled(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    // What is handed in during the same turn shares the first message.
    await Promise.resolve();
    for (let races = 0; this.#queue.length > 0; ) {
      const batch = this.#take();
      try {
        races = (await this.#write(batch)) ? 0 : races + 1;
        if (races > MAX_RACES) throw new FarmError('unavailable', `another process writes to stream ${this.#stream}`);
      } catch (error) {
        this.#head = undefined;
        this.#drop(batch);
        for (const { reject } of batch) reject(error);
        races = 0;
      }
    }
    this.#running = undefined;
  }

  /** The first append and those after it that continue where the one before ends. They stay queued. */
  #take(): readonly PendingAppend[] {
    const batch: PendingAppend[] = [];
    const limit = Math.min(BATCH_BYTES, largestAppend(this.#parts.link));
    let bytes = 0;
    let next: number | undefined;
    for (const append of this.#queue) {
      bytes += Buffer.byteLength(append.text);
      if (next !== undefined && (append.expectedPosition !== next || bytes > limit)) break;
      batch.push(append);
      next = append.expectedPosition + append.count;
    }
    return batch;
  }

  #drop(batch: readonly PendingAppend[]): void {
    this.#queue = this.#queue.slice(batch.length);
  }

  /** @returns false when another writer was first, and the batch must be judged again */
  async #write(batch: readonly PendingAppend[]): Promise<boolean> {
    const first = batch[0];
    if (first === undefined) return true;
    const { expectedPosition, deadline } = first;
    const count = batch.reduce((sum, append) => sum + append.count, 0);
    // What is known may be behind what others wrote. Only a publication proves it, so without one it is read.
    if (this.#head?.position !== expectedPosition || count === 0) await this.#readHead(deadline);
    const head = this.#head ?? { position: 0, sequence: 0 };
    if (head.position !== expectedPosition) {
      this.#drop([first]);
      first.reject(new JournalConflict(this.#stream, expectedPosition, head.position));
      return true;
    }
    const position = expectedPosition + count;
    if (count > 0) {
      const texts = batch.filter((append) => append.count > 0).map(({ text }) => text);
      const sequence = await publishOnce(this.#parts, {
        subject: this.#subject,
        body: messageText(expectedPosition + 1, texts),
        headers: { [POSITION_HEADER]: String(position) },
        expectedSequence: head.sequence,
        deadline,
      });
      if (sequence === 'conflict') {
        this.#head = undefined;
        return false;
      }
      this.#head = { position, sequence };
    }
    this.#drop(batch);
    for (const append of batch) append.resolve(append.expectedPosition + append.count);
    return true;
  }

  async #readHead(deadline: number): Promise<void> {
    this.#head = await readHead(this.#parts, this.#parts.stream, this.#subject, deadline);
  }
}
