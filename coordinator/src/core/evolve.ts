import { clipSet, countClips, withoutRange, withRange } from './clip-ranges.ts';
import { blamesClip } from './failure-policy.ts';
import type { JobEvent } from './job-events.ts';
import { type AttemptFailure, type ClipTrouble, type JobState, slotKey } from './job-model.ts';
import { committedSpans } from './job-progress.ts';
import { noticeTypeOf } from './notice-type.ts';

const NO_TROUBLE: ClipTrouble = { nodes: [], attempts: 0, lostOn: [], shortages: 0, notBefore: 0 };

/** Failures kept with a job. */
const KEPT_FAILURES = 20;

/**
 * Folds one event into a job and returns the job. The first event must be `JobSubmitted`. The state is changed in
 * place, so that folding costs what changed and not what exists; given equal states and events the outcome is equal.
 *
 * @param at wall-clock milliseconds of the event
 * @throws Error when the first event is another one, or `JobSubmitted` comes twice: the journal is damaged
 */
export function evolve(state: JobState | null, event: JobEvent, at: number): JobState {
  if (event.type === 'JobSubmitted') {
    if (state !== null) throw new Error(`job ${state.definition.jobId} was submitted twice`);
    return submitted(event, at);
  }
  if (state === null) throw new Error(`${event.type} before JobSubmitted`);
  state.revision += 1;
  switch (event.type) {
    case 'LeaseGranted':
      state.leases.set(event.lease.leaseId, event.lease);
      state.nextSpan = Math.max(state.nextSpan, event.lease.span + 1);
      state.startedAt ??= at;
      state.reason = '';
      break;
    case 'LeaseShrunk': {
      const lease = state.leases.get(event.leaseId);
      if (lease) state.leases.set(event.leaseId, { ...lease, end: event.end });
      break;
    }
    case 'LeaseEnded':
      endLease(state, event.leaseId);
      if (event.failure) noteFailure(state, event.failure, event.retryAt ?? at);
      break;
    case 'AnchorCommitted':
      state.anchor = event.anchor;
      break;
    case 'ClipCommitted': {
      const { clip } = event.record;
      state.committed.set(clip, event.record);
      state.committedSet = withRange(state.committedSet, { start: clip, end: clip + 1 });
      state.troubles.delete(clip);
      state.headerHash ??= event.headerHash;
      state.lastCommitAt = at;
      if (countClips(state.committedSet) === state.definition.clips) state.status = 'stitching';
      break;
    }
    case 'ClipLost':
      state.committed.delete(event.clip);
      state.committedSet = withoutRange(state.committedSet, { start: event.clip, end: event.clip + 1 });
      if (state.committed.size === 0) state.headerHash = null;
      state.status = 'active';
      break;
    case 'ChunkSuperfluous':
      state.rerendered += 1;
      state.superfluous.add(`${event.leaseId}/${event.clip}`);
      break;
    case 'TermOpened':
      break;
    case 'JobPaused':
      state.paused = true;
      state.reason = event.reason;
      break;
    case 'JobResumed':
      state.paused = false;
      state.reason = '';
      break;
    case 'PriorityChanged':
      state.priority = event.priority;
      break;
    case 'JobCancelled':
      endJob(state, 'cancelled', event.reason, at);
      break;
    case 'JobFailed':
      endJob(state, 'failed', event.reason, at);
      break;
    case 'JobRetried':
      state.troubles.clear();
      state.unfitSlots.clear();
      if (event.anew) forgetCommitted(state);
      state.status = countClips(state.committedSet) === state.definition.clips ? 'stitching' : 'active';
      state.reason = event.reason;
      state.finishedAt = null;
      state.paused = false;
      break;
    case 'JobCompleted':
      state.result = event.result;
      endJob(state, 'completed', '', at);
      // Nothing more can come of it, and a farm that runs for months keeps thousands of these.
      state.finalSpans = committedSpans(state);
      state.committed.clear();
      state.pastLeases.clear();
      state.superfluous.clear();
      break;
    case 'JobExpired':
      state.expiredAt = at;
      break;
  }
  if (noticeTypeOf(state, event) !== null) state.noticedAt = state.revision;
  return state;
}

function submitted(event: Extract<JobEvent, { type: 'JobSubmitted' }>, at: number): JobState {
  return {
    definition: event.definition,
    submittedAt: at,
    startedAt: null,
    finishedAt: null,
    expiredAt: null,
    status: 'active',
    paused: false,
    reason: '',
    priority: event.priority,
    committedSet: clipSet(0, 0),
    committed: new Map(),
    lastCommitAt: null,
    leases: new Map(),
    pastLeases: new Map(),
    anchor: null,
    headerHash: null,
    nextSpan: 0,
    troubles: new Map(),
    unfitSlots: new Set(),
    failures: [],
    rerendered: 0,
    superfluous: new Set(),
    finalSpans: null,
    result: null,
    revision: 1,
    noticedAt: 1,
  };
}

/** Everything is rendered again, by those who committed it only where nobody else can. */
function forgetCommitted(state: JobState): void {
  for (const { nodeId, slotId } of state.committed.values()) state.unfitSlots.add(slotKey(nodeId, slotId));
  state.committed.clear();
  state.committedSet = clipSet(0, 0);
  state.headerHash = null;
}

function endLease(state: JobState, leaseId: string): void {
  const lease = state.leases.get(leaseId);
  if (!lease) return;
  state.leases.delete(leaseId);
  state.pastLeases.set(leaseId, {
    start: lease.start,
    grantedEnd: lease.grantedEnd,
    span: lease.span,
    nodeId: lease.nodeId,
    slotId: lease.slotId,
    preRoll: lease.preRoll,
    ...(lease.continues === undefined ? {} : { continues: lease.continues }),
  });
}

function endJob(state: JobState, status: JobState['status'], reason: string, at: number): void {
  state.status = status;
  state.reason = reason;
  state.finishedAt = at;
  state.paused = false;
}

function noteFailure(state: JobState, failure: AttemptFailure, retryAt: number): void {
  state.failures = [...state.failures, failure].slice(-KEPT_FAILURES);
  if (failure.failureClass === 'out_of_memory' || failure.failureClass === 'other_encoder')
    state.unfitSlots.add(slotKey(failure.nodeId, failure.slotId));
  const before = state.troubles.get(failure.clip) ?? NO_TROUBLE;
  const { failureClass } = failure;
  const counts = blamesClip(failureClass);
  state.troubles.set(failure.clip, {
    nodes: counts && !before.nodes.includes(failure.nodeId) ? [...before.nodes, failure.nodeId] : before.nodes,
    attempts: before.attempts + (counts ? 1 : 0),
    lostOn: failureClass === 'node_lost' ? [...before.lostOn, failure.nodeId] : before.lostOn,
    shortages: before.shortages + (failureClass === 'environment' ? 1 : 0),
    notBefore: retryAt,
  });
}
