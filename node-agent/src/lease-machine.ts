import type { LeaseTask } from './lease-task.ts';
import type { RunnerErrorClass } from './runner/protocol.ts';

/** Failure classes that an agent reports: the runner's own and a refused chunk. */
export type AttemptFailureClass = RunnerErrorClass | 'bad_chunk';

/** How a lease ended, as told to the coordinator. */
export type LeaseOutcome =
  | { readonly reason: 'completed' }
  | { readonly reason: 'stopped'; readonly message: string }
  | { readonly reason: 'failed'; readonly failureClass: AttemptFailureClass; readonly message: string }
  | { readonly reason: 'refused'; readonly message: string };

/**
 * What a slot does with its lease.
 *
 * - `idle`: no lease.
 * - `loading`: inputs are fetched and the runner is made ready. `end` is the lease's end after shrinks.
 * - `rendering`: the runner renders `clip` (pre-roll included), of which `fraction` is done, and will stop by itself at
 *   `runnerEnd`, which only moves with a runner that `canStop`. `stopAt` is set once the lease must stop after the clip
 *   in hand; the reason is reported.
 * - `ending`: nothing more is wanted from the runner. The lease is reported when the runner is `quiet` and the finished
 *   clips are `settled`; then `next`, a lease granted meanwhile, begins.
 */
export type LeaseState =
  | { readonly kind: 'idle' }
  | { readonly kind: 'loading'; readonly lease: LeaseTask; readonly end: number }
  | {
      readonly kind: 'rendering';
      readonly lease: LeaseTask;
      readonly end: number;
      readonly clip: number;
      readonly fraction: number;
      readonly runnerEnd: number;
      readonly canStop: boolean;
      readonly stopAt: { readonly end: number; readonly reason: string } | null;
    }
  | {
      readonly kind: 'ending';
      readonly lease: LeaseTask;
      readonly end: number;
      readonly clip: number;
      readonly outcome: LeaseOutcome;
      readonly quiet: boolean;
      readonly settled: boolean;
      readonly next: LeaseTask | null;
    };

/** What happens to a slot. Everything but `grant` names its lease and is void for another one. */
export type LeaseEvent =
  | { readonly type: 'grant'; readonly lease: LeaseTask }
  /** Inputs and runner are ready. `setEnd`: the end of what it renders can be moved. */
  | { readonly type: 'ready'; readonly leaseId: string; readonly setEnd: boolean }
  /** The runner has begun; `continued`: without pre-roll, in the model call of the lease before. */
  | { readonly type: 'spanStarted'; readonly leaseId: string; readonly continued: boolean }
  | { readonly type: 'progress'; readonly leaseId: string; readonly clip: number; readonly fraction: number }
  /** Every frame of a clip came from the runner. */
  | { readonly type: 'clipDone'; readonly leaseId: string; readonly clip: number }
  | { readonly type: 'shrink'; readonly leaseId: string; readonly end: number }
  /** The lease is void. */
  | { readonly type: 'revoke'; readonly leaseId: string; readonly reason: string }
  /** Finish the clip in hand, then stop: shutdown, out of grace. */
  | { readonly type: 'stop'; readonly leaseId: string; readonly reason: string }
  /** This host can't go on now, for a reason that is known already: others may have the rest at once, and nothing failed. */
  | { readonly type: 'giveBack'; readonly leaseId: string; readonly reason: string }
  | { readonly type: 'spanEnded'; readonly leaseId: string; readonly end: number }
  /** The attempt failed. `runner`: is it done with the span, still at it, or good for nothing until it is restarted? */
  | {
      readonly type: 'failed';
      readonly leaseId: string;
      readonly failureClass: AttemptFailureClass;
      readonly message: string;
      readonly runner: 'quiet' | 'busy' | 'unusable';
    }
  /** The runner process is gone: by itself, or because it was killed. */
  | { readonly type: 'runnerGone'; readonly leaseId: string; readonly message: string }
  /** The runner did not confirm a cancel in time. */
  | { readonly type: 'cancelTimeout'; readonly leaseId: string }
  /** Finished clips are spooled and, where that was waited for, judged by the coordinator. */
  | { readonly type: 'settled'; readonly leaseId: string };

