import { countClips } from './clip-ranges.ts';
import type { JobEvent } from './job-events.ts';
import type { JobState } from './job-model.ts';

/** What other services are told about a job. */
export const noticeTypes = [
  'job.accepted',
  /** The first clip was leased. */
  'job.started',
  /** Another twentieth of the clips is committed. */
  'job.progress',
  'job.paused',
  'job.resumed',
  'job.completed',
  'job.failed',
  'job.cancelled',
  'job.retried',
] as const;

/** One of {@link noticeTypes}. */
export type NoticeType = (typeof noticeTypes)[number];

/** Steps in which progress is told: 20 make one every 5 % of the clips. */
const PROGRESS_STEPS = 20;

/** Whether a notice is the last one, unless the job is retried. */
export function isFinal(type: NoticeType): boolean {
  return type === 'job.completed' || type === 'job.failed' || type === 'job.cancelled';
}

/**
 * What an event is to other services; null when it is nobody's concern outside the farm.
 *
 * @param job the job right after the event
 */
export function noticeTypeOf(job: JobState, event: JobEvent): NoticeType | null {
  switch (event.type) {
    case 'JobSubmitted':
      return 'job.accepted';
    case 'LeaseGranted':
      return event.lease.span === 0 ? 'job.started' : null;
    case 'ClipCommitted':
      return endsProgressStep(countClips(job.committedSet), job.definition.clips) ? 'job.progress' : null;
    case 'JobPaused':
      return 'job.paused';
    case 'JobResumed':
      return 'job.resumed';
    case 'JobCompleted':
      return 'job.completed';
    case 'JobFailed':
      return 'job.failed';
    case 'JobCancelled':
      return 'job.cancelled';
    case 'JobRetried':
      return 'job.retried';
    default:
      return null;
  }
}

/** Whether the commit that made it `committed` clips was the first one in a new step. */
function endsProgressStep(committed: number, clips: number): boolean {
  const step = (count: number) => Math.floor((count * PROGRESS_STEPS) / clips);
  return step(committed) > step(committed - 1);
}
