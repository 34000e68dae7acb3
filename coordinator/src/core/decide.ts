import { type ClipSet, clipSet, hasClip, withoutRange, withoutSet } from './clip-ranges.ts';
import { judgeFailure } from './failure-policy.ts';
import type { JobEvent, LeaseEndCause } from './job-events.ts';
import {
  type AttemptFailure,
  type CommittedClip,
  type ContentRef,
  type FailureClass,
  type JobResultRecord,
  type JobState,
  type LeaseState,
  slotKey,
} from './job-model.ts';
import { begunClip, pendingClips, uncommittedClips } from './job-progress.ts';

/** Everything that can be asked of a job. */
export type JobCommand =
  | {
      readonly type: 'grant';
      readonly lease: Omit<LeaseState, 'span' | 'grantedAt' | 'grantedEnd'>;
      readonly reason: string;
    }
  | { readonly type: 'shrink'; readonly leaseId: string; readonly end: number; readonly reason: string }
  | { readonly type: 'commit'; readonly chunk: OfferedChunk }
  /** A chunk came that nobody wants any more. */
  | { readonly type: 'superfluous'; readonly leaseId: string; readonly clip: number }
  /** The stored chunk of a committed clip is gone or damaged: it has to be rendered again. */
  | { readonly type: 'loseClip'; readonly clip: number; readonly reason: string }
  | { readonly type: 'commitAnchor'; readonly leaseId: string; readonly anchor: ContentRef }
  | {
      readonly type: 'endLease';
      readonly leaseId: string;
      readonly cause: Extract<LeaseEndCause, 'returned' | 'revoked'>;
      readonly reason: string;
    }
  | {
      readonly type: 'failLease';
      readonly leaseId: string;
      readonly failureClass: FailureClass;
      readonly message: string;
      readonly clip: number;
      /** With `other_encoder`: codec headers of the refused chunk. */
      readonly headerHash?: string;
    }
  /** `currentClips`: clip in hand of each lease, which may still be finished. */
  | { readonly type: 'pause'; readonly reason: string; readonly currentClips: ReadonlyMap<string, number> }
  /** The job's leases on a node end after the clip in hand; `currentClips` as with `pause`. */
  | {
      readonly type: 'leaveNode';
      readonly nodeId: string;
      readonly reason: string;
      readonly currentClips: ReadonlyMap<string, number>;
    }
  | { readonly type: 'resume' }
  | { readonly type: 'cancel'; readonly reason: string }
  | { readonly type: 'retry' }
  | { readonly type: 'setPriority'; readonly priority: number }
  | { readonly type: 'complete'; readonly result: JobResultRecord }
  | { readonly type: 'fail'; readonly reason: string }
  /** `keepMillis`: how long a job is kept after it is over. */
  | { readonly type: 'expire'; readonly keepMillis: number };

/** A chunk whose content was verified, offered for commit. */
export interface OfferedChunk {
  readonly leaseId: string;
  readonly clip: number;
  readonly frames: number;
  readonly chunk: ContentRef;
  readonly headerHash: string;
  /** Span whose model call rendered it, where the lease went on in an earlier one. */
  readonly span?: number;
}

/** What became of a command. Refusals change nothing, except that a superfluous chunk is counted. */
export type Decision =
  | { readonly outcome: 'done'; readonly events: readonly JobEvent[] }
  /** Nothing to do: it is so already. */
  | { readonly outcome: 'unchanged' }
  /** The chunk is not wanted: another lease was first, or the job is over. */
  | { readonly outcome: 'not_wanted'; readonly reason: string; readonly events: readonly JobEvent[] }
  /** The command does not fit the job's state, or the chunk is wrong. */
  | {
      readonly outcome: 'refused';
      readonly reason: string;
      readonly events: readonly JobEvent[];
      /** How the attempt failed that a refused chunk is of, where it is not just a bad chunk. */
      readonly failureClass?: FailureClass;
    };

