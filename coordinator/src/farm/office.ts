import { FarmError } from '@clipfarm/shared/errors';
import type { Leader } from '../journal/election.ts';

/**
 * Whether this coordinator leads, and if not, who does. The term is the fence: without one nothing is changed here, and
 * every append and every message to an agent carries it.
 */
export class Office {
  readonly #current: () => Leader | null;
  readonly #trouble: () => string | null;
  #term: number | null = null;
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

  /** Whether this coordinator leads. */
  get leads(): boolean {
    return this.#term !== null;
  }

  /** The term that this coordinator leads in. @throws FarmError `unavailable` with the leader's address when it doesn't */
  get term(): number {
    if (this.#term !== null) return this.#term;
    const leader = this.#current();
    if (!leader) {
      const trouble = this.#trouble();
      const why = trouble === null ? '' : `: ${trouble}`;
      throw new FarmError('unavailable', `no coordinator leads just now${why}`, { hint: 'try again in a few seconds' });
    }
    throw new FarmError('unavailable', `this coordinator follows; the one at ${leader.address} leads`, {
      leader: leader.address,
      hint: `--coordinator ${leader.address}`,
    });
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

  /** Takes office; what must know everything waits until {@link taken}. */
  enter(term: number): void {
    this.#term = term;
    this.#taken.resolve();
    this.#taken = Promise.withResolvers<void>();
  }

  /** The farm is taken over. */
  taken(): void {
    this.#taken.resolve();
  }

  /** Leaves it: from here on everything that needs the term fails. */
  leave(): void {
    this.#term = null;
    this.#taken.resolve();
  }
}

function settled() {
  const none = Promise.withResolvers<void>();
  none.resolve();
  return none;
}
