import type { JobNotice } from './job-notices.ts';
import type { WebhookEndpoint } from './webhook-endpoint.ts';
import { type WebhookParts, WebhookQueue } from './webhook-queue.ts';

/**
 * Delivers notices to every configured endpoint, at least once, while this coordinator leads. Endpoints know nothing of
 * one another: one that is dead holds up nobody.
 */
export class Webhooks {
  readonly #parts: WebhookParts;
  readonly #endpoints: readonly WebhookEndpoint[];
  readonly #since: number;
  #queues: readonly WebhookQueue[] = [];

  constructor(parts: WebhookParts, endpoints: readonly WebhookEndpoint[]) {
    this.#parts = parts;
    this.#endpoints = endpoints;
    this.#since = parts.clock.now();
  }

  /** Jobs with something left to be told, summed over the endpoints. */
  get pending(): number {
    return this.#queues.reduce((sum, queue) => sum + queue.pending, 0);
  }

  /** Endpoints that could not be reached the last time. */
  get failing(): number {
    return this.#queues.filter((queue) => queue.failing).length;
  }

  /** Goes on where the last leader stopped. Returns at once. */
  begin(term: number): void {
    this.#queues = this.#endpoints.map((endpoint) => new WebhookQueue(this.#parts, endpoint, term, this.#since));
    for (const queue of this.#queues) queue.start();
  }

  /** Tells of an event that is durable. Returns at once; does nothing when this coordinator does not lead. */
  tell(notice: JobNotice, position: number): void {
    for (const queue of this.#queues) queue.tell({ notice, position });
  }

  /** Stops at once and records what is delivered. */
  async end(): Promise<void> {
    const queues = this.#queues;
    this.#queues = [];
    await Promise.all(queues.map((queue) => queue.stop()));
  }
}
