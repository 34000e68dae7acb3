import { backoffMillis } from '@clipfarm/shared/backoff';
import type { Clock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import type { Logger } from '@clipfarm/shared/log';
import type { CachedInput, InputCache } from './input-cache.ts';
import type { ContentRef, LeaseTask } from './lease-task.ts';
import { pause } from './pause.ts';

/** What {@link fetchLeaseInputs} works with. */
export interface LeaseInputsOptions {
  readonly inputs: InputCache;
  readonly clock: Clock;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  /** Ends the attempts: the lease is over. */
  readonly signal: AbortSignal;
  readonly log: Logger;
}

/** Inputs of a lease on disk, held until released. */
export interface LeaseInputs {
  /** The anchor where the lease has one, otherwise the prepared portrait. */
  readonly reference: CachedInput;
  readonly audio: CachedInput;
  /** Lets the cache delete them. */
  release(): void;
}

const RETRY = { firstMillis: 300, maxMillis: 5000 };

/** Attempts at an input that the coordinator refuses or that arrives damaged. */
const ATTEMPTS = 3;

/**
 * Fetches what a lease needs. A broken link is waited out, because the lease's grace ends the wait; other failures are
 * tried {@link ATTEMPTS} times.
 *
 * @throws FarmError of the last attempt; the signal's reason.
 */
export async function fetchLeaseInputs(lease: LeaseTask, options: LeaseInputsOptions): Promise<LeaseInputs> {
  const both = await Promise.allSettled([
    fetchPatiently(lease, lease.anchor ?? lease.reference, options),
    fetchPatiently(lease, lease.audio, options),
  ]);
  const [reference, audio] = both;
  if (reference.status === 'fulfilled' && audio.status === 'fulfilled') {
    const release = (): void => {
      reference.value.release();
      audio.value.release();
    };
    return { reference: reference.value, audio: audio.value, release };
  }
  for (const result of both) if (result.status === 'fulfilled') result.value.release();
  throw both.find((result) => result.status === 'rejected')?.reason;
}

async function fetchPatiently(lease: LeaseTask, ref: ContentRef, options: LeaseInputsOptions): Promise<CachedInput> {
  const { inputs, signal, log, random } = options;
  let refusals = 0;
  for (let failures = 1; ; failures += 1) {
    try {
      return await inputs.get(lease.jobId, ref, signal);
    } catch (cause) {
      signal.throwIfAborted();
      const error = FarmError.from(cause);
      const brokenLink = error.code === 'unavailable' || error.code === 'timeout';
      refusals += brokenLink ? 0 : 1;
      if (refusals >= ATTEMPTS || error.code === 'resource_exhausted') {
        throw new FarmError(error.code, `input ${ref.sha256}: ${error.message}`, { cause });
      }
      const fields = { job_id: lease.jobId, lease_id: lease.leaseId, sha256: ref.sha256, reason: error.message };
      log.warn(fields, 'an input could not be fetched and is tried again');
      await pause(backoffMillis(failures, random(), RETRY), options);
    }
  }
}
