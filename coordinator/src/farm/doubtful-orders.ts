import type { JobDefinition } from '../core/job-model.ts';

/** A job as it was ordered. */
export interface Order {
  readonly definition: JobDefinition;
  readonly priority: number;
}

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
    if (key !== null) this.#orders.set(key, order);
  }

  /** The order is stored. */
  settle(order: Order): void {
    const key = keyOf(order);
    if (key !== null) this.#orders.delete(key);
  }
}

function keyOf({ definition: { owner, idempotencyKey } }: Order): string | null {
  return idempotencyKey === undefined ? null : JSON.stringify([owner, idempotencyKey]);
}
