import { FarmError } from '@clipfarm/shared/errors';
import type { Logger } from '@clipfarm/shared/log';
import type { Metrics } from './admin/metrics.ts';
import type { Candidate, Election } from './journal/election.ts';
import type { LeaderDuties } from './leader-duties.ts';

/** What is likely where the journal has no trouble. */
const OVERTAKEN = 'it was not renewed in time, and another coordinator may lead';

/** Pause before running for office again after taking it failed. */
const AGAIN_MILLIS = 1000;

/**
 * Runs for office, leads while it lasts, hands over, and runs again, until the signal. Leading ends when the election
 * says so, or when the farm could not be taken over.
 */
export async function govern(parts: {
  readonly election: Election;
  readonly candidate: Candidate;
  readonly duties: LeaderDuties;
  readonly signal: AbortSignal;
  /** What keeps the journal from working, in words; null when nothing does. */
  readonly trouble: () => string | null;
  readonly metrics: Pick<Metrics, 'leaderships'>;
  readonly log: Logger;
}): Promise<void> {
  const { election, candidate, duties, signal, trouble, metrics, log } = parts;
  while (!signal.aborted) {
    try {
      const leadership = await election.campaign(candidate, signal);
      const over = AbortSignal.any([leadership.lost, signal]);
      try {
        await duties.begin(leadership, election.vacantSince());
        await aborted(over);
      } finally {
        await duties.end(
          signal.aborted ? 'the coordinator is stopping' : `the lead is lost: ${trouble() ?? OVERTAKEN}`,
        );
        await leadership.release();
      }
    } catch (error) {
      if (signal.aborted) return;
      metrics.leaderships.inc({ change: 'failed' });
      log.error({ err: FarmError.from(error) }, 'could not lead; running again');
      await aborted(AbortSignal.any([signal, AbortSignal.timeout(AGAIN_MILLIS)]));
    }
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