/** Message kept of a failure, in characters. */
const MAX_MESSAGE = 2000;

/**
 * What a command does to a job: events to append, or the reason why none. Pure: the same state, command and time give
 * the same decision.
 *
 * @param now wall-clock milliseconds
 */
export function decide(state: JobState, command: JobCommand, now: number): Decision {
  switch (command.type) {
    case 'grant':
      return grant(state, command, now);
    case 'shrink':
      return shrink(state, command.leaseId, command.end, command.reason);
    case 'commit':
      return commit(state, command.chunk);
    case 'superfluous':
      return superfluous(state, command.leaseId, command.clip);
    case 'loseClip':
      return loseClip(state, command.clip, command.reason);
    case 'commitAnchor':
      return commitAnchor(state, command.leaseId, command.anchor);
    case 'endLease': {
      if (!state.leases.has(command.leaseId)) return { outcome: 'unchanged' };
      return done({ type: 'LeaseEnded', leaseId: command.leaseId, cause: command.cause, reason: command.reason });
    }
    case 'failLease':
      return failLease(state, command, now);
    case 'pause':
      return pause(state, command.reason, command.currentClips);
    case 'leaveNode': {
      const own = [...state.leases.values()].filter(({ nodeId }) => nodeId === command.nodeId);
      const events = own.flatMap((lease) => afterClipInHand(state, lease, command.currentClips, command.reason));
      return events.length === 0 ? { outcome: 'unchanged' } : done(...events);
    }
    case 'resume':
      if (isOver(state)) return refused(`it can't be resumed; it is ${stateWord(state)}`);
      return state.paused ? done({ type: 'JobResumed' }) : { outcome: 'unchanged' };
    case 'cancel':
      if (state.status === 'cancelled') return { outcome: 'unchanged' };
      if (isOver(state)) return refused(`it can't be cancelled; it is ${stateWord(state)} already`);
      return done(...endLeases(state, 'the job is cancelled'), { type: 'JobCancelled', reason: command.reason });
    case 'retry':
      if (state.expiredAt !== null) return refused('the job has expired: its files are removed');
      if (state.status !== 'failed' && state.status !== 'cancelled') {
        return refused(`only a failed or cancelled job can be retried; it is ${stateWord(state)}`);
      }
      return done(
        isEncodedOddly(state)
          ? {
              type: 'JobRetried',
              reason: 'all clips are rendered again: other nodes encode them otherwise',
              anew: true,
            }
          : { type: 'JobRetried', reason: '' },
      );
    case 'setPriority':
      if (isOver(state)) return refused(`its priority means nothing any more; it is ${stateWord(state)} already`);
      if (state.priority === command.priority) return { outcome: 'unchanged' };
      return done({ type: 'PriorityChanged', priority: command.priority });
    case 'complete':
      if (state.status !== 'stitching') return refused(`the job is ${state.status}, not stitching`);
      return done({ type: 'JobCompleted', result: command.result });
    case 'fail':
      if (isOver(state)) return refused(`the job is ${state.status} already`);
      return done(...endLeases(state, 'the job failed'), { type: 'JobFailed', reason: command.reason });
    case 'expire':
      return expire(state, command.keepMillis, now);
  }
}

/** What the job's state is called where people see it. */
export type StateWord = Exclude<JobState['status'], 'active'> | 'queued' | 'rendering' | 'paused';

/** Where a job stands, in the words of the API. */
export function stateWord(state: JobState): StateWord {
  if (state.status !== 'active') return state.status;
  if (state.paused) return 'paused';
  return state.startedAt === null ? 'queued' : 'rendering';
}

/** Whether nothing more happens to the job unless it is retried. */
export function isOver(state: Pick<JobState, 'status'>): boolean {
  return state.status === 'completed' || state.status === 'failed' || state.status === 'cancelled';
}

