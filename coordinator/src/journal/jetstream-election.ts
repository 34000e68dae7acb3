import { randomUUID } from 'node:crypto';
import { FarmError } from '@clipfarm/shared/errors';
import type { JsMsg, KV } from 'nats';
import type { Candidate, Election, Leader, Leadership } from './election.ts';
import { type FeedSource, follow } from './jetstream-feed.ts';
import { LEASE_KEY, Lease, type LeaseEntry, type LeaseParts, leaseEntryOf } from './jetstream-lease.ts';
import { LeaderBoard } from './leader-board.ts';
import { isOvertaken, natsFarmError } from './nats-error.ts';
import { pause } from './pause.ts';
import { Turns } from './turns.ts';

/** What an election in JetStream is made of. */
export interface JetStreamElectionParts extends LeaseParts {
  readonly kv: KV;
  /** The stream behind the bucket of the lease. */
  readonly source: FeedSource;
  /** Subject of the lease's key. */
  readonly subject: string;
  /** Sequence up to which that stream reached when it was opened. */
  readonly lastSequence: number;
  /** Hears of everything that failed. */
  readonly failed: (error: unknown) => void;
  /** Called for a candidate that holds the lease, before it is told. When it fails, the lease is given back. */
  readonly onElected: (term: number, candidate: Candidate) => Promise<void>;
}

/**
 * An election by a key that only one can create. It disappears when its holder does not renew it; its revision at creation
 * is the term. That it was deleted is heard at once; that it ran out is heard from nobody, so candidates look.
 */
export class JetStreamElection implements Election {
  readonly #parts: JetStreamElectionParts;
  readonly #session = randomUUID();
  readonly #board = new LeaderBoard();
  readonly #turns = new Turns();
  readonly #closed = new AbortController();
  readonly #following: Promise<void>;
  #lease: Lease | undefined;
  /** Highest revision of the key that was seen: what is older is no news. */
  #revision: number;
  /** When the key was last heard to be renewed, by the monotonic clock. */
  #heardAt: number;
  /** Ends a candidate's wait. */
  #news = new AbortController();
  #reachable = true;

  constructor(parts: JetStreamElectionParts) {
    const { source, subject, lastSequence, clock, log } = parts;
    this.#parts = parts;
    this.#revision = lastSequence;
    this.#heardAt = clock.monotonic();
    const range = { subject, from: lastSequence + 1, signal: this.#closed.signal };
    this.#following = follow(source, range, log, (message) => this.#hear(message));
  }

  async campaign(candidate: Candidate, signal: AbortSignal): Promise<Leadership> {
    const over = AbortSignal.any([signal, this.#closed.signal]);
    const endTurn = await this.#turns.take(over);
    try {
      const lease = await this.#win(candidate, over);
      const { term, lost } = lease;
      const end = () => {
        this.#board.vacate(term, this.#parts.clock.monotonic());
        endTurn();
      };
      lost.addEventListener('abort', end, { once: true });
      const release = async () => {
        await lease.release();
        end();
      };
      return { term, lost, holds: () => lease.holds(), release };
    } catch (error) {
      endTurn();
      throw error;
    }
  }

  current(): Leader | null {
    return this.#board.current();
  }

  vacantSince(): number | null {
    return this.#board.vacantSince();
  }

  onChange(handler: (leader: Leader | null) => void): () => void {
    return this.#board.onChange(handler);
  }

  async close(): Promise<void> {
    this.#closed.abort(new FarmError('failed_precondition', 'the election is closed'));
    await this.#lease?.release();
    await this.#following;
    this.#board.set(null);
  }

  async #win(candidate: Candidate, over: AbortSignal): Promise<Lease> {
    while (true) {
      const lease = await this.#attempt(candidate, over);
      if (over.aborted) {
        await lease?.release();
        throw over.reason;
      }
      if (lease) return lease;
      this.#news = new AbortController();
      await pause(this.#parts.clock, this.#pollMillis(), AbortSignal.any([over, this.#news.signal]));
    }
  }

  /** @returns the lease, null when another one has it or NATS does not answer */
  async #attempt(candidate: Candidate, over: AbortSignal): Promise<Lease | null> {
    try {
      const found = await this.#look();
      if (found) return null;
      const entry: LeaseEntry = { ...candidate, session: this.#session };
      const sentAt = this.#parts.clock.monotonic();
      const revision = await this.#parts.kv.create(LEASE_KEY, JSON.stringify(entry));
      const lease = new Lease(this.#parts, entry, revision, sentAt);
      this.#lease = lease;
      await this.#takeOffice(lease, candidate, over);
      return lease.lost.aborted ? null : lease;
    } catch (error) {
      this.#report(error);
      return null;
    }
  }

  async #takeOffice(lease: Lease, candidate: Candidate, over: AbortSignal): Promise<void> {
    const { term } = lease;
    try {
      await this.#parts.onElected(term, candidate);
      if (!over.aborted && !lease.lost.aborted) this.#board.set({ ...candidate, term });
    } catch (error) {
      await lease.release();
      throw error;
    }
  }

  /** Who has the lease; null when nobody does. */
  async #look(): Promise<Leader | null> {
    const { kv } = this.#parts;
    const entry = await kv.get(LEASE_KEY);
    this.#reachable = true;
    if (entry?.operation !== 'PUT') {
      this.#board.set(null, this.#heardAt);
      return null;
    }
    const holder = leaseEntryOf(entry);
    if (holder.session === this.#session) {
      // Left behind by a request of ours that was stored although its answer was lost.
      await kv.delete(LEASE_KEY, { previousSeq: entry.revision });
      return null;
    }
    return this.#note(holder, entry.revision);
  }

  #hear(message: JsMsg): void {
    if (message.seq <= this.#revision) return;
    if (message.headers?.get('KV-Operation')) {
      this.#revision = message.seq;
      this.#board.set(null, this.#parts.clock.monotonic());
      this.#news.abort();
      return;
    }
    const holder = message.json<LeaseEntry>();
    this.#note({ ...holder, term: holder.term ?? message.seq }, message.seq);
  }

  #note({ id, address, term }: Required<LeaseEntry>, revision: number): Leader {
    const before = this.#heardAt;
    if (revision > this.#revision) {
      this.#revision = revision;
      this.#heardAt = this.#parts.clock.monotonic();
    }
    const leader = { id, address, term };
    this.#board.set(leader, before);
    return leader;
  }

  /** A lease that was not renewed for two turns is likely to run out soon. */
  #pollMillis(): number {
    const { clock, ttlMillis } = this.#parts;
    const quiet = clock.monotonic() - this.#heardAt > (2 * ttlMillis) / 5;
    return quiet ? ttlMillis / 20 : ttlMillis / 4;
  }

  /** Once for each time that NATS can't be reached; who was second in a race is no news. */
  #report(error: unknown): void {
    const { log } = this.#parts;
    if (isOvertaken(error)) {
      log.debug('another coordinator was first to run for office');
      return;
    }
    this.#parts.failed(error);
    const farmError = natsFarmError(error, 'running for office');
    if (this.#reachable) log.warn({ err: farmError }, 'not elected; trying again');
    else log.debug({ err: farmError }, 'not elected; trying again');
    this.#reachable = false;
  }
}
