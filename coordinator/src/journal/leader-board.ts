import type { Leader } from './election.ts';

/** Who leads, as far as known here, and those who want to hear of changes. */
export class LeaderBoard {
  #leader: Leader | null = null;
  #vacantSince: number | null = null;
  readonly #handlers = new Set<(leader: Leader | null) => void>();

  current(): Leader | null {
    return this.#leader;
  }

  /** See {@link Election.vacantSince}. */
  vacantSince(): number | null {
    return this.#vacantSince;
  }

  /**
   * Notes the leader; handlers are called when it is another one, another term or another address.
   *
   * @param lastSignAt when the one known until now gave its last sign, by the monotonic clock
   */
  set(leader: Leader | null, lastSignAt: number | null = null): void {
    const known = this.#leader;
    if (known?.term === leader?.term && known?.id === leader?.id && known?.address === leader?.address) return;
    if (known) this.#vacantSince = lastSignAt;
    this.#leader = leader;
    for (const handler of [...this.#handlers]) handler(leader);
  }

  /** Notes that the leader of this term leads no more; does nothing when another one is known already. */
  vacate(term: number, lastSignAt: number | null = null): void {
    if (this.#leader?.term === term) this.set(null, lastSignAt);
  }

  /** Calls the handler on every change until the returned function is called. */
  onChange(handler: (leader: Leader | null) => void): () => void {
    // An object of its own, so that the same function can register twice and each registration ends by itself.
    const registered = (leader: Leader | null) => handler(leader);
    this.#handlers.add(registered);
    return () => void this.#handlers.delete(registered);
  }
}
