import { secondsOf } from '@clipfarm/shared/log-number';

/** What is known of a link that is over. */
export interface LinkEnd {
  /** Why this coordinator closed it; null where it did not. */
  readonly closed: string | null;
  /** What the agent said when it left; null where it said nothing. */
  readonly farewell: string | null;
  /** Whether the agent ended its side, as far as that can be seen: a process that is killed may look like that too. */
  readonly complete: boolean;
  /** Since the agent's last sign of life. */
  readonly silentMillis: number;
}

/** Heartbeats after which an agent is silent: one may be late. */
const SILENT_BEATS = 3;

/** How a link ended, as the log has it: in a word and in a sentence. */
export function endOf(
  { closed, farewell, complete, silentMillis }: LinkEnd,
  heartbeatMillis: number,
): { readonly end: 'closed' | 'left' | 'silent' | 'broken'; readonly reason: string } {
  if (farewell !== null) return { end: 'left', reason: `its agent left in order: ${farewell}` };
  if (closed !== null) return { end: 'closed', reason: closed };
  if (silentMillis > SILENT_BEATS * heartbeatMillis) {
    return { end: 'silent', reason: `it was silent for ${secondsOf(silentMillis).toFixed(1)} s` };
  }
  return { end: 'broken', reason: complete ? 'its agent ended the link without a goodbye' : 'the connection broke' };
}
