import { setTimeout as sleep } from 'node:timers/promises';
import { type Backoff, backoffDelay } from '@clipfarm/shared/backoff';
import { FarmError } from '@clipfarm/shared/errors';
import type { Logger } from '@clipfarm/shared/log';

/** About a minute in all; after that whoever started the coordinator should hear of it. */
const MAX_STARTS = 8;
const BACKOFF = { firstMillis: 500, maxMillis: 10_000 } as const;

/**
 * Repeats a start that fails because what it needs can't be reached or elects: coordinators and servers may be started
 * in any order, and NATS may lose its leader at any moment of the start.
 *
 * @param start leaves nothing behind when it fails
 * @throws what the last start threw; anything but FarmError `unavailable` at once
 */
export async function whenAvailable<T>(start: () => Promise<T>, log: Logger, backoff: Backoff = BACKOFF): Promise<T> {
  for (let failures = 1; ; failures++) {
    try {
      return await start();
    } catch (error) {
      const { code, message } = FarmError.from(error);
      if (code !== 'unavailable' || failures === MAX_STARTS) throw error;
      log.warn({ reason: message, failures }, 'the coordinator cannot start yet');
      await sleep(backoffDelay(backoff, failures));
    }
  }
}
