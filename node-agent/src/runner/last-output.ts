import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';

/**
 * Waits until the output of programs that are gone is read, but not for ever: someone else may hold their pipes.
 *
 * @param closed settles when every pipe is at its end
 * @param millis to wait for that at most
 */
export async function lastOutput(closed: Promise<unknown>, millis: number): Promise<void> {
  // After a standstill of this process timers go first, and what is in the pipes is read in the same turn.
  const late = sleep(millis, undefined, { ref: false }).then(() => nextTurn());
  await Promise.race([closed, late]);
}
