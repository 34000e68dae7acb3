import { evolve } from '../core/evolve.ts';
import type { JobEvent } from '../core/job-events.ts';
import type { JobState } from '../core/job-model.ts';
import { unpackJob } from '../core/job-snapshot.ts';
import { snapshotState } from '../farm/stream.ts';
import type { Journal } from '../journal/journal.ts';
import { type JobNotice, noticeOf } from './job-notices.ts';

/** A notice and the position of its event in the job's history. */
export interface PlacedNotice {
  readonly position: number;
  readonly notice: JobNotice;
}

/** A stretch of a job's notices. */
export interface NoticeStretch {
  readonly notices: readonly PlacedNotice[];
  /** Position up to which the history was looked through. */
  readonly end: number;
}

/** A job's history, and until when it is read. */
export interface JobHistory {
  readonly journal: Journal;
  readonly jobId: string;
  readonly signal: AbortSignal;
}

/**
 * The notices of a job that come after a position. A notice says where the whole job stands, so the history is folded: from
 * the snapshot on where that reaches no further than the position, else from its beginning.
 *
 * @param limit most notices; it looks no further than the last of them
 * @throws what the journal throws when it can't be read; the signal's reason when it is aborted
 */
export async function noticesAfter(history: JobHistory, position: number, limit: number): Promise<NoticeStretch> {
  const { journal, jobId, signal } = history;
  const stream = `jobs/${jobId}`;
  const notices: PlacedNotice[] = [];
  let { job, end } = await jobAt(journal, stream, position);
  for await (const stored of journal.read(stream, end + 1)) {
    signal.throwIfAborted();
    const event = stored.data as JobEvent;
    job = evolve(job, event, stored.at);
    end = stored.position;
    if (end <= position) continue;
    const notice = noticeOf(job, event, stored.at);
    if (notice !== null) notices.push({ position: end, notice });
    if (notices.length === limit) break;
  }
  return { notices, end };
}

/** The job as its snapshot has it, if that reaches no further than the position. */
async function jobAt(
  journal: Journal,
  stream: string,
  position: number,
): Promise<{ job: JobState | null; end: number }> {
  const snapshot = position === 0 ? null : await journal.loadSnapshot(stream);
  const job = snapshot !== null && snapshot.position <= position ? unpackJob(snapshotState(snapshot)) : null;
  return { job, end: job?.revision ?? 0 };
}
