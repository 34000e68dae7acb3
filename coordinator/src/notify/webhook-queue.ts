import { type Backoff, backoffMillis } from '@clipfarm/shared/backoff';
import type { Clock, Timer } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import type { Logger } from '@clipfarm/shared/log';
import { isOver } from '../core/decide.ts';
import { isFinal } from '../core/notice-type.ts';
import type { Jobs } from '../farm/jobs.ts';
import type { Journal } from '../journal/journal.ts';
import { CursorRecorder } from './cursor-recorder.ts';
import { DeliveryLog } from './delivery-log.ts';
import { cursorsFromNowOn, toldUpTo } from './delivery-state.ts';
import type { JobNotice } from './job-notices.ts';
import { noticesAfter, type PlacedNotice } from './notice-history.ts';
import type { WebhookEndpoint } from './webhook-endpoint.ts';
import type { Delivery, PostAnswer } from './webhook-post.ts';

/** What became of an attempt; `expired`: given up, counted once for each notice, or once for all of a job's. */
export type WebhookOutcome = PostAnswer['outcome'] | 'expired';

/** What webhooks work with. */
export interface WebhookParts {
  readonly journal: Journal;
  readonly jobs: Pick<Jobs, 'all' | 'get'>;
  readonly clock: Clock;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  readonly post: (
    endpoint: WebhookEndpoint,
    delivery: Delivery,
    now: number,
    signal: AbortSignal,
  ) => Promise<PostAnswer>;
  readonly count: (outcome: WebhookOutcome) => void;
  readonly log: Logger;
}

/** A job of which something is to be told. There is none for any other job. */
interface Turn {
  readonly jobId: string;
  /** The next notices, oldest first; at most {@link KEPT_NOTICES}. */
  notices: PlacedNotice[];
  /** Everything up to here is in `notices`, or was before them. */
  readTo: number;
  /** Position up to which there is something to look at. */
  known: number;
  /** Times in a row that its first notice could not be delivered. */
  failures: number;
  /** It waits for this after a failure. */
  timer: Timer | null;
}

/** Waiting after an attempt that failed. */
const BACKOFF: Backoff = { firstMillis: 1000, maxMillis: 600_000 };

/** A notice older than this is given up when it, or the endpoint, could not be reached. */
const GIVE_UP_MILLIS = 24 * 3_600_000;

/** Failures in a row after which it is said: one that loses a connection now and then is no news. */
const SAID_AFTER = 3;

/** Posts at the same time to one endpoint. */
const MAX_POSTS = 4;

/** Notices of one job in memory; the rest is read from its history when it is their turn. */
const KEPT_NOTICES = 8;

/** Pause after the journal could not be read or written. */
const JOURNAL_AGAIN_MILLIS = 5000;

/**
 * Delivers notices to one endpoint, for one term of a leader. Each job is told in order, one notice at a time; jobs take
 * turns. What can't be delivered stays in the journal, not here: memory is bounded by the jobs that have something left to
 * be told, a few kilobytes each, and those are given up after a day.
 */
export class WebhookQueue {
  readonly #parts: WebhookParts;
  readonly #endpoint: WebhookEndpoint;
  readonly #term: number;
  /** Jobs submitted before are old for an endpoint that is new; wall-clock milliseconds. */
  readonly #since: number;
  readonly #log: Logger;
  readonly #deliveries: DeliveryLog;
  readonly #recorder: CursorRecorder;
  readonly #turns = new Map<string, Turn>();
  /** Turns that could be served now, in their order. */
  readonly #ready = new Set<Turn>();
  readonly #serving = new Set<Promise<void>>();
  readonly #stop = new AbortController();
  /** Times in a row that the endpoint could not be reached. */
  #failures = 0;
  /** Nothing is served until it ends. */
  #pause: Timer | null = null;
  #loaded = false;

  constructor(parts: WebhookParts, endpoint: WebhookEndpoint, term: number, since: number) {
    this.#parts = parts;
    this.#endpoint = endpoint;
    this.#term = term;
    this.#since = since;
    this.#log = parts.log.child({ endpoint: endpoint.origin, endpoint_id: endpoint.id });
    this.#deliveries = new DeliveryLog(parts.journal, endpoint.id);
    this.#recorder = new CursorRecorder(this.#deliveries, term, parts.clock, this.#log);
  }

  /** Jobs of which something is to be told. */
  get pending(): number {
    return this.#turns.size;
  }

