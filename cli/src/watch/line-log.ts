import { isFinal } from '../farm/job-state.ts';
import { progressSummary } from '../render/progress.ts';
import type { ProgressView } from '../render/progress-view.ts';
import { duration } from '../render/units.ts';

/** Turns what happens to a job into lines for a log; it answers undefined where nothing is worth a line. */
export interface LineLog {
  /** @param nowMillis milliseconds on the clock that {@link createLineLog} was given. */
  job(view: ProgressView, nowMillis: number): string | undefined;
  outage(text: string, nowMillis: number): string | undefined;
}

/** Milliseconds between lines that only count clips; changes of state or lease are never held back. */
const QUIET_MS = 2000;

/** @param startMillis milliseconds; lines begin with the time since then. */
export function createLineLog(startMillis: number): LineLog {
  let shown = '';
  let shape = '';
  let committed = -1;
  let outage = '';
  let lastMillis = Number.NEGATIVE_INFINITY;
  const line = (text: string, nowMillis: number): string | undefined => {
    if (text === shown) return undefined;
    shown = text;
    lastMillis = nowMillis;
    return `${duration((nowMillis - startMillis) / 1000).padStart(5)}  ${text}`;
  };
  return {
    job(view, nowMillis) {
      outage = '';
      const next = shapeOf(view);
      const counted = view.job.clipsCommitted !== committed && nowMillis - lastMillis >= QUIET_MS;
      if (next === shape && !counted && !isFinal(view.job.state)) return undefined;
      shape = next;
      committed = view.job.clipsCommitted;
      return line(progressSummary(view), nowMillis);
    },
    outage(text, nowMillis) {
      if (text === outage) return undefined;
      outage = text;
      return line(text, nowMillis);
    },
  };
}

/** What makes a line of its own when it changes: the state, its reason, how it stands to its deadline, and who has which clips. */
function shapeOf({ job }: ProgressView): string {
  const leases = job.leases.map((lease) => `${lease.leaseId}:${lease.start}-${lease.end}`).sort();
  return [job.state, job.stateReason, job.deadlineOutlook, ...leases].join(' ');
}
