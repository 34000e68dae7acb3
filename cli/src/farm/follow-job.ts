import { setTimeout as sleep } from 'node:timers/promises';
import { backoffDelay } from '@clipfarm/shared/backoff';
import { FarmError } from '@clipfarm/shared/errors';
import type { FarmServiceClient } from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
import type { Job } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { responsesOf } from '@clipfarm/shared/rpc/client-call';
import type { Connection } from './connection.ts';
import { isFinal } from './job-state.ts';

/** What the follower of a job is told. */
export interface JobFollower {
  /** The job after a change; `staleReason` says why it may be outdated, and is empty while somebody leads. */
  onChange(job: Job, staleReason: string): void;
  /** The line broke; it is tried again after `delayMillis`. The job itself goes on. */
  onOutage(error: FarmError, delayMillis: number): void;
}

const backoff = { firstMillis: 500, maxMillis: 5000 } as const;

/** Attempts in a row, about five minutes: a coordinator that is moved to another host comes back within. */
const MAX_FAILURES = 66;

/**
 * Follows a job until it ends, over restarts and changes of the coordinator. What an earlier coordinator has told already is
 * not told again by one that knows less, because it lags behind.
 *
 * @param reached false when nothing was heard of this coordinator yet; then a first failure is told at once, because
 * it may not exist at all.
 * @returns the job in its final state.
 * @throws FarmError `not_found` when there is no such job, `unavailable` when the coordinator stays away.
 */
export async function followJob(
  farm: Connection,
  jobId: string,
  follower: JobFollower,
  reached: boolean,
): Promise<Job> {
  let heard = reached;
  let revision = 0;
  for (let failures = 0; ; ) {
    try {
      const onChange = (job: Job, staleReason: string): boolean => {
        heard = true;
        failures = 0;
        if (job.revision < revision) return false;
        revision = job.revision;
        follower.onChange(job, staleReason);
        return true;
      };
      return await farm.ask((client) => followOnce(client, jobId, onChange, farm.signal));
    } catch (thrown) {
      const error = farm.explain(thrown);
      failures += 1;
      const hopeless = !heard || failures > MAX_FAILURES || farm.signal.aborted;
      if (error.code !== 'unavailable' || hopeless) throw error;
      const delay = backoffDelay(backoff, failures);
      follower.onOutage(error, delay);
      // An abort ends the wait; the next attempt then reports it.
      await sleep(delay, undefined, { signal: farm.signal }).catch(() => undefined);
    }
  }
}

/**
 * Follows as long as the stream holds; the coordinator ends it only with the job.
 *
 * @param onChange whether what it is told is news.
 */
async function followOnce(
  client: FarmServiceClient,
  jobId: string,
  onChange: (job: Job, staleReason: string) => boolean,
  signal: AbortSignal,
): Promise<Job> {
  const call = client.watchJob({ jobId });
  const cancel = () => call.cancel();
  const responses = responsesOf(call);
  signal.addEventListener('abort', cancel, { once: true });
  if (signal.aborted) cancel();
  try {
    for await (const { job, staleReason } of responses) {
      if (job === undefined) continue;
      if (onChange(job, staleReason) && isFinal(job.state)) return job;
    }
    throw new FarmError('unavailable', 'the coordinator ended the report before the job ended');
  } finally {
    signal.removeEventListener('abort', cancel);
  }
}