  /** Whether the endpoint could not be reached the last time. */
  get failing(): boolean {
    return this.#failures > 0;
  }

  /** Takes up what was left. */
  start(): void {
    this.#serve(() => this.#load());
  }

  /** Tells a notice after all earlier ones of its job. */
  tell({ position, notice }: PlacedNotice): void {
    // Until then nothing is missed: loading looks at every job.
    if (!this.#loaded || this.#stop.signal.aborted) return;
    const turn = this.#turns.get(notice.job.id) ?? this.#newTurn(notice.job.id, position - 1);
    if (position <= turn.known) return;
    const next = turn.readTo === turn.known && turn.notices.length < KEPT_NOTICES;
    if (next) {
      turn.notices.push({ position, notice });
      turn.readTo = position;
    }
    turn.known = position;
    this.#pump();
  }

  /** Ends attempts in hand, records what is delivered, and forgets the rest: the next leader takes it up. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#pause?.cancel();
    for (const turn of this.#turns.values()) turn.timer?.cancel();
    await Promise.all(this.#serving);
    await this.#recorder.close();
    this.#turns.clear();
  }

  async #load(): Promise<void> {
    const { jobs, clock } = this.#parts;
    try {
      await this.#deliveries.load();
      const meta = { at: clock.now(), term: this.#term };
      if (this.#deliveries.isNew) {
        await this.#deliveries.record(cursorsFromNowOn(jobs.all(), this.#since), meta);
        this.#log.info('webhook endpoint is new: it hears of what happens from now on');
      } else {
        await this.#deliveries.open(meta);
      }
    } catch (error) {
      this.#journalFailed(error, 'webhooks wait: what they delivered before could not be read', () => this.start());
      return;
    }
    this.#loaded = true;
    for (const job of jobs.all()) {
      const told = toldUpTo(this.#deliveries.state, job);
      if (told !== null) this.#newTurn(job.definition.jobId, told).known = job.revision;
    }
  }

  #newTurn(jobId: string, told: number): Turn {
    const turn: Turn = { jobId, notices: [], readTo: told, known: told, failures: 0, timer: null };
    this.#turns.set(jobId, turn);
    this.#ready.add(turn);
    return turn;
  }

  /** Serves who is ready, as far as the endpoint can take it. */
  #pump(): void {
    while (this.#pause === null && !this.#stop.signal.aborted) {
      // One is enough to find out whether the endpoint is back.
      if (this.#serving.size >= (this.failing ? 1 : MAX_POSTS)) return;
      const [turn] = this.#ready;
      if (!turn) return;
      this.#ready.delete(turn);
      this.#serve(() => this.#take(turn));
    }
  }

  #serve(work: () => Promise<void>): void {
    const served = work().finally(() => {
      this.#serving.delete(served);
      this.#pump();
    });
    this.#serving.add(served);
  }

  /** Tells a job's next notice. */
  async #take(turn: Turn): Promise<void> {
    const { clock, post, count } = this.#parts;
    const { signal } = this.#stop;
    if (turn.notices.length === 0 && turn.readTo < turn.known) {
      try {
        await this.#read(turn);
      } catch (error) {
        this.#ready.add(turn);
        this.#journalFailed(error, 'webhooks wait: the history of a job could not be read', () => this.#pump());
        return;
      }
    }
    const next = turn.notices[0];
    if (next === undefined) {
      // Nothing more to tell for now, or there is since the reading began.
      if (turn.readTo === turn.known) this.#turns.delete(turn.jobId);
      else this.#ready.add(turn);
      return;
    }
    if ((this.failing || turn.failures > 0) && clock.now() - Date.parse(next.notice.at) > GIVE_UP_MILLIS) {
      this.#log.error({ job_id: turn.jobId, delivery: next.notice.id }, 'webhook given up after a day');
      count('expired');
      this.#told(turn, next);
      return;
    }
    const body = JSON.stringify(next.notice);
    const answer = await post(this.#endpoint, { id: next.notice.id, body }, clock.now(), signal);
    if (answer.outcome !== 'delivered' && signal.aborted) return;
    count(answer.outcome);
    if (answer.outcome === 'delivered') this.#delivered(turn, next);
    else if (answer.outcome === 'refused') this.#refused(turn, next.notice, answer.reason);
    else this.#unreachable(turn, answer.reason, answer.waitMillis ?? 0);
  }

