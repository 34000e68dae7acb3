import type { JobEvent } from '../core/job-events.ts';
import type { JobState } from '../core/job-model.ts';
import { noticeOf } from './job-notices.ts';
import type { NatsEvents } from './nats-events.ts';
import type { Webhooks } from './webhooks.ts';

/** Tells other services what happens to jobs, while this coordinator leads. Nothing here waits for them. */
export class JobNotifier {
  readonly #webhooks: Webhooks;
  readonly #nats: NatsEvents | null;

  constructor(webhooks: Webhooks, nats: NatsEvents | null) {
    this.#webhooks = webhooks;
    this.#nats = nats;
  }

  /** Takes up what an earlier leader left to be told. */
  begin(term: number): void {
    this.#webhooks.begin(term);
  }

  /**
   * Tells of an event that is durable.
   *
   * @param job the job right after the event
   * @param at wall-clock milliseconds of the event
   */
  tell(job: JobState, event: JobEvent, at: number): void {
    const notice = noticeOf(job, event, at);
    if (notice === null) return;
    this.#webhooks.tell(notice, job.revision);
    this.#nats?.tell(notice);
  }

  /** Leaves the rest to the next leader. */
  async end(): Promise<void> {
    await this.#webhooks.end();
  }
}
