import type { Clock } from '@clipfarm/shared/clock';
import type { JetStreamManager } from 'nats';
import { isTemporary, natsFarmError, notAnswered } from './nats-error.ts';
import type { NatsLink } from './nats-link.ts';
import { pause } from './pause.ts';

/** What asking JetStream needs. */
export interface AskParts {
  readonly jsm: JetStreamManager;
  readonly link: NatsLink;
  readonly clock: Clock;
}

/** Pause between attempts while a cluster has no leader. */
const AGAIN_MILLIS = 100;

/**
 * Repeats a request that may be repeated until NATS answers it.
 *
 * @param doing what it is for, for the error.
 * @param deadline by the monotonic clock.
 * @throws FarmError `unavailable` after the deadline; others as NATS refuses.
 */
export async function ask<T>(
  { link, clock }: AskParts,
  doing: string,
  deadline: number,
  attempt: () => Promise<T>,
): Promise<T> {
  let problem: unknown;
  while (true) {
    const left = deadline - clock.monotonic();
    if (left <= 0 || !(await link.connected(left))) throw notAnswered(doing, problem);
    try {
      return await attempt();
    } catch (error) {
      if (!isTemporary(error)) throw natsFarmError(error, doing);
      problem = error;
    }
    await pause(clock, Math.min(AGAIN_MILLIS, left));
  }
}