  async #read(turn: Turn): Promise<void> {
    const { known } = turn;
    if (!this.#parts.jobs.get(turn.jobId)) {
      // It has expired, and its history with it.
      turn.readTo = turn.known;
      return;
    }
    const history = { journal: this.#parts.journal, jobId: turn.jobId, signal: this.#stop.signal };
    const { notices, end } = await noticesAfter(history, turn.readTo, KEPT_NOTICES);
    if (notices.length < KEPT_NOTICES && end < known) {
      throw new FarmError('unavailable', `the journal gave ${end} of ${known} events of job ${turn.jobId}`);
    }
    turn.notices.push(...notices);
    turn.readTo = end;
    turn.known = Math.max(turn.known, end);
  }

  /** The endpoint is there, whatever it says. */
  #answered(): void {
    if (this.#failures >= SAID_AFTER) this.#log.info({ pending: this.pending }, 'webhook endpoint answers again');
    this.#failures = 0;
  }

  #delivered(turn: Turn, placed: PlacedNotice): void {
    this.#answered();
    this.#log.debug({ job_id: turn.jobId, delivery: placed.notice.id, type: placed.notice.type }, 'webhook delivered');
    this.#told(turn, placed);
  }

  /** Goes on to the job's next notice, when others had their turn. */
  #told(turn: Turn, { position, notice }: PlacedNotice): void {
    turn.notices.shift();
    turn.failures = 0;
    this.#ready.add(turn);
    this.#recorder.note(turn.jobId, { position, done: isFinal(notice.type) });
  }

  #refused(turn: Turn, { id }: JobNotice, reason: string): void {
    this.#answered();
    const fields = { job_id: turn.jobId, delivery: id, reason };
    if (turn.failures === 0) this.#log.warn(fields, 'webhook refused; it is repeated for a day');
    else this.#log.debug({ ...fields, failures: turn.failures }, 'webhook refused again');
    this.#repeat(turn);
  }

  #unreachable(turn: Turn, reason: string, waitMillis: number): void {
    // By itself, too: should it be this notice that the endpoint can't bear, the others show it.
    this.#repeat(turn);
    // Posts that ran at the same time met the same trouble; it counts once.
    if (this.#pause !== null) return;
    this.#failures += 1;
    const fields = { reason, failures: this.#failures };
    if (this.#failures === SAID_AFTER) this.#log.warn(fields, 'webhook endpoint does not answer; its notices wait');
    else this.#log.debug(fields, 'webhook endpoint did not answer');
    // A single one is no sign of a dead endpoint.
    if (this.#failures === 1 && waitMillis === 0) return;
    const wait = Math.max(waitMillis, backoffMillis(this.#failures, this.#parts.random(), BACKOFF));
    this.#pauseFor(Math.min(wait, BACKOFF.maxMillis), () => this.#pump());
    this.#giveUpOldJobs();
  }

  /** Posts a job's first notice again, some time later. */
  #repeat(turn: Turn): void {
    turn.failures += 1;
    turn.timer = this.#parts.clock.setTimeout(
      () => {
        turn.timer = null;
        this.#ready.add(turn);
        this.#pump();
      },
      backoffMillis(turn.failures, this.#parts.random(), BACKOFF),
    );
  }

  /** Bounds what waits for a dead endpoint to the jobs of a day. */
  #giveUpOldJobs(): void {
    const before = this.#parts.clock.now() - GIVE_UP_MILLIS;
    for (const turn of this.#turns.values()) {
      const job = this.#parts.jobs.get(turn.jobId);
      const inHand = turn.timer === null && !this.#ready.has(turn);
      if (inHand || !job || !isOver(job) || job.finishedAt === null || job.finishedAt >= before) continue;
      this.#log.error({ job_id: turn.jobId }, 'webhooks of a job given up after a day');
      this.#parts.count('expired');
      turn.timer?.cancel();
      this.#ready.delete(turn);
      this.#turns.delete(turn.jobId);
      this.#recorder.note(turn.jobId, { position: job.revision, done: true });
    }
  }

  #journalFailed(error: unknown, what: string, again: () => void): void {
    if (this.#stop.signal.aborted || this.#pause !== null) return;
    this.#log.warn({ err: FarmError.from(error) }, what);
    this.#pauseFor(JOURNAL_AGAIN_MILLIS, again);
  }

  #pauseFor(millis: number, then: () => void): void {
    this.#pause = this.#parts.clock.setTimeout(() => {
      this.#pause = null;
      then();
    }, millis);
  }
}
