import type { Logger } from '@clipfarm/shared/log';
import type { Metrics } from '../admin/metrics.ts';
import { hangSeconds } from '../core/hang-limits.ts';
import type { JobEvent } from '../core/job-events.ts';
import type { JobState, LeaseState } from '../core/job-model.ts';
import type { Fleet } from './fleet.ts';
import type { Links } from './links.ts';
import type { Nodes } from './nodes.ts';

/** What the announcer works with. */
export interface AnnouncerParts {
  readonly nodes: Nodes;
  readonly fleet: Fleet;
  readonly links: Links;
  readonly metrics: Metrics;
  readonly log: Logger;
  readonly term: number;
  readonly hangFloorSeconds: number;
}

/**
 * Tells the world about events that are durable by now: agents get their grants, shrinks and revocations, operators a
 * log line, Prometheus a count. The three agree because they come from the same event.
 */
export function announceJobEvent(parts: AnnouncerParts, job: JobState, event: JobEvent): void {
  const { links, metrics, term } = parts;
  logEvent(parts, job, event);
  switch (event.type) {
    case 'LeaseGranted':
      links.send(event.lease.nodeId, { $case: 'grant', value: grantMessage(parts, job, event.lease) });
      return;
    case 'LeaseShrunk': {
      const lease = job.leases.get(event.leaseId);
      if (lease) links.send(lease.nodeId, { $case: 'shrink', value: { term, leaseId: lease.leaseId, end: event.end } });
      return;
    }
    case 'LeaseEnded': {
      const lease = job.pastLeases.get(event.leaseId);
      metrics.leases.inc({ outcome: event.cause });
      if (lease && event.cause !== 'completed') {
        links.send(lease.nodeId, { $case: 'revoke', value: { term, leaseId: event.leaseId, reason: event.reason } });
      }
      if (event.failure) noteFailure(parts, job, event.failure);
      return;
    }
    case 'ClipLost':
      metrics.clipsLost.inc();
      return;
    case 'ChunkSuperfluous':
      metrics.clipsRerendered.inc();
      return;
  }
}

function noteFailure(
  parts: AnnouncerParts,
  job: JobState,
  failure: NonNullable<Extract<JobEvent, { type: 'LeaseEnded' }>['failure']>,
): void {
  const { failureClass, nodeId, slotId, at, clip } = failure;
  parts.metrics.attemptFailures.inc({ class: failureClass });
  parts.nodes.noteFailure(nodeId, { at, failureClass, jobId: job.definition.jobId, clip, slotId }).then(
    (reason) => reason !== null && parts.log.warn({ ...parts.nodes.fieldsOf(nodeId), reason }, 'node quarantined'),
    (error: unknown) =>
      parts.log.error({ err: error, ...parts.nodes.fieldsOf(nodeId) }, 'a quarantine could not be recorded'),
  );
}

function grantMessage(parts: AnnouncerParts, job: JobState, lease: LeaseState) {
  const { definition } = job;
  const slot = parts.fleet.slot(lease.nodeId, lease.slotId);
  const expected = slot ? parts.fleet.secondsPerClip(slot, definition) : 0;
  const anchored = definition.anchorMode === 'first_frame' && lease.start > 0;
  return {
    term: parts.term,
    leaseId: lease.leaseId,
    slotId: lease.slotId,
    jobId: definition.jobId,
    span: lease.span,
    start: lease.start,
    end: lease.end,
    preRoll: lease.preRoll,
    continues: lease.continues ?? '',
    expectedSecondsPerClip: expected,
    hangSeconds: hangSeconds(expected, slot?.warmUpSeconds ?? 0, parts.hangFloorSeconds),
    task: {
      width: definition.width,
      height: definition.height,
      clips: definition.clips,
      frames: definition.frames,
      sampleSteps: definition.sampleSteps,
      baseSeed: definition.baseSeed,
      prompt: definition.prompt,
      reference: definition.reference,
      audio: definition.modelAudio,
      anchor: anchored && job.anchor ? job.anchor : undefined,
      makeAnchor: definition.anchorMode === 'first_frame' && lease.start === 0 && job.anchor === null,
    },
  };
}

