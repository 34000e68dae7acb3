import type { JobEvent } from './job-events.ts';
import { type JobState, type PastLease, slotKey } from './job-model.ts';
import { begunClip } from './job-progress.ts';
import type { OpenCall } from './schedule-model.ts';

/**
 * Notes what an event means for the model calls that runners keep open, by slot (`node/slot`): a lease that ended well
 * leaves its call open at the last clip that it delivered; the next one closes it or goes on in it. What is noted is a
 * presumption, good for a preference: a runner that has its call open no longer begins a new one.
 *
 * @param job with the event folded in
 */
export function noteOpenCall(calls: Map<string, OpenCall>, job: JobState, event: JobEvent): void {
  if (event.type === 'LeaseGranted') calls.delete(slotKey(event.lease.nodeId, event.lease.slotId));
  if (event.type !== 'LeaseEnded') return;
  const lease = job.pastLeases.get(event.leaseId);
  if (!lease) return;
  const key = slotKey(lease.nodeId, lease.slotId);
  const call = event.cause === 'completed' || event.cause === 'returned' ? callOf(job, event.leaseId, lease) : null;
  if (call) calls.set(key, call);
  else calls.delete(key);
}

function callOf(job: JobState, leaseId: string, lease: PastLease): OpenCall | null {
  const end = begunClip(job, { ...lease, leaseId, end: lease.grantedEnd });
  if (end <= lease.start) return null;
  return { jobId: job.definition.jobId, leaseId, begin: beginOf(job, lease), end };
}

/** First clip of the call that a lease is part of, if every lease went on in the one that it was to go on in. */
function beginOf(job: JobState, lease: PastLease): number {
  let first = lease;
  for (let seen = 0; first.continues !== undefined && seen < job.pastLeases.size; seen += 1) {
    const before = job.pastLeases.get(first.continues);
    if (!before) break;
    first = before;
  }
  return first.start - first.preRoll;
}
