import { type Backoff, backoffDelay } from '@clipfarm/shared/backoff';
import { exitCode } from '../exit-code.ts';

/** How a process ended. */
export interface ProcessEnd {
  /** Exit status; null when a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Milliseconds that it ran. */
  readonly ranMillis: number;
}

/** What follows: another start after a while, or none, with the reason. */
export type Decision =
  | { readonly kind: 'restart'; readonly delayMillis: number; readonly failures: number }
  | { readonly kind: 'give-up'; readonly reason: string };

const backoff: Backoff = { firstMillis: 500, maxMillis: 15_000 };

/** Milliseconds after which a process counts as having worked, so that its next end is a first failure again. */
const HEALTHY_MS = 30_000;

/** Milliseconds until a process is started again that left in order, because somebody told it to. */
const LEFT_MS = 5000;

/** Failures in a row after which a process is not started again. */
const MAX_FAILURES = 8;

/**
 * What to do about a process that ended without being told to.
 *
 * @param failures ends in a row before this one, each soon after its start.
 */
export function afterEnd(end: ProcessEnd, failures: number): Decision {
  if (end.code === exitCode.usage) return { kind: 'give-up', reason: 'it refused its options' };
  if (end.code === exitCode.ok) return { kind: 'restart', delayMillis: LEFT_MS, failures: 0 };
  const now = end.ranMillis >= HEALTHY_MS ? 1 : failures + 1;
  if (now > MAX_FAILURES) return { kind: 'give-up', reason: `it ended ${now} times in a row` };
  return { kind: 'restart', delayMillis: backoffDelay(backoff, now), failures: now };
}

/** How a process ended, in words. */
export function endText(end: ProcessEnd): string {
  if (end.code === exitCode.ok) return 'left in order';
  return end.code === null ? `was ended by ${end.signal ?? 'a signal'}` : `ended with status ${end.code}`;
}