/** What the slot must do, in order. */
export type LeaseAction =
  /** Fetch inputs and make the runner ready; answer with `ready` or `failed`. */
  | { readonly do: 'prepare'; readonly lease: LeaseTask }
  /** Stop preparing. */
  | { readonly do: 'abandon'; readonly leaseId: string }
  | { readonly do: 'render'; readonly lease: LeaseTask; readonly end: number }
  | { readonly do: 'setEnd'; readonly leaseId: string; readonly end: number }
  /** Make the runner drop the span; `cancelTimeout` if it does not answer. */
  | { readonly do: 'cancel'; readonly leaseId: string }
  | { readonly do: 'killRunner'; readonly leaseId: string }
  /** Throw away the clip in hand. Finished clips stay. */
  | { readonly do: 'discardClip'; readonly leaseId: string }
  /** Bring finished clips into the spool and, with `acknowledged`, wait for their verdicts; answer with `settled`. */
  | { readonly do: 'settle'; readonly leaseId: string; readonly acknowledged: boolean }
  /** Tell the coordinator. */
  | { readonly do: 'report'; readonly lease: LeaseTask; readonly outcome: LeaseOutcome; readonly clip: number };

/** A state and what follows from entering it. */
export interface LeaseStep {
  readonly state: LeaseState;
  readonly actions: readonly LeaseAction[];
}

/** No lease. */
export const idle: LeaseState = { kind: 'idle' };

/**
 * What an event does to a slot's lease. Total and pure: every event is answered in every state, repeats change nothing,
 * the end of a lease never grows, and each lease that was begun is reported exactly once.
 */
export function stepLease(state: LeaseState, event: LeaseEvent): LeaseStep {
  if (event.type === 'grant') return grant(state, event.lease);
  if (state.kind === 'ending' && event.leaseId === state.next?.leaseId) return whileWaiting(state, state.next, event);
  if (state.kind === 'idle' || event.leaseId !== state.lease.leaseId) return stay(state);
  switch (state.kind) {
    case 'loading':
      return whileLoading(state, event);
    case 'rendering':
      return whileRendering(state, event);
    case 'ending':
      return whileEnding(state, event);
  }
}

/** Clip in hand of a state, pre-roll included; 0 when idle. */
export function currentClip(state: LeaseState): number {
  if (state.kind === 'idle') return 0;
  return state.kind === 'loading' ? firstRendered(state.lease) : state.clip;
}

type OwnEvent = Exclude<LeaseEvent, { type: 'grant' }>;
type Loading = Extract<LeaseState, { kind: 'loading' }>;
type Rendering = Extract<LeaseState, { kind: 'rendering' }>;
type Ending = Extract<LeaseState, { kind: 'ending' }>;

function grant(state: LeaseState, lease: LeaseTask): LeaseStep {
  if (state.kind === 'idle') return begin(lease);
  if (state.lease.leaseId === lease.leaseId) return stay(state);
  // The coordinator ends a lease with its last commit, so the next grant may overtake the acknowledgement.
  if (state.kind === 'ending' && (state.next === null || state.next.leaseId === lease.leaseId)) {
    return stay({ ...state, next: lease });
  }
  const message = `slot is busy with lease ${state.lease.leaseId} of job ${state.lease.jobId}`;
  return { state, actions: [{ do: 'report', lease, outcome: { reason: 'refused', message }, clip: lease.start }] };
}

function begin(lease: LeaseTask): LeaseStep {
  return { state: { kind: 'loading', lease, end: lease.end }, actions: [{ do: 'prepare', lease }] };
}

function whileLoading(state: Loading, event: OwnEvent): LeaseStep {
  const { lease, end } = state;
  switch (event.type) {
    case 'ready': {
      const clip = firstRendered(lease);
      return {
        state: {
          kind: 'rendering',
          ...{ lease, end, clip, fraction: 0, runnerEnd: end, canStop: event.setEnd, stopAt: null },
        },
        actions: [{ do: 'render', lease, end }],
      };
    }
    case 'shrink':
      if (event.end >= end) return stay(state);
      if (event.end > lease.start) return stay({ ...state, end: event.end });
      return endQuietly({ ...state, end: event.end }, { reason: 'completed' });
    case 'revoke':
    case 'stop':
    case 'giveBack':
      return endQuietly(state, { reason: 'stopped', message: event.reason });
    case 'failed':
      return endQuietly(state, failure(event));
    case 'runnerGone':
      return endQuietly(state, { reason: 'failed', failureClass: 'crash', message: event.message });
    default:
      return stay(state);
  }
}

