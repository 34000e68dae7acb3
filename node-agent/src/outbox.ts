import { backoffMillis } from '@clipfarm/shared/backoff';
import type { Clock, Timer } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import type { Logger } from '@clipfarm/shared/log';
import { describe, type Spool, type SpoolEntry } from './spool.ts';

/** What became of a spooled file. `corrupt`: it was damaged on this host's disk. */
export type OutboxVerdict = 'committed' | 'not_wanted' | 'rejected' | 'corrupt';

/** What an {@link Outbox} works with. */
export interface OutboxOptions {
  readonly spool: Spool;
  /** Brings a file to the coordinator; rejects with FarmError. */
  readonly upload: (entry: SpoolEntry, signal: AbortSignal) => Promise<void>;
  /** Tells the coordinator that a file is uploaded; false when there is no link. */
  readonly offer: (entry: SpoolEntry) => boolean;
  /** A file was judged and left the spool. */
  readonly onVerdict: (entry: SpoolEntry, verdict: OutboxVerdict, reason: string) => void;
  readonly clock: Clock;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  readonly log: Logger;
}

/** Which chunk: a lease renders each of its clips once. */
export interface ChunkKey {
  readonly leaseId: string;
  readonly clip: number;
}

interface Item {
  readonly entry: SpoolEntry;
  /**
   * `waiting`: to be uploaded from `due` on. `uploaded`: to be offered. `offered`: to be offered again at `due`. `judged`: to
   * be deleted.
   */
  phase: 'waiting' | 'uploading' | 'uploaded' | 'offered' | 'judged';
  /** Monotonic milliseconds. */
  due: number;
  failures: number;
}

/** Uploads at a time; more would only make the first chunk later. */
const UPLOADS = 2;

/** Milliseconds after which an offer that nobody answered is repeated. */
const REOFFER_MILLIS = 30_000;

/** Connected milliseconds without a verdict after which a lease no longer waits for its chunks. */
const PATIENCE_MILLIS = 20_000;

const RETRY = { firstMillis: 500, maxMillis: 30_000 };

/** Refusals that repeating the upload can't change; the answer to the offer says what is to become of the file. */
const final: ReadonlySet<string> = new Set([
  'invalid_argument',
  'not_found',
  'conflict',
  'failed_precondition',
  'permission_denied',
]);

/**
 * Hands the spool in: uploads each file, offers it, and deletes it once the coordinator has judged it. Everything is
 * repeated after a reconnect, and nothing is forgotten in between. Files of another farm than the one that leads are left
 * alone: it would not want them.
 */
export class Outbox {
  readonly #options: OutboxOptions;
  readonly #items = new Map<number, Item>();
  readonly #watchers = new Set<() => void>();
  #session: AbortController | null = null;
  #timer: Timer | null = null;

  constructor(options: OutboxOptions) {
    this.#options = options;
    for (const entry of options.spool.entries) this.#put(entry);
  }

  /** Number of files that have not left the spool yet, those of other farms left out. */
  get size(): number {
    return this.#items.size;
  }

