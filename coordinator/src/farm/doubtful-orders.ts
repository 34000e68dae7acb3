import type { JobDefinition } from '../core/job-model.ts';

/** A job as it was ordered. */
export interface Order {
  readonly definition: JobDefinition;
  readonly priority: number;
}

/**
 * Most orders in doubt. An order has some kilobytes, so this is bounded in bytes, too. The oldest one goes first: whatever
 * became of it was decided long before so many others were left without an answer, and where it was stored it was heard.
 */
const MAX_DOUBTFUL = 1000;

/**
 * Orders that the journal did not confirm, so that it is not known whether they are stored. Whoever gives one again under its idempotency key means
 * the same job; as another one it would come beside the first. Only within a term: a later leader knows what is stored, and
 * keeps the rest from it.
 */
export class DoubtfulOrders {
  readonly #orders = new Map<string, Order>();
  #term = 0;

  /** The order to carry out: this one or, if its key has one in doubt, that. */
  orderFor(order: Order, term: number): Order {
    if (this.#term !== term) this.#orders.clear();
    this.#term = term;
    const key = keyOf(order);
    return (key === null ? undefined : this.#orders.get(key)) ?? order;
  }

  /** It is not known whether the order is stored. */
  doubt(order: Order): void {
    const key = keyOf(order);
    if (key === null) return;
    this.#orders.set(key, order);
    for (const oldest of this.#orders.keys()) {
      if (this.#orders.size <= MAX_DOUBTFUL) break;
      this.#orders.delete(oldest);
    }
  }

  /** The order is stored: its append was confirmed after all, or the journal told of it. */
  settle(order: Pick<Order, 'definition'>): void {
    const key = keyOf(order);
    if (key !== null) this.#orders.delete(key);
  }

  /** How many are in doubt. */
  get size(): number {
    return this.#orders.size;
  }
}

function keyOf({ definition: { owner, idempotencyKey } }: Pick<Order, 'definition'>): string | null {
  return idempotencyKey === undefined ? null : JSON.stringify([owner, idempotencyKey]);
}