/** The node and slot that have, or had, a lease; nothing where the job has forgotten it. */
function holderOf(nodes: Nodes, job: JobState, leaseId: string) {
  const lease = job.leases.get(leaseId) ?? job.pastLeases.get(leaseId);
  return lease === undefined ? {} : { ...nodes.fieldsOf(lease.nodeId), slot_id: lease.slotId };
}

function logEvent({ log, nodes }: Pick<AnnouncerParts, 'log' | 'nodes'>, job: JobState, event: JobEvent): void {
  const job_id = job.definition.jobId;
  switch (event.type) {
    case 'JobSubmitted': {
      const { width, height, clips, frames, owner, name } = event.definition;
      log.info({ job_id, job: name, owner, width, height, clips, frames, priority: event.priority }, 'job accepted');
      return;
    }
    case 'LeaseGranted': {
      const { leaseId, nodeId, slotId, start, end, preRoll, speculative, continues } = event.lease;
      const fields = { job_id, lease_id: leaseId, ...nodes.fieldsOf(nodeId), slot_id: slotId, start, end };
      log.info({ ...fields, pre_roll: preRoll, speculative, continues, reason: event.reason }, 'lease granted');
      return;
    }
    case 'LeaseShrunk':
      log.info(
        {
          job_id,
          lease_id: event.leaseId,
          ...holderOf(nodes, job, event.leaseId),
          end: event.end,
          reason: event.reason,
        },
        'lease shrunk',
      );
      return;
    case 'LeaseEnded': {
      const holder = holderOf(nodes, job, event.leaseId);
      const fields = { job_id, lease_id: event.leaseId, ...holder, cause: event.cause, reason: event.reason };
      if (event.failure)
        log.warn({ ...fields, class: event.failure.failureClass, clip: event.failure.clip }, 'lease failed');
      else log.info(fields, 'lease ended');
      return;
    }
    case 'ClipCommitted':
      log.debug(
        { job_id, clip: event.record.clip, lease_id: event.record.leaseId, frames: event.record.frames },
        'clip committed',
      );
      return;
    case 'ClipLost':
      log.error(
        { job_id, clip: event.clip, reason: event.reason },
        'a committed clip is gone; it is rendered again: check the disk or bucket that holds the artifacts',
      );
      return;
    case 'AnchorCommitted':
      log.info({ job_id, sha256: event.anchor.sha256 }, 'anchor committed');
      return;
    case 'ChunkSuperfluous':
      log.info({ job_id, clip: event.clip, lease_id: event.leaseId, reason: event.reason }, 'clip was rendered twice');
      return;
    case 'JobCompleted':
      log.info({ job_id, frames: event.result.frames, finish_millis: event.result.finishMillis }, 'job completed');
      return;
    case 'JobFailed':
      log.error({ job_id, reason: event.reason }, 'job failed');
      return;
    case 'TermOpened':
      log.debug({ job_id, term: event.term }, 'job taken over');
      return;
    case 'JobExpired':
      log.info({ job_id, status: job.status }, 'job expired: it is removed');
      return;
    case 'JobPaused':
      log.info({ job_id, reason: event.reason }, 'job paused');
      return;
    case 'JobCancelled':
      log.info({ job_id, reason: event.reason }, 'job cancelled');
      return;
    case 'JobRetried':
      log.info({ job_id, ...(event.reason === '' ? {} : { reason: event.reason }) }, 'job taken up again');
      return;
    case 'JobResumed':
      log.info({ job_id }, 'job resumed');
      return;
    case 'PriorityChanged':
      log.info({ job_id, priority: event.priority }, 'priority of the job changed');
      return;
  }
}
