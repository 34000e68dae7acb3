import { FarmError } from '@clipfarm/shared/errors';
import type { Leader } from '../journal/election.ts';
import { JOURNAL_HINT } from '../journal/journal-trouble.ts';

/**
 * Whether this coordinator leads, and if not, who does. The term is the fence: without one nothing is changed here, and
 * every append and every message to an agent carries it.
 */
export class Office {
  readonly #current: () => Leader | null;
  readonly #trouble: () => string | null;
  #held: { readonly term: number; readonly holds: () => boolean } | null = null;
  /** Settled unless the farm is being taken over. */
  #taken: { readonly promise: Promise<void>; readonly resolve: () => void } = settled();

  /**
   * @param current who leads, as far as the election knows
   * @param trouble what may keep anyone from leading, in words
   */
  constructor(current: () => Leader | null, trouble: () => string | null = () => null) {
    this.#current = current;
    this.#trouble = trouble;
  }

  /** Whether this coordinator leads: its lease has not run out, also where it stood still and no timer has said so yet. */
  get leads(): boolean {
    return this.termInOffice !== null;
  }

  /** The term that this coordinator leads in, null when it doesn't. */
  get termInOffice(): number | null {
    return this.#held?.holds() ? this.#held.term : null;
  }

  /** The term that this coordinator leads in. @throws FarmError `unavailable` with the leader's address when it doesn't */
  get term(): number {
    const term = this.termInOffice;
    if (term !== null) return term;
    const leader = this.#current();
    if (!leader) throw nobodyLeads(this.#trouble());
    throw new FarmError('unavailable', `this coordinator follows; the one at ${leader.address} leads`, {
      leader: leader.address,
      hint: `--coordinator ${leader.address}`,
    });
  }

  /**
   * Why what is known here may be outdated: nobody leads, or this coordinator follows and can't follow. Null where it is not.
   */
  get staleReason(): string | null {
    if (this.leads) return null;
    const trouble = this.#trouble();
    if (!this.#current()) return nobodyLeads(trouble).message;
    // Whether the leader that it knows still leads, it could not hear either.
    return trouble === null ? null : `this coordinator follows, and can't: ${trouble}`;
  }

  /** @throws FarmError as {@link term} does, where only the leader may answer */
  requireLead(): void {
    void this.term;
  }

  /**
   * Waits while the farm is being taken over: until then this coordinator may not know what an earlier leader has accepted.
   *
   * @throws FarmError as {@link term} does, where only the leader may answer
   */
  async whenTaken(): Promise<void> {
    await this.#taken.promise;
    this.requireLead();
  }

  /**
   * Takes office; what must know everything waits until {@link taken}.
   *
   * @param holds whether the lead is held at this moment
   */
  enter(term: number, holds: () => boolean = () => true): void {
    this.#held = { term, holds };
    this.#taken.resolve();
    this.#taken = Promise.withResolvers<void>();
  }

  /** The farm is taken over. */
  taken(): void {
    this.#taken.resolve();
  }

  /** Leaves it: from here on everything that needs the term fails. @returns false when it was not in office */
  leave(): boolean {
    const wasIn = this.#held !== null;
    this.#held = null;
    this.#taken.resolve();
    return wasIn;
  }
}

function nobodyLeads(trouble: string | null): FarmError {
  const why = trouble === null ? '' : `: ${trouble}`;
  return new FarmError('unavailable', `no coordinator leads just now${why}`, {
    hint: trouble === null ? 'Try again in a few seconds.' : JOURNAL_HINT,
  });
}

function settled() {
  const none = Promise.withResolvers<void>();
  none.resolve();
  return none;
}
