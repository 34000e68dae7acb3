import { JobEvent as JobEventMessage, type JobEventType } from '@clipfarm/shared/gen/clipfarm/v1/job';
import type { JobEvent } from '../core/job-events.ts';
import type { LeaseHolder, PastEvent } from '../farm/job-history.ts';
import { shownReason } from './reason.ts';
import { timestamp } from './views.ts';

/** Event types of the core as the API names them; that a job expired nobody can ask for. */
const types = {
  JobSubmitted: 'JOB_EVENT_TYPE_SUBMITTED',
  LeaseGranted: 'JOB_EVENT_TYPE_LEASE_GRANTED',
  LeaseShrunk: 'JOB_EVENT_TYPE_LEASE_SHRUNK',
  LeaseEnded: 'JOB_EVENT_TYPE_LEASE_ENDED',
  AnchorCommitted: 'JOB_EVENT_TYPE_ANCHOR_COMMITTED',
  ClipCommitted: 'JOB_EVENT_TYPE_CLIP_COMMITTED',
  ClipLost: 'JOB_EVENT_TYPE_CLIP_LOST',
  ChunkSuperfluous: 'JOB_EVENT_TYPE_CHUNK_SUPERFLUOUS',
  TermOpened: 'JOB_EVENT_TYPE_TERM_OPENED',
  JobPaused: 'JOB_EVENT_TYPE_PAUSED',
  JobResumed: 'JOB_EVENT_TYPE_RESUMED',
  PriorityChanged: 'JOB_EVENT_TYPE_PRIORITY_CHANGED',
  JobCancelled: 'JOB_EVENT_TYPE_CANCELLED',
  JobFailed: 'JOB_EVENT_TYPE_FAILED',
  JobRetried: 'JOB_EVENT_TYPE_RETRIED',
  JobCompleted: 'JOB_EVENT_TYPE_COMPLETED',
  JobExpired: 'JOB_EVENT_TYPE_UNSPECIFIED',
} as const satisfies { readonly [T in JobEvent['type']]: JobEventType };

/**
 * An event of a job as an observer sees it.
 *
 * @param holders of the leases that events name; of one that is not among them only the identity is shown
 */
export function historyEntry(
  { event, position, at, term }: PastEvent,
  holders: ReadonlyMap<string, LeaseHolder>,
): JobEventMessage {
  const common = {
    position,
    term,
    at: timestamp(at),
    // A newer version may have written others.
    type: types[event.type] ?? 'JOB_EVENT_TYPE_UNSPECIFIED',
    reason: 'reason' in event ? shownReason(event.reason) : '',
    priority: 'priority' in event ? event.priority : 0,
  };
  return JobEventMessage.fromPartial({ ...common, ...subjectOf(event, holders) });
}

/** Lease, slot and clips that an event is about. */
function subjectOf(event: JobEvent, holders: ReadonlyMap<string, LeaseHolder>) {
  const holderOf = (leaseId: string) => {
    const holder = holders.get(leaseId);
    return { leaseId, nodeId: holder?.nodeId ?? '', slotId: holder?.slotId ?? '' };
  };
  switch (event.type) {
    case 'LeaseGranted': {
      const { leaseId, nodeId, slotId, start, end } = event.lease;
      return { leaseId, nodeId, slotId, start, end };
    }
    case 'LeaseShrunk':
      return { ...holderOf(event.leaseId), start: holders.get(event.leaseId)?.start ?? 0, end: event.end };
    case 'LeaseEnded': {
      const { failure, cause: outcome } = event;
      const clips = failure === undefined ? {} : { start: failure.clip, end: failure.clip + 1 };
      return { ...holderOf(event.leaseId), ...clips, outcome, failureClass: failure?.failureClass ?? '' };
    }
    case 'ClipCommitted': {
      const { leaseId, nodeId, slotId, clip } = event.record;
      return { leaseId, nodeId, slotId, start: clip, end: clip + 1 };
    }
    case 'ClipLost':
      return { start: event.clip, end: event.clip + 1 };
    case 'ChunkSuperfluous':
      return { ...holderOf(event.leaseId), start: event.clip, end: event.clip + 1 };
    case 'AnchorCommitted':
      return holderOf(event.leaseId);
    default:
      return {};
  }
}
