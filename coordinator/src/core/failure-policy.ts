import type { AttemptFailure, ClipTrouble, FailureClass } from './job-model.ts';

/** What follows from a failed attempt. */
export type FailureVerdict =
  | { readonly action: 'retry'; readonly retryAt: number }
  | { readonly action: 'fail_job'; readonly reason: string };

/** Different nodes on which the same clip may fail before the job is given up. */
export const POISON_NODES = 3;

/** Attempts at the same clip before the job is given up, whoever made them. */
export const MAX_ATTEMPTS = 10;

/**
 * Losses at the same clip before the job is given up, where {@link POISON_NODES} different nodes were lost: by then it is
 * more likely the clip than the nodes.
 */
export const MAX_LOSSES = 20;

/** Losses at the same clip before the job is given up, whichever nodes they were; with the pauses, after an hour or so. */
export const MAX_LOSSES_OF_FEW = 60;

/** Losses of one node at the same clip from which on another node is preferred for it. */
const LOSSES_TO_AVOID = 2;

/** How long a clip waits for another node that is busy, rather than go to one that it is kept from. */
const ELSEWHERE_PATIENCE_MILLIS = 60_000;

/** Attempts at the same clip after which a slot that runs out of memory again ends the job. */
export const MAX_MEMORY_ATTEMPTS = 4;

const FIRST_BACKOFF_MILLIS = 500;
const MAX_BACKOFF_MILLIS = 60_000;

/** First pause before a slot is tried again that ran out of memory: time for another program to free it. */
const MEMORY_BACKOFF_MILLIS = 15_000;

/** Whether a failure may be the clip's fault: a lost node and a host that lacks something never are. */
export function blamesClip(failureClass: FailureClass): boolean {
  return failureClass !== 'node_lost' && failureClass !== 'environment';
}

/**
 * Decides what a failed attempt means for its job. Bad input ends the job at once, because no other node could do
 * better; a clip that failed on {@link POISON_NODES} different nodes, or {@link MAX_ATTEMPTS} times, ends it with the
 * evidence; a lost node is retried at once, save that one which is lost at the same clip again and again backs off, and
 * {@link MAX_LOSSES} of different nodes, or {@link MAX_LOSSES_OF_FEW} of any, end the job; a host that lacks something is
 * retried for as long as it takes; all others back off exponentially.
 *
 * Out of memory sends the clip elsewhere. A slot that runs out of it again was asked because no other was left: it gets
 * longer pauses, and after {@link MAX_MEMORY_ATTEMPTS} attempts the job ends.
 *
 * @param trouble what was known against the clip before
 * @param unfit whether the slot had run out of memory on this job's picture before
 */
export function judgeFailure(
  failure: AttemptFailure,
  trouble: ClipTrouble | undefined,
  unfit: boolean,
): FailureVerdict {
  const { failureClass, clip, nodeId, at } = failure;
  const evidence = `${failureClass} at clip ${clip} on node ${nodeId}: ${failure.message}`;
  const attempts = (trouble?.attempts ?? 0) + 1;
  const nodes = new Set([...(trouble?.nodes ?? []), nodeId]).size;
  switch (failureClass) {
    case 'bad_input':
      return { action: 'fail_job', reason: evidence };
    case 'node_lost':
      return judgeLoss(failure, [...(trouble?.lostOn ?? []), nodeId], evidence);
    case 'environment':
      return { action: 'retry', retryAt: at + backoffOf((trouble?.shortages ?? 0) + 1) };
    default:
      if (nodes >= POISON_NODES && failureClass !== 'out_of_memory') {
        return { action: 'fail_job', reason: `clip ${clip} failed on ${nodes} different nodes; last: ${evidence}` };
      }
      if (failureClass === 'out_of_memory' && unfit) {
        const pause = MEMORY_BACKOFF_MILLIS * 2 ** Math.max(0, attempts - 2);
        if (attempts < MAX_MEMORY_ATTEMPTS) return { action: 'retry', retryAt: at + pause };
        const reason = `every slot that is left has run out of memory; ${attempts} attempts at clip ${clip}`;
        return { action: 'fail_job', reason: `${reason}; last: ${evidence}` };
      }
      if (attempts >= MAX_ATTEMPTS) {
        return { action: 'fail_job', reason: `clip ${clip} failed ${attempts} times; last: ${evidence}` };
      }
      return { action: 'retry', retryAt: at + backoffOf(attempts) };
  }
}

