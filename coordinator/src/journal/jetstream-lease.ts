import type { Clock, Timer } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import type { Logger } from '@clipfarm/shared/log';
import type { KV, KvEntry } from 'nats';
import type { Leadership } from './election.ts';
import type { NatsLink } from './nats-link.ts';
import { pause } from './pause.ts';

/** Key of the leader's lease in its bucket. */
export const LEASE_KEY = 'coordinator';

/** What the key holds. */
export interface LeaseEntry {
  readonly id: string;
  readonly address: string;
  /** Of the election that the candidate took part in; no two processes share one. */
  readonly session: string;
  /** Missing in the entry that a candidate creates: there it is the entry's revision. */
  readonly term?: number;
}

/** What a lease is kept with. */
export interface LeaseParts {
  readonly link: Pick<NatsLink, 'connected'>;
  readonly kv: Pick<KV, 'get' | 'update' | 'delete'>;
  readonly clock: Clock;
  readonly log: Logger;
  /** Milliseconds after which an entry that is not renewed disappears. */
  readonly ttlMillis: number;
}

/** What an entry says. */
export function leaseEntryOf(entry: KvEntry): Required<LeaseEntry> {
  const said = entry.json<LeaseEntry>();
  return { ...said, term: said.term ?? entry.revision };
}

/**
 * The lead as its holder keeps it: renewed five times in its lifetime by revision, and given up in time when the renewals
 * stay without an answer. The holder counts the lifetime from before it sent a renewal, the server from when it stored it,
 * so the holder's ends first; the margin covers clocks of several servers that differ a little.
 */
export class Lease implements Leadership {
  readonly term: number;
  readonly #parts: LeaseParts;
  readonly #entry: LeaseEntry;
  readonly #lost = new AbortController();
  readonly #ended = new AbortController();
  readonly #renewing: Promise<void>;
  #revision: number;
  /** When it counts as run out, by the monotonic clock. */
  #deadline = 0;
  #timer: Timer | undefined;

  /** @param sentAt when the entry that was created was sent, by the monotonic clock */
  constructor(parts: LeaseParts, entry: LeaseEntry, revision: number, sentAt: number) {
    this.#parts = parts;
    this.term = revision;
    this.#entry = { ...entry, term: revision };
    this.#revision = revision;
    this.#arm(sentAt);
    this.#renewing = this.#renew();
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  holds(): boolean {
    if (this.#parts.clock.monotonic() >= this.#deadline) this.#runOut();
    return !this.#ended.signal.aborted;
  }

  async release(): Promise<void> {
    if (this.#ended.signal.aborted) return;
    this.#end();
    await this.#renewing;
    for (let attempts = 2; attempts > 0; attempts--) {
      try {
        await this.#parts.kv.delete(LEASE_KEY, { previousSeq: this.#revision });
        return;
      } catch (error) {
        this.#parts.log.debug({ err: error, term: this.term }, 'the lead was not given back');
        await this.#readBack();
      }
    }
    this.#parts.log.warn({ term: this.term }, 'the lead could not be given back; it runs out by itself');
  }

  #end(): void {
    this.#ended.abort();
    this.#timer?.cancel();
  }

  #lose(reason: string): void {
    if (this.#ended.signal.aborted) return;
    this.#end();
    this.#lost.abort(new FarmError('unavailable', `the lead of term ${this.term} is lost: ${reason}`));
  }

  #runOut(): void {
    this.#lose('NATS did not acknowledge its renewal in time');
  }

  #arm(sentAt: number): void {
    const { clock, ttlMillis } = this.#parts;
    const margin = ttlMillis / 10;
    this.#timer?.cancel();
    this.#deadline = sentAt + ttlMillis - margin;
    this.#timer = clock.setTimeout(() => this.#runOut(), this.#deadline - clock.monotonic());
  }

  async #renew(): Promise<void> {
    const { link, clock, ttlMillis } = this.#parts;
    const ended = this.#ended.signal;
    while (!ended.aborted) {
      await pause(clock, ttlMillis / 5, ended);
      for (let renewed = false; !renewed && !ended.aborted; ) {
        // Sent without a connection it would wait in the client, and extend the lease after it was given up.
        renewed = (await link.connected(ttlMillis, ended)) && !ended.aborted && (await this.#renewOnce());
        if (!renewed) await pause(clock, ttlMillis / 50, ended);
      }
    }
  }

  /** @returns whether the lease was renewed */
  async #renewOnce(): Promise<boolean> {
    const { kv, clock, log } = this.#parts;
    const sentAt = clock.monotonic();
    try {
      this.#revision = await kv.update(LEASE_KEY, JSON.stringify(this.#entry), this.#revision);
      if (!this.#ended.signal.aborted) this.#arm(sentAt);
      return true;
    } catch (error) {
      log.debug({ err: error, term: this.term }, 'the lead was not renewed');
      await this.#readBack();
      return false;
    }
  }

  /** A renewal whose answer was lost may be stored: then the entry is ours, with a revision that is not known yet. */
  async #readBack(): Promise<void> {
    try {
      const entry = await this.#parts.kv.get(LEASE_KEY);
      const holder = entry?.operation === 'PUT' ? leaseEntryOf(entry) : null;
      if (entry && holder?.session === this.#entry.session && holder.term === this.term)
        this.#revision = entry.revision;
      else this.#lose(holder ? `${holder.address} leads in term ${holder.term}` : 'it ran out');
    } catch (error) {
      this.#parts.log.debug({ err: error, term: this.term }, 'the lead could not be read back');
    }
  }
}