function expire(state: JobState, keepMillis: number, now: number): Decision {
  if (state.expiredAt !== null) return { outcome: 'unchanged' };
  if (!isOver(state) || state.finishedAt === null) return refused('the job is not over');
  const left = state.finishedAt + keepMillis - now;
  return left > 0 ? refused(`the job is kept for another ${Math.ceil(left / 1000)} s`) : done({ type: 'JobExpired' });
}

function grant(state: JobState, command: Extract<JobCommand, { type: 'grant' }>, now: number): Decision {
  const { lease } = command;
  if (state.status !== 'active') return refused(`the job is ${state.status}`);
  if (state.paused) return refused('the job is paused');
  if (state.leases.has(lease.leaseId) || state.pastLeases.has(lease.leaseId)) return refused('the lease exists');
  if (lease.start < 0 || lease.start >= lease.end || lease.end > state.definition.clips) {
    return refused(`clips ${lease.start} to ${lease.end} are not within 0 to ${state.definition.clips}`);
  }
  if (lease.start > 0 ? lease.preRoll < 1 || lease.preRoll > lease.start : lease.preRoll !== 0) {
    return refused(`a pre-roll of ${lease.preRoll} does not suit a lease that starts at clip ${lease.start}`);
  }
  const free = lease.speculative ? uncommittedClips(state) : pendingClips(state);
  const taken = withoutSet(clipSet(lease.start, lease.end), free)[0];
  if (taken) return refused(`clip ${taken.start} is committed or leased already`);
  const granted: LeaseState = { ...lease, grantedEnd: lease.end, span: state.nextSpan, grantedAt: now };
  return done({ type: 'LeaseGranted', lease: granted, reason: command.reason });
}

function shrink(state: JobState, leaseId: string, end: number, reason: string): Decision {
  const lease = state.leases.get(leaseId);
  if (!lease || end >= lease.end) return { outcome: 'unchanged' };
  return done(...shrunk(state, lease, end, reason));
}

/** Events that take the clips from `end` on away from a lease; the whole lease when nothing of it is left to do. */
function shrunk(state: JobState, lease: LeaseState, end: number, reason: string): JobEvent[] {
  const lastWanted = uncommitted(state, { ...lease, end }).at(-1);
  if (lastWanted) return [{ type: 'LeaseShrunk', leaseId: lease.leaseId, end: lastWanted.end, reason }];
  const completed = end > lease.start;
  return [{ type: 'LeaseEnded', leaseId: lease.leaseId, cause: completed ? 'completed' : 'revoked', reason }];
}

function commit(state: JobState, offered: OfferedChunk): Decision {
  const { clip, leaseId } = offered;
  // It has forgotten its leases.
  if (state.status === 'completed') return { outcome: 'not_wanted', reason: 'the job is completed', events: [] };
  const lease = state.leases.get(leaseId) ?? state.pastLeases.get(leaseId);
  if (!lease) return refused(`lease ${leaseId} is not known to the job`);
  const known = state.committed.get(clip);
  if (known) {
    if (known.leaseId === leaseId && known.chunk.sha256 === offered.chunk.sha256) return { outcome: 'unchanged' };
    return { outcome: 'not_wanted', reason: `clip ${clip} was committed by lease ${known.leaseId}`, events: [] };
  }
  if (isOver(state)) return { outcome: 'not_wanted', reason: `the job is ${state.status}`, events: [] };
  if (clip < lease.start || clip >= lease.grantedEnd) return refused(`clip ${clip} is not of lease ${leaseId}`);
  const { span = lease.span } = offered;
  // Spans are numbered in the order of grants, so that of an earlier call is lower.
  if (span !== lease.span && (lease.continues === undefined || span > lease.span)) {
    return refused(`lease ${leaseId} has span ${lease.span}, the chunk says ${span}`);
  }
  if (state.headerHash !== null && state.headerHash !== offered.headerHash) {
    return otherEncoder(state, offered.headerHash, state.headerHash);
  }
  const record: CommittedClip = {
    clip,
    leaseId,
    span,
    nodeId: lease.nodeId,
    slotId: lease.slotId,
    chunk: offered.chunk,
    frames: offered.frames,
  };
  return done(
    { type: 'ClipCommitted', record, headerHash: offered.headerHash },
    ...leasesAfterCommit(state, clip, leaseId),
  );
}