/** @param lostOn the node of each loss at the clip, this one included */
function judgeLoss({ clip, at }: AttemptFailure, lostOn: readonly string[], evidence: string): FailureVerdict {
  const losses = lostOn.length;
  const nodes = new Set(lostOn).size;
  if (losses >= (nodes >= POISON_NODES ? MAX_LOSSES : MAX_LOSSES_OF_FEW)) {
    const who = nodes === 1 ? 'its node' : `${nodes} different nodes`;
    return { action: 'fail_job', reason: `clip ${clip} lost ${who} ${losses} times; last: ${evidence}` };
  }
  const repeats = losses - nodes;
  return { action: 'retry', retryAt: repeats === 0 ? at : at + backoffOf(repeats) };
}

/** The nodes that another one is preferred to for a clip: it failed there, or they were lost at it more than once. */
export function avoidedNodes({ nodes, lostOn }: ClipTrouble): ReadonlySet<string> {
  const lostAgain = lostOn.filter((node) => lostOn.filter((one) => one === node).length >= LOSSES_TO_AVOID);
  return new Set([...nodes, ...lostAgain]);
}

function backoffOf(attempts: number): number {
  return Math.min(MAX_BACKOFF_MILLIS, FIRST_BACKOFF_MILLIS * 2 ** (attempts - 1));
}

/**
 * Whether a clip is still to wait. One that is to wait for longer than any pause was told so by another clock, and waits no more.
 *
 * @param notBefore wall-clock milliseconds of whoever led when it failed
 * @param now wall-clock milliseconds
 * @param patience milliseconds of waiting on top of the pause
 */
export function backsOff(notBefore: number, now: number, patience = 0): boolean {
  return now < notBefore + patience && notBefore <= now + MAX_BACKOFF_MILLIS;
}

/**
 * Whether a clip still waits for nodes that are busy, rather than go to one of {@link avoidedNodes}. The more often a node
 * was lost at it, the longer: one that always is must not end a job that others could render.
 */
export function waitsElsewhere({ lostOn, notBefore }: ClipTrouble, now: number): boolean {
  const repeats = lostOn.length - new Set(lostOn).size;
  return backsOff(notBefore, now, ELSEWHERE_PATIENCE_MILLIS * 2 ** Math.max(0, repeats - 1));
}

/** A node's failure, for {@link quarantineUntil}. */
export interface NodeFailure {
  readonly at: number;
  readonly failureClass: FailureClass;
  readonly jobId: string;
  readonly clip: number;
  readonly slotId: string;
}

const WINDOW_MILLIS = 10 * 60_000;
const QUARANTINE_MILLIS = 2 * 60_000;
const FAILURES_TO_QUARANTINE = 4;

/** Classes that speak against the node; out of memory speaks against a slot and a picture, the others against the job. */
const nodeClasses: ReadonlySet<FailureClass> = new Set(['hang', 'device', 'crash', 'environment', 'bad_chunk']);

/**
 * Whether a node is still taken out. For longer than any quarantine lasts only another clock would have it so, and then it is not.
 *
 * @param until wall-clock milliseconds of whoever led when it was decided
 * @param now wall-clock milliseconds
 */
export function isQuarantined(until: number, now: number): boolean {
  return until > now && until <= now + QUARANTINE_MILLIS;
}

/**
 * Until when a node is to be quarantined, in wall-clock milliseconds, or null. Two device errors, or four failures of
 * any class that speaks against the host, within ten minutes take it out for two minutes. Failures at one and the same
 * clip count once, because they may well be the clip's fault; what the host lacks is its own each time, and so is that it is lost: for as often
 * as one of its slots lost a lease, because all of them lose theirs together. The caller forgets failures after a success.
 */
export function quarantineUntil(failures: readonly NodeFailure[], now: number): number | null {
  const recent = failures.filter((f) => now - f.at <= WINDOW_MILLIS && nodeClasses.has(f.failureClass));
  const place = (f: NodeFailure) => (f.failureClass === 'environment' ? f.at : `${f.jobId}/${f.clip}`);
  const places = (of: readonly NodeFailure[]) => new Set(of.map(place)).size;
  const devices = places(recent.filter((f) => f.failureClass === 'device'));
  const count = places(recent) + timesLost(failures.filter((f) => now - f.at <= WINDOW_MILLIS));
  return devices >= 2 || count >= FAILURES_TO_QUARANTINE ? now + QUARANTINE_MILLIS : null;
}

function timesLost(failures: readonly NodeFailure[]): number {
  const lost = failures.filter((f) => f.failureClass === 'node_lost');
  const bySlot = Map.groupBy(lost, (f) => f.slotId);
  return Math.max(0, ...[...bySlot.values()].map((of) => of.length));
}