/** Ends a lease of which nothing was rendered; the runner may go on loading for the next one. */
function endQuietly(state: Loading, outcome: LeaseOutcome): LeaseStep {
  const { lease } = state;
  return {
    state: idle,
    actions: [
      { do: 'abandon', leaseId: lease.leaseId },
      { do: 'report', lease, outcome, clip: firstRendered(lease) },
    ],
  };
}

function whileRendering(state: Rendering, event: OwnEvent): LeaseStep {
  const { lease } = state;
  const { leaseId } = lease;
  switch (event.type) {
    case 'spanStarted':
      return stay(event.continued && state.clip < lease.start ? { ...state, clip: lease.start } : state);
    case 'progress': {
      const forward = event.clip > state.clip || (event.clip === state.clip && event.fraction > state.fraction);
      return stay(forward ? { ...state, clip: event.clip, fraction: event.fraction } : state);
    }
    case 'clipDone':
      return clipDone(state, event.clip);
    case 'shrink':
      return shrink(state, event.end);
    case 'revoke':
      return breakOff(state, { reason: 'stopped', message: event.reason }, false);
    case 'giveBack':
      return breakOff(state, { reason: 'stopped', message: event.reason }, true);
    case 'stop':
      return stop(state, event.reason);
    case 'spanEnded':
      return ended(state, event.end);
    case 'failed': {
      const outcome = failure(event);
      if (event.runner === 'busy') return breakOff(state, outcome, true);
      const step = finish(state, outcome, event.runner !== 'unusable', true);
      const kill: LeaseAction[] = event.runner === 'unusable' ? [{ do: 'killRunner', leaseId }] : [];
      return { state: step.state, actions: [{ do: 'discardClip', leaseId }, ...kill, ...step.actions] };
    }
    case 'runnerGone': {
      const step = finish(state, { reason: 'failed', failureClass: 'crash', message: event.message }, true, true);
      return { state: step.state, actions: [{ do: 'discardClip', leaseId }, ...step.actions] };
    }
    default:
      return stay(state);
  }
}

function clipDone(state: Rendering, done: number): LeaseStep {
  if (done < state.clip) return stay(state);
  const next = { ...state, clip: done + 1, fraction: 0 };
  // A runner that can't be told where to stop is cut off behind the last clip that is still wanted.
  const cutOff = next.clip >= next.end && next.runnerEnd > next.end;
  return cutOff ? breakOff(next, { reason: 'completed' }, true) : stay(next);
}

function shrink(state: Rendering, end: number): LeaseStep {
  if (end >= state.end) return stay(state);
  const shorter = { ...state, end };
  const told: LeaseAction = { do: 'setEnd', leaseId: state.lease.leaseId, end };
  // Such a runner hands everything over at its end, so where it seems to be says nothing about what it has delivered.
  if (!state.canStop && end > state.lease.start) return { state: shorter, actions: [told] };
  // Clips before the new end are all rendered, so nothing is missing from what is still wanted.
  if (end <= state.clip || end <= state.lease.start) return breakOff(shorter, { reason: 'completed' }, true);
  if (state.stopAt !== null && state.stopAt.end <= end) return stay(shorter);
  return { state: { ...shorter, runnerEnd: end }, actions: [told] };
}

function stop(state: Rendering, reason: string): LeaseStep {
  if (state.stopAt !== null) return stay(state);
  // A pre-roll clip is worth nothing to anyone else, so it is not finished.
  if (state.clip < state.lease.start) return breakOff(state, { reason: 'stopped', message: reason }, true);
  // What it has rendered comes at its end, so all of it would be lost.
  if (!state.canStop) return stay({ ...state, stopAt: { end: state.end, reason } });
  const end = Math.min(state.end, state.clip + 1);
  return {
    state: { ...state, runnerEnd: end, stopAt: { end, reason } },
    actions: [{ do: 'setEnd', leaseId: state.lease.leaseId, end }],
  };
}