/** Who is wrong does not show: it may be the node that was first. */
function otherEncoder(state: JobState, offered: string, known: string): Decision {
  const committers = [...new Set([...state.committed.values()].map(({ nodeId }) => nodeId))];
  const named = committers.slice(0, 3).join(', ') + (committers.length > 3 ? ' and others' : '');
  const hint = 'give all nodes the same FFmpeg and x264, then retry the job, or submit it anew';
  const reason = `its codec headers (${offered.slice(0, 12)}) differ from those of what node ${named} committed (${known.slice(0, 12)}): the nodes encode with different versions of FFmpeg or x264; ${hint}`;
  return { outcome: 'refused', reason, events: [], failureClass: 'other_encoder' };
}

/**
 * Whether the job failed because one node has committed everything so far, and two others that agree with each other could
 * add nothing to it.
 */
function isEncodedOddly(state: JobState): boolean {
  if (state.status !== 'failed' || state.failures.at(-1)?.failureClass !== 'other_encoder') return false;
  const committers = new Set([...state.committed.values()].map(({ nodeId }) => nodeId));
  if (committers.size !== 1) return false;
  const others = new Map<string, Set<string>>();
  for (const { headerHash, nodeId } of state.failures) {
    if (headerHash === undefined || headerHash === state.headerHash || committers.has(nodeId)) continue;
    others.set(headerHash, (others.get(headerHash) ?? new Set()).add(nodeId));
  }
  return [...others.values()].some((nodes) => nodes.size > 1);
}

/** Leases that have nothing left to do once `clip` is committed end; those whose tail is committed get shorter. */
function leasesAfterCommit(state: JobState, clip: number, committer: string): JobEvent[] {
  return [...state.leases.values()].flatMap((lease): JobEvent[] => {
    if (clip < lease.start || clip >= lease.end) return [];
    const left = withoutRange(uncommitted(state, lease), { start: clip, end: clip + 1 });
    const end = left.at(-1)?.end;
    if (end === undefined) {
      const cause = lease.leaseId === committer ? 'completed' : 'superseded';
      return [{ type: 'LeaseEnded', leaseId: lease.leaseId, cause, reason: `clip ${clip} was the last one` }];
    }
    if (end === lease.end) return [];
    return [{ type: 'LeaseShrunk', leaseId: lease.leaseId, end, reason: 'its last clips are committed' }];
  });
}

/** A lost clip is to be rendered again; leases that have passed it end, because they would keep it from others. */
function loseClip(state: JobState, clip: number, reason: string): Decision {
  if (isOver(state) || !state.committed.has(clip)) return { outcome: 'unchanged' };
  const passed = [...state.leases.values()].filter(
    (l) => l.start <= clip && clip < Math.min(l.end, begunClip(state, l)),
  );
  const why = `clip ${clip} has to be rendered again`;
  const ends = passed.map(({ leaseId }) => ({ type: 'LeaseEnded', leaseId, cause: 'revoked', reason: why }) as const);
  return done(...ends, { type: 'ClipLost', clip, reason });
}

/** Counts a chunk that came for a clip which another lease had committed, once, however often it is offered. */
function superfluous(state: JobState, leaseId: string, clip: number): Decision {
  const known = state.committed.get(clip);
  const lease = state.leases.get(leaseId) ?? state.pastLeases.get(leaseId);
  if (!known) return { outcome: 'not_wanted', reason: `the job is ${state.status}`, events: [] };
  const reason = `clip ${clip} was committed by lease ${known.leaseId}`;
  const counts = lease !== undefined && known.leaseId !== leaseId && !state.superfluous.has(`${leaseId}/${clip}`);
  return { outcome: 'not_wanted', reason, events: counts ? [{ type: 'ChunkSuperfluous', clip, leaseId, reason }] : [] };
}

