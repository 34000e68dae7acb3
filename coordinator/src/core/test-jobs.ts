import { type Decision, decide, type JobCommand } from './decide.ts';
import { evolve } from './evolve.ts';
import type { JobEvent } from './job-events.ts';
import type { ContentRef, JobDefinition, JobState } from './job-model.ts';

/** Jobs for tests and simulations; nothing of the product uses this file. */

/** A stored artifact with this name. */
export function contentRef(name: string): ContentRef {
  return { sha256: name, bytes: name.length };
}

/** Definition of a job `job-1` of owner `ann` with 100 clips of 48 frames; `given` replaces what a test is about. */
export function jobDefinition(given: Partial<JobDefinition> = {}): JobDefinition {
  const clips = given.clips ?? 100;
  return {
    jobId: 'job-1',
    name: 'a talk',
    owner: 'ann',
    prompt: '',
    imageSha256: 'image',
    audioSha256: 'audio',
    preset: 'delivery',
    size: '704*384',
    sampleSteps: 4,
    baseSeed: 420,
    anchorMode: 'image',
    width: 704,
    height: 384,
    clips,
    frames: clips * 48,
    audioSamples: clips * 48 * 1920,
    notes: [],
    reference: contentRef('reference'),
    modelAudio: contentRef('model-audio'),
    ...given,
  };
}

/** One event of a job and when it happened. */
export interface LoggedEvent {
  readonly event: JobEvent;
  /** Wall-clock milliseconds. */
  readonly at: number;
}

/** A job with its log: what the journal and the projection are to the coordinator, without either. */
export interface LoggedJob {
  readonly state: JobState;
  readonly log: LoggedEvent[];
}

/** Submits a job. */
export function submitJob(given: Partial<JobDefinition> = {}, priority = 0, at = 0): LoggedJob {
  const event: JobEvent = { type: 'JobSubmitted', definition: jobDefinition(given), priority };
  return { state: evolve(null, event, at), log: [{ event, at }] };
}

/** Decides a command and folds its events, as the coordinator does. */
export function execute(job: LoggedJob, command: JobCommand, at = 0): Decision {
  const decision = decide(job.state, command, at);
  if (decision.outcome === 'unchanged') return decision;
  for (const event of decision.events) {
    job.log.push({ event, at });
    evolve(job.state, event, at);
  }
  return decision;
}

/** The state that a restarted coordinator folds from what the journal holds, which is JSON; onto `from`, if given. */
export function refold(log: readonly LoggedEvent[], from: JobState | null = null): JobState {
  const stored = JSON.parse(JSON.stringify(log)) as readonly LoggedEvent[];
  const state = stored.reduce<JobState | null>((before, { event, at }) => evolve(before, event, at), from);
  if (state === null) throw new Error('the log is empty');
  return state;
}