  /** The link is up, to the farm that the spool serves: everything uploaded is offered, the rest uploaded. */
  connected(): void {
    this.#session = new AbortController();
    for (const entry of this.#options.spool.entries) {
      if (this.#options.spool.isForeign(entry)) this.#items.delete(entry.sequence);
      else if (!this.#items.has(entry.sequence)) this.#put(entry);
    }
    for (const item of this.#items.values()) if (item.phase === 'offered') item.phase = 'uploaded';
    this.#changed();
  }

  /** The link is down: uploads stop, nothing is offered. */
  disconnected(): void {
    this.#session?.abort(new FarmError('unavailable', 'the link to the coordinator is down'));
    this.#session = null;
    this.#timer?.cancel();
    this.#changed();
  }

  /** Takes a file that was just spooled. */
  add(entry: SpoolEntry): void {
    // The last clip of a lease may be done after its farm was left.
    if (!this.#options.spool.isForeign(entry)) this.#put(entry);
    this.#changed();
  }

  /** The coordinator can't take a chunk now. */
  tryAgain(key: ChunkKey, reason: string): void {
    for (const item of this.#find(key)) {
      this.#options.log.warn({ ...fieldsOf(item.entry), reason }, 'the coordinator asks for the upload again, later');
      this.#retry(item);
    }
    this.#changed();
  }

  /** The coordinator has judged a chunk; it leaves the spool. One that is not there any more is no fault. */
  async judged(key: ChunkKey, verdict: OutboxVerdict, reason: string): Promise<void> {
    await Promise.all(this.#find(key).map((item) => this.#settle(item, verdict, reason)));
  }

  /** The coordinator has judged the anchor of a job. */
  async anchorJudged(jobId: string, verdict: OutboxVerdict, reason: string): Promise<void> {
    const anchors = [...this.#items.values()].filter(
      ({ entry: { manifest } }) => manifest.kind === 'anchor' && manifest.jobId === jobId,
    );
    await Promise.all(anchors.map((item) => this.#settle(item, verdict, reason)));
  }

  /**
   * Resolves when every file of a lease is judged and has left the spool, or when the coordinator, although connected,
   * brought nothing new for 20 seconds. Without a link it waits for one. Rejects with the signal's reason.
   */
  async whenSettled(leaseId: string, signal: AbortSignal): Promise<void> {
    const files = () => [...this.#items.values()].filter((item) => item.entry.manifest.leaseId === leaseId).length;
    await this.#whenDrained(files, signal, PATIENCE_MILLIS);
  }

  /** Like {@link whenSettled} for the whole spool; also ends after `patienceMillis` without a link. */
  async whenEmpty(patienceMillis: number, signal: AbortSignal): Promise<void> {
    await this.#whenDrained(() => this.#items.size, signal, patienceMillis, true);
  }

  async #whenDrained(count: () => number, signal: AbortSignal, patience: number, offline = false): Promise<void> {
    const { clock } = this.#options;
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const seen: { left: number; session: AbortController | null; timer: Timer | null } = {
      left: Number.POSITIVE_INFINITY,
      session: null,
      timer: null,
    };
    const look = (): void => {
      const left = count();
      if (left === 0) resolve();
      if (left === 0 || (left === seen.left && seen.session === this.#session)) return;
      seen.timer?.cancel();
      seen.left = left;
      seen.session = this.#session;
      seen.timer = seen.session === null && !offline ? null : clock.setTimeout(resolve, patience);
    };
    const stop = (): void => reject(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    this.#watchers.add(look);
    try {
      look();
      await promise;
    } finally {
      this.#watchers.delete(look);
      signal.removeEventListener('abort', stop);
      seen.timer?.cancel();
    }
  }

  #put(entry: SpoolEntry): void {
    this.#items.set(entry.sequence, { entry, phase: 'waiting', due: 0, failures: 0 });
  }

  #find({ leaseId, clip }: ChunkKey): readonly Item[] {
    return [...this.#items.values()].filter(
      ({ phase, entry: { manifest } }) =>
        phase !== 'judged' && manifest.kind === 'chunk' && manifest.leaseId === leaseId && manifest.clip === clip,
    );
  }

  #changed(): void {
    this.#pump();
    for (const look of [...this.#watchers]) look();
  }

  /** Starts what is due and sets the timer for what comes next. */
  #pump(): void {
    this.#timer?.cancel();
    const session = this.#session;
    if (session === null) return;
    const now = this.#options.clock.monotonic();
    let uploading = [...this.#items.values()].filter((item) => item.phase === 'uploading').length;
    let next = Number.POSITIVE_INFINITY;
    for (const item of this.#items.values()) {
      if (item.phase === 'offered' && item.due <= now) item.phase = 'uploaded';
      if (item.phase === 'uploaded' && !this.#anchorFirst(item)) this.#offer(item, now);
      if (item.phase === 'waiting' && item.due <= now && uploading < UPLOADS) {
        uploading += 1;
        this.#upload(item, session.signal);
      } else if (item.phase === 'offered' || (item.phase === 'waiting' && item.due > now)) {
        next = Math.min(next, item.due);
      }
    }
    if (next < Number.POSITIVE_INFINITY) {
      this.#timer = this.#options.clock.setTimeout(() => this.#changed(), next - now);
    }
  }

  /** A clip must not be committed before the anchor that was made from it: otherwise nobody would make it again. */
  #anchorFirst({ entry: { sequence, manifest } }: Item): boolean {
    if (manifest.kind === 'anchor') return false;
    return [...this.#items.values()].some(
      ({ entry, phase }) =>
        entry.manifest.kind === 'anchor' &&
        entry.manifest.jobId === manifest.jobId &&
        entry.sequence < sequence &&
        phase !== 'offered' &&
        phase !== 'judged',
    );
  }

  #offer(item: Item, now: number): void {
    if (!this.#options.offer(item.entry)) return;
    item.phase = 'offered';
    item.due = now + REOFFER_MILLIS;
  }

  #upload(item: Item, signal: AbortSignal): void {
    item.phase = 'uploading';
    const { entry } = item;
    const { upload, spool, log } = this.#options;
    upload(entry, signal)
      .catch(async (cause: unknown) => {
        if (signal.aborted) throw cause;
        if (item.phase !== 'uploading') return;
        if (!(await spool.intact(entry))) {
          log.error(fieldsOf(entry), `the spooled file of ${describe(entry.manifest)} is damaged`);
          await this.#settle(item, 'corrupt', 'the file was damaged on the disk of this host');
          return;
        }
        const error = FarmError.from(cause);
        log.warn({ ...fieldsOf(entry), reason: error.message }, 'upload failed');
        if (!final.has(error.code)) throw error;
      })
      .then(
        () => {
          if (item.phase === 'uploading') item.phase = 'uploaded';
        },
        () => {
          if (item.phase !== 'uploading') return;
          if (signal.aborted) item.phase = 'waiting';
          else this.#retry(item);
        },
      )
      .finally(() => this.#changed());
  }

  #retry(item: Item): void {
    item.failures += 1;
    item.phase = 'waiting';
    item.due = this.#options.clock.monotonic() + backoffMillis(item.failures, this.#options.random(), RETRY);
  }

  async #settle(item: Item, verdict: OutboxVerdict, reason: string): Promise<void> {
    if (item.phase === 'judged') return;
    item.phase = 'judged';
    const { entry } = item;
    try {
      await this.#options.spool.remove(entry);
    } catch (error) {
      this.#options.log.warn({ err: error, ...fieldsOf(entry) }, 'a judged file could not be deleted from the spool');
    }
    // Not before: whoever waits for the spool may end this process, and a file that is still there would come again.
    this.#items.delete(entry.sequence);
    this.#options.onVerdict(entry, verdict, reason);
    this.#changed();
  }
}

/** Fields of log lines about a spooled file. */
export function fieldsOf({ manifest }: SpoolEntry): Readonly<Record<string, string | number>> {
  const { jobId, leaseId } = manifest;
  return { job_id: jobId, lease_id: leaseId, ...(manifest.kind === 'chunk' ? { clip: manifest.clip } : {}) };
}
