import { FarmError } from '@clipfarm/shared/errors';
import type { Context } from '../context.ts';
import { type Connection, isSilence } from '../farm/connection.ts';
import { retry, shortOutage } from '../farm/retry.ts';
import { outageText } from '../watch/watch-job.ts';

/** Makes changes in a farm whose coordinator may restart or be replaced meanwhile. */
export interface Persistence {
  /**
   * Repeats `attempt` while no coordinator can take the change, about 20 s in all, and says so on stderr. Only for what may
   * be done twice.
   *
   * @param repeated true when an earlier attempt failed: then it may have been done all the same
   * @throws FarmError the last one; at once where nobody has answered at all, because there may be no farm
   */
  run<T>(attempt: (repeated: boolean) => Promise<T>): Promise<T>;
}

/** The patience with which every command makes its changes. */
export function persistence(context: Context, farm: Connection): Persistence {
  let reached = false;
  return {
    async run(attempt) {
      let repeated = false;
      const answer = await retry(
        async () => {
          const again = repeated;
          repeated = true;
          return attempt(again);
        },
        {
          ...shortOutage,
          signal: farm.signal,
          onRetry: (error, delayMillis) => context.note(outageText(error, delayMillis)),
          worthwhile: (error) => {
            reached ||= !isSilence(error);
            return reached;
          },
        },
      );
      reached = true;
      return answer;
    },
  };
}

/** Runs one change, as {@link Persistence.run} does. */
export function persist<T>(context: Context, farm: Connection, attempt: (repeated: boolean) => Promise<T>): Promise<T> {
  return persistence(context, farm).run(attempt);
}

/** Takes a refusal of what was asked before for the answer that got lost, where `done` finds that it is so. */
export async function orDoneBefore<T>(
  repeated: boolean,
  attempt: () => Promise<T>,
  done: () => Promise<T | undefined>,
): Promise<T> {
  try {
    return await attempt();
  } catch (thrown) {
    const error = FarmError.from(thrown);
    if (!repeated || error.code !== 'failed_precondition') throw error;
    const before = await done();
    if (before === undefined) throw error;
    return before;
  }
}