/** The runner ended the span: as wanted, as asked, or without reason. */
function ended(state: Rendering, end: number): LeaseStep {
  const { leaseId } = state.lease;
  if (end >= state.end) return finish({ ...state, clip: state.end }, { reason: 'completed' }, true, true);
  if (state.stopAt !== null) return finish(state, { reason: 'stopped', message: state.stopAt.reason }, true, true);
  const message = `the runner ended the span at clip ${end} although clips up to ${state.end} are wanted`;
  const step = finish(state, { reason: 'failed', failureClass: 'crash', message }, true, true);
  return { state: step.state, actions: [{ do: 'discardClip', leaseId }, ...step.actions] };
}

/** Drops the clip in hand and makes the runner stop. */
function breakOff(state: Rendering, outcome: LeaseOutcome, acknowledged: boolean): LeaseStep {
  const { leaseId } = state.lease;
  const step = finish(state, outcome, false, acknowledged);
  return {
    state: step.state,
    actions: [{ do: 'cancel', leaseId }, { do: 'discardClip', leaseId }, ...step.actions],
  };
}

function finish(state: Rendering, outcome: LeaseOutcome, quiet: boolean, acknowledged: boolean): LeaseStep {
  const { lease, end, clip } = state;
  return {
    state: { kind: 'ending', lease, end, clip, outcome, quiet, settled: false, next: null },
    actions: [{ do: 'settle', leaseId: lease.leaseId, acknowledged }],
  };
}

function whileEnding(state: Ending, event: OwnEvent): LeaseStep {
  switch (event.type) {
    case 'spanEnded':
    case 'runnerGone':
      return reported({ ...state, quiet: true });
    case 'failed': {
      const quiet = state.quiet || event.runner === 'quiet';
      // What was rendered last turned out to be worthless: the lease is not complete after all.
      const spoiled = state.outcome.reason === 'completed' || state.outcome.reason === 'stopped';
      const outcome = spoiled && event.runner === 'busy' ? failure(event) : state.outcome;
      const step = reported({ ...state, quiet, outcome });
      if (event.runner !== 'unusable' || state.quiet) return step;
      return { state: step.state, actions: [{ do: 'killRunner', leaseId: state.lease.leaseId }, ...step.actions] };
    }
    case 'giveBack':
      // What was rendered last can't be kept, so that not all of it will come.
      if (state.outcome.reason !== 'completed') return stay(state);
      return stay({ ...state, outcome: { reason: 'stopped', message: event.reason } });
    case 'cancelTimeout':
      if (state.quiet) return stay(state);
      return { state, actions: [{ do: 'killRunner', leaseId: state.lease.leaseId }] };
    case 'settled':
      return reported({ ...state, settled: true });
    case 'revoke':
      // Nobody waits for the verdicts any more; chunks in the spool are offered all the same.
      return reported({ ...state, settled: true });
    case 'shrink':
      return stay(event.end < state.end ? { ...state, end: event.end } : state);
    default:
      return stay(state);
  }
}

/** Events for a lease that waits until the slot is done with the one before. */
function whileWaiting(state: Ending, next: LeaseTask, event: OwnEvent): LeaseStep {
  const drop = (outcome: LeaseOutcome): LeaseStep => ({
    state: { ...state, next: null },
    actions: [{ do: 'report', lease: next, outcome, clip: firstRendered(next) }],
  });
  switch (event.type) {
    case 'revoke':
    case 'stop':
    case 'giveBack':
      return drop({ reason: 'stopped', message: event.reason });
    case 'shrink':
      if (event.end <= next.start) return drop({ reason: 'completed' });
      return stay(event.end < next.end ? { ...state, next: { ...next, end: event.end } } : state);
    default:
      return stay(state);
  }
}

/** Reports a lease that needs nothing more and turns to the next one. */
function reported(state: Ending): LeaseStep {
  if (!state.quiet || !state.settled) return stay(state);
  const report: LeaseAction = { do: 'report', lease: state.lease, outcome: state.outcome, clip: state.clip };
  if (state.next === null) return { state: idle, actions: [report] };
  const next = begin(state.next);
  return { state: next.state, actions: [report, ...next.actions] };
}

function failure(event: Extract<LeaseEvent, { type: 'failed' }>): LeaseOutcome {
  return { reason: 'failed', failureClass: event.failureClass, message: event.message };
}

function firstRendered(lease: LeaseTask): number {
  return lease.start - lease.preRoll;
}

function stay(state: LeaseState): LeaseStep {
  return { state, actions: [] };
}
