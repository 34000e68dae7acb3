import { countClips } from '../core/clip-ranges.ts';
import type { JobEvent } from '../core/job-events.ts';
import type { JobState } from '../core/job-model.ts';
import { type NoticeType, noticeTypeOf } from '../core/notice-type.ts';

/** Where a job stands, as users see it. */
export type JobStateName = 'queued' | 'rendering' | 'paused' | 'stitching' | 'completed' | 'failed' | 'cancelled';

/**
 * The job right after the event. Times are ISO 8601 in UTC. Of what the submitter wrote only name and owner are in it:
 * no prompt, and nothing of image or sound.
 */
export interface NoticedJob {
  readonly id: string;
  readonly name: string;
  readonly owner: string;
  readonly state: JobStateName;
  /** Why it is in this state, for people; empty when there is nothing to say. At most 1000 characters. */
  readonly reason: string;
  readonly priority: number;
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;
  /** Frames of the video, at 25 a second. */
  readonly frames: number;
  readonly clips: number;
  readonly clips_committed: number;
  readonly submitted_at: string;
  readonly deadline: string | null;
  readonly started_at: string | null;
  readonly finished_at: string | null;
  /** The video of a completed job. */
  readonly result: {
    /** Hex. */
    readonly sha256: string;
    readonly bytes: number;
    readonly frames: number;
    readonly video_seconds: number;
    readonly audio_seconds: number;
  } | null;
}

/** What other services get, as JSON. Fields may be added within a version; none is removed or changes its meaning. */
export interface JobNotice {
  readonly version: 1;
  /** `<job>/<position of the event in the job's history>`: grows within a job, and is the same in every repetition. */
  readonly id: string;
  readonly type: NoticeType;
  /** When it happened, ISO 8601 in UTC. */
  readonly at: string;
  readonly job: NoticedJob;
}

const MAX_REASON = 1000;

/** Milliseconds from 1970 to the last date that JavaScript has. */
const LAST_DATE = 8.64e15;

/**
 * What to tell about an event, or null when it is nobody's concern outside the farm. The same history gives the same
 * notices, byte for byte, whoever leads.
 *
 * @param job the job right after the event
 * @param at wall-clock milliseconds of the event
 */
export function noticeOf(job: JobState, event: JobEvent, at: number): JobNotice | null {
  const type = noticeTypeOf(job, event);
  if (type === null) return null;
  const { jobId } = job.definition;
  return { version: 1, id: `${jobId}/${job.revision}`, type, at: iso(at), job: noticedJob(job) };
}

function noticedJob(job: JobState): NoticedJob {
  const { definition, result } = job;
  return {
    id: definition.jobId,
    name: definition.name,
    owner: definition.owner,
    state: stateName(job),
    reason: job.reason.slice(0, MAX_REASON).toWellFormed(),
    priority: job.priority,
    width: definition.width,
    height: definition.height,
    frames: definition.frames,
    clips: definition.clips,
    clips_committed: countClips(job.committedSet),
    submitted_at: iso(job.submittedAt),
    deadline: isoOrNull(definition.deadline),
    started_at: isoOrNull(job.startedAt),
    finished_at: isoOrNull(job.finishedAt),
    result: result && {
      sha256: result.video.sha256,
      bytes: result.video.bytes,
      frames: result.frames,
      video_seconds: result.videoSeconds,
      audio_seconds: result.audioSeconds,
    },
  };
}

function stateName(job: JobState): JobStateName {
  if (job.status !== 'active') return job.status;
  if (job.paused) return 'paused';
  return job.startedAt === null ? 'queued' : 'rendering';
}

function isoOrNull(millis: number | null | undefined): string | null {
  return millis === null || millis === undefined ? null : iso(millis);
}

/** Nobody checks how far off a deadline is, and a date has an end. */
function iso(millis: number): string {
  return new Date(Math.max(-LAST_DATE, Math.min(LAST_DATE, millis))).toISOString();
}
