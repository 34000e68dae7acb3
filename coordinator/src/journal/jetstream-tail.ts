import type { Logger } from '@clipfarm/shared/log';
import type { JsMsg } from 'nats';
import { type FeedSource, follow } from './jetstream-feed.ts';
import { type Head, positionOf } from './jetstream-heads.ts';
import { storedAppends } from './jetstream-message.ts';
import type { JetStreamNames } from './jetstream-names.ts';
import type { JournalWatcher } from './journal.ts';
import type { ReadingPace } from './reading-pace.ts';
import { runApart } from './run-apart.ts';

/** The journal whose tail it is. */
export interface TailOwner {
  /** Highest sequence that is known; what was there before it is not told. */
  lastKnown(): number;
  /** Hears how far a stream of the journal was told. */
  passed(stream: string, head: Head): void;
}

/** Tells watchers of everything that is appended, by whatever process. It reads only while somebody watches. */
export class Tail {
  readonly #source: FeedSource;
  readonly #names: JetStreamNames;
  readonly #log: Logger;
  readonly #journal: TailOwner;
  readonly #pace: Pick<ReadingPace, 'read'>;
  readonly #watchers = new Set<JournalWatcher>();
  #reading: AbortController | undefined;

  constructor(
    source: FeedSource,
    names: JetStreamNames,
    log: Logger,
    pace: Pick<ReadingPace, 'read'>,
    journal: TailOwner,
  ) {
    this.#source = source;
    this.#names = names;
    this.#log = log;
    this.#pace = pace;
    this.#journal = journal;
  }

  watch(watcher: JournalWatcher): () => void {
    // An object of its own, so that the same function can watch twice and each registration ends by itself.
    const registered: JournalWatcher = (events) => watcher(events);
    this.#watchers.add(registered);
    if (this.#reading === undefined) {
      this.#reading = new AbortController();
      const range = {
        subject: this.#names.eventSubjects,
        from: this.#journal.lastKnown() + 1,
        signal: this.#reading.signal,
      };
      void follow(this.#source, range, this.#log, (message) => this.#tell(message));
    }
    return () => {
      this.#watchers.delete(registered);
      if (this.#watchers.size === 0) this.#stop();
    };
  }

  /** Tells nobody anything any more. */
  close(): void {
    this.#watchers.clear();
    this.#stop();
  }

  #stop(): void {
    this.#reading?.abort();
    this.#reading = undefined;
  }

  #tell(message: JsMsg): void {
    this.#pace.read(message.info.pending);
    const stream = this.#names.streamOf(message.subject);
    if (stream === null) return;
    for (const events of storedAppends(stream, message.seq, message.data)) {
      for (const watcher of [...this.#watchers]) runApart(() => watcher(events));
    }
    this.#journal.passed(stream, {
      position: positionOf(message.headers, message.subject, message.seq),
      sequence: message.seq,
    });
  }
}