function commitAnchor(state: JobState, leaseId: string, anchor: ContentRef): Decision {
  if (isOver(state)) return refused(`the job is ${state.status}`);
  if (state.definition.anchorMode !== 'first_frame') return refused('the job uses the image as its anchor');
  if (!state.leases.has(leaseId) && !state.pastLeases.has(leaseId))
    return refused(`lease ${leaseId} is not known to the job`);
  if (state.anchor) return { outcome: 'unchanged' };
  return done({ type: 'AnchorCommitted', anchor, leaseId });
}

function failLease(state: JobState, command: Extract<JobCommand, { type: 'failLease' }>, now: number): Decision {
  const lease = state.leases.get(command.leaseId);
  if (!lease) return { outcome: 'unchanged' };
  const left = uncommitted(state, lease);
  const blamed = hasClip(left, command.clip) ? command.clip : (left[0]?.start ?? lease.start);
  const failure: AttemptFailure = {
    nodeId: lease.nodeId,
    slotId: lease.slotId,
    clip: blamed,
    failureClass: command.failureClass,
    message: command.message.slice(0, MAX_MESSAGE),
    at: now,
    ...(command.headerHash === undefined ? {} : { headerHash: command.headerHash }),
  };
  const unfit = state.unfitSlots.has(slotKey(lease.nodeId, lease.slotId));
  const verdict = judgeFailure(failure, state.troubles.get(blamed), unfit);
  const cause = command.failureClass === 'node_lost' ? 'lost' : 'failed';
  const ended = { type: 'LeaseEnded', leaseId: lease.leaseId, cause, reason: failure.message, failure } as const;
  if (verdict.action === 'fail_job') {
    const others = endLeases(state, 'the job failed').filter((e) => e.leaseId !== lease.leaseId);
    return done(ended, ...others, { type: 'JobFailed', reason: verdict.reason });
  }
  return done({ ...ended, retryAt: verdict.retryAt });
}

function pause(state: JobState, reason: string, currentClips: ReadonlyMap<string, number>): Decision {
  if (state.status !== 'active') return refused(`it can't be paused; it is ${stateWord(state)}`);
  if (state.paused) return { outcome: 'unchanged' };
  const shrinks = [...state.leases.values()].flatMap((lease) =>
    afterClipInHand(state, lease, currentClips, 'the job is paused'),
  );
  return done({ type: 'JobPaused', reason }, ...shrinks);
}

/** Events that end a lease after the clip in hand, which may still be finished. */
function afterClipInHand(
  state: JobState,
  lease: LeaseState,
  currentClips: ReadonlyMap<string, number>,
  reason: string,
): JobEvent[] {
  // What such a lease has rendered comes at its end; it would be lost.
  if (lease.fixedEnd) return [];
  const begun = begunClip(state, lease);
  const end = Math.max(currentClips.get(lease.leaseId) ?? begun, begun) + 1;
  return end < lease.end ? shrunk(state, lease, end, reason) : [];
}

/** Ends every lease, so that each one's end is an event of its own and its agent is told. */
function endLeases(state: JobState, reason: string) {
  return [...state.leases.keys()].map(
    (leaseId) => ({ type: 'LeaseEnded', leaseId, cause: 'revoked', reason }) as const,
  );
}

/** Clips of a lease that are not committed. */
function uncommitted(state: JobState, lease: Pick<LeaseState, 'start' | 'end'>): ClipSet {
  return withoutSet(clipSet(lease.start, lease.end), state.committedSet);
}

function done(...events: readonly JobEvent[]): Decision {
  return { outcome: 'done', events };
}

function refused(reason: string): Decision {
  return { outcome: 'refused', reason, events: [] };
}
