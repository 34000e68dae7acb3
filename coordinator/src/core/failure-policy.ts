import type { AttemptFailure, ClipTrouble, FailureClass } from './job-model.ts';

/** What follows from a failed attempt. */
export type FailureVerdict =
  | { readonly action: 'retry'; readonly retryAt: number }
  | { readonly action: 'fail_job'; readonly reason: string };

/** Different nodes on which the same clip may fail before the job is given up. */
export const POISON_NODES = 3;

/** Attempts at the same clip before the job is given up, whoever made them. */
export const MAX_ATTEMPTS = 10;

const FIRST_BACKOFF_MILLIS = 500;
const MAX_BACKOFF_MILLIS = 60_000;

/**
 * Decides what a failed attempt means for its job. Bad input ends the job at once, because no other node could do
 * better; a clip that failed on {@link POISON_NODES} different nodes, or {@link MAX_ATTEMPTS} times, ends it with the
 * evidence; a lost node costs nothing and is retried at once; everything else backs off exponentially.
 *
 * @param trouble what was known against the clip before
 */
export function judgeFailure(failure: AttemptFailure, trouble: ClipTrouble | undefined): FailureVerdict {
  const evidence = `${failure.failureClass} at clip ${failure.clip} on node ${failure.nodeId}: ${failure.message}`;
  if (failure.failureClass === 'bad_input') return { action: 'fail_job', reason: evidence };
  const attempts = (trouble?.attempts ?? 0) + 1;
  if (failure.failureClass === 'node_lost') {
    return attempts >= 2 * MAX_ATTEMPTS
      ? { action: 'fail_job', reason: `clip ${failure.clip} lost its node ${attempts} times; last: ${evidence}` }
      : { action: 'retry', retryAt: failure.at };
  }
  const nodes = new Set([...(trouble?.nodes ?? []), failure.nodeId]);
  if (nodes.size >= POISON_NODES && failure.failureClass !== 'out_of_memory') {
    return {
      action: 'fail_job',
      reason: `clip ${failure.clip} failed on ${nodes.size} different nodes; last: ${evidence}`,
    };
  }
  if (attempts >= MAX_ATTEMPTS) {
    return { action: 'fail_job', reason: `clip ${failure.clip} failed ${attempts} times; last: ${evidence}` };
  }
  const backoff = Math.min(MAX_BACKOFF_MILLIS, FIRST_BACKOFF_MILLIS * 2 ** (attempts - 1));
  return { action: 'retry', retryAt: failure.at + backoff };
}

/** A node's failure, for {@link quarantineUntil}. */
export interface NodeFailure {
  readonly at: number;
  readonly failureClass: FailureClass;
  readonly jobId: string;
  readonly clip: number;
}

const WINDOW_MILLIS = 10 * 60_000;
const QUARANTINE_MILLIS = 2 * 60_000;
const FAILURES_TO_QUARANTINE = 4;

/** Classes that speak against the node; out of memory speaks against a slot and a picture, the others against the job. */
const nodeClasses: ReadonlySet<FailureClass> = new Set(['hang', 'device', 'crash', 'environment', 'bad_chunk']);

/**
 * Until when a node is to be quarantined, in wall-clock milliseconds, or null. Two device errors, or four failures of
 * any class that speaks against the host, within ten minutes take it out for two minutes. Failures at one and the same
 * clip count once, because they may well be the clip's fault. The caller forgets failures after a success.
 */
export function quarantineUntil(failures: readonly NodeFailure[], now: number): number | null {
  const recent = failures.filter((f) => now - f.at <= WINDOW_MILLIS && nodeClasses.has(f.failureClass));
  const places = (of: readonly NodeFailure[]) => new Set(of.map((f) => `${f.jobId}/${f.clip}`)).size;
  const devices = places(recent.filter((f) => f.failureClass === 'device'));
  return devices >= 2 || places(recent) >= FAILURES_TO_QUARANTINE ? now + QUARANTINE_MILLIS : null;
}
