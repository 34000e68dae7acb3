import type { Clock } from '@clipfarm/shared/clock';
import type { Logger } from '@clipfarm/shared/log';
import { secondsOf } from '@clipfarm/shared/log-number';
import type { Election, Leader } from './journal/election.ts';

/**
 * Logs whom this coordinator follows, that the leader is gone, and who leads then. What it does itself as the leader it says
 * elsewhere.
 *
 * @param ownId identity of this coordinator as a candidate
 * @returns ends it; to be called before the election is closed
 */
export function logLeaders(
  election: Pick<Election, 'current' | 'vacantSince' | 'onChange'>,
  ownId: string,
  clock: Clock,
  log: Logger,
): () => void {
  let known: Leader | null = null;
  let isFirst = true;
  const note = (leader: Leader | null) => {
    const former = known;
    known = leader;
    const without = leaderlessSeconds(election, clock);
    if (leader === null) {
      if (former === null || former.id === ownId) return;
      const fields = { leader: former.address, term: former.term, silent_seconds: without };
      log.warn(fields, 'the leader is gone: nobody leads until another coordinator takes over');
      return;
    }
    if (leader.id !== ownId) {
      const fields = { leader: leader.address, term: leader.term };
      if (isFirst) log.info(fields, 'following the coordinator that leads');
      else log.info({ ...fields, leaderless_seconds: without }, 'following another coordinator, which leads now');
    }
    isFirst = false;
  };
  const current = election.current();
  if (current) note(current);
  return election.onChange(note);
}

/** Seconds since the last sign of the leader before; undefined where none was known. */
export function leaderlessSeconds(election: Pick<Election, 'vacantSince'>, clock: Clock): number | undefined {
  const since = election.vacantSince();
  return since === null ? undefined : secondsOf(clock.monotonic() - since);
}
