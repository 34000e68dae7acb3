import { isOver } from '../core/decide.ts';
import type { JobState } from '../core/job-model.ts';

/**
 * Says how far the notices of some jobs are delivered, or given up, to one endpoint: job to position in its history.
 * Small, because it is written about once a second while there is something to deliver.
 */
export interface CursorsMoved {
  readonly type: 'CursorsMoved';
  readonly open: Readonly<Record<string, number>>;
  /** Those whose last notice it was. */
  readonly done: Readonly<Record<string, number>>;
}

/** What an endpoint has been told, folded from {@link CursorsMoved}. Owned by the fold; everyone else only reads. */
export interface DeliveryState {
  /** Job to the position up to which everything is delivered. */
  readonly open: Map<string, number>;
  /** The same of jobs whose last notice is delivered, with the time of the event; dropped after {@link MARK_KEPT_MILLIS}. */
  readonly done: Map<string, { readonly position: number; readonly at: number }>;
  /** Wall-clock milliseconds of the last event, as far as they are believed: see {@link STEP_MILLIS}. */
  at: number;
}

/** Where one job is to go on. */
export interface Cursor {
  readonly position: number;
  /** Its last notice is delivered. */
  readonly done: boolean;
}

/**
 * A job that ended this long before the last event, and of which nothing is recorded, has been told in full. Nothing of a
 * job that ended later can be missing from the record: its mark would still be there, whatever the clocks of two leaders
 * say.
 */
export const SETTLED_AFTER_MILLIS = 24 * 3_600_000;

const MARK_KEPT_MILLIS = 2 * SETTLED_AFTER_MILLIS;

/**
 * The time goes on by at most this much with each event, and back at once. An event whose clock was far ahead can't have
 * what is not told yet count as told. A time that lags behind only keeps marks for longer: those of some thousand events.
 */
const STEP_MILLIS = 60_000;

/** Jobs in one event, so that it stays well below the journal's limit. */
const MAX_JOBS_PER_EVENT = 1000;

/** Of an endpoint that has been told nothing. */
export function emptyDeliveryState(): DeliveryState {
  return { open: new Map(), done: new Map(), at: 0 };
}

/**
 * Folds an event. A cursor never moves back, so that it does not matter in which order two coordinators say what they
 * know.
 *
 * @param at wall-clock milliseconds of the event
 */
export function moveCursors(state: DeliveryState, event: CursorsMoved, at: number): void {
  state.at = state.at === 0 ? at : Math.min(at, state.at + STEP_MILLIS);
  for (const [jobId, position] of Object.entries(event.open)) {
    if (position <= reached(state, jobId)) continue;
    state.done.delete(jobId);
    state.open.set(jobId, position);
  }
  for (const [jobId, position] of Object.entries(event.done)) {
    if (position < reached(state, jobId)) continue;
    state.open.delete(jobId);
    state.done.set(jobId, { position, at });
  }
  for (const [jobId, mark] of state.done) if (mark.at < state.at - MARK_KEPT_MILLIS) state.done.delete(jobId);
}

/**
 * The position up to which the job is told; 0 for a job of which nothing is recorded, null when all of it is told: what
 * happened since is nothing that anybody is told of.
 */
export function toldUpTo(state: DeliveryState, job: JobState): number | null {
  const { jobId } = job.definition;
  const recorded = state.open.get(jobId) ?? state.done.get(jobId)?.position;
  if (recorded !== undefined) return recorded < job.noticedAt ? recorded : null;
  const endedAt = isOver(job) ? job.finishedAt : null;
  return endedAt !== null && endedAt < state.at - SETTLED_AFTER_MILLIS ? null : 0;
}

/**
 * Cursors of an endpoint that is new: it hears of what happens from now on.
 *
 * @param since wall-clock milliseconds; jobs submitted later are told from their beginning
 */
export function cursorsFromNowOn(jobs: readonly JobState[], since: number): Map<string, Cursor> {
  const old = jobs.filter((job) => job.submittedAt < since);
  return new Map(old.map((job) => [job.definition.jobId, { position: job.revision, done: isOver(job) }]));
}

/** The events that record cursors; at least one. */
export function cursorEvents(cursors: ReadonlyMap<string, Cursor>): CursorsMoved[] {
  const all = [...cursors];
  const events: CursorsMoved[] = [];
  do {
    const some = all.splice(0, MAX_JOBS_PER_EVENT);
    const pick = (done: boolean) =>
      Object.fromEntries(some.filter(([, c]) => c.done === done).map(([jobId, c]) => [jobId, c.position]));
    events.push({ type: 'CursorsMoved', open: pick(false), done: pick(true) });
  } while (all.length > 0);
  return events;
}

function reached(state: DeliveryState, jobId: string): number {
  return state.open.get(jobId) ?? state.done.get(jobId)?.position ?? 0;
}
