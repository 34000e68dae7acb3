import { isOver } from './decide.ts';
import type { JobState } from './job-model.ts';

/** How a job stands to its deadline. */
export interface DeadlineOutlook {
  /** `in_time` and `late` by the forecast; `met` and `missed` are facts; `unknown` where nothing can be said. */
  readonly outlook: 'unknown' | 'in_time' | 'late' | 'met' | 'missed';
  /** Seconds from the end, known or forecast, to the deadline; negative when that was or will be before it. */
  readonly marginSeconds: number;
}

const UNKNOWN: DeadlineOutlook = { outlook: 'unknown', marginSeconds: 0 };

/**
 * Where a job stands to its deadline.
 *
 * @param etaSeconds forecast of seconds until the video is there; negative when there is none
 * @param now wall-clock milliseconds
 */
export function deadlineOutlook(
  job: Pick<JobState, 'definition' | 'status' | 'finishedAt'>,
  etaSeconds: number,
  now: number,
): DeadlineOutlook {
  const { deadline } = job.definition;
  if (deadline === undefined) return UNKNOWN;
  const margin = (end: number) => (deadline - end) / 1000;
  if (isOver(job)) {
    const marginSeconds = margin(job.finishedAt ?? now);
    if (marginSeconds < 0) return { outlook: 'missed', marginSeconds };
    // Without a video, and before it was due: nobody can say what would have been.
    return job.status === 'completed' ? { outlook: 'met', marginSeconds } : UNKNOWN;
  }
  if (now > deadline) return { outlook: 'missed', marginSeconds: margin(now + Math.max(0, etaSeconds) * 1000) };
  return etaSeconds < 0 ? UNKNOWN : outlookByForecast(deadline, etaSeconds, now);
}

/**
 * Whether a deadline can be kept by the forecast.
 *
 * @param deadline wall-clock milliseconds, as `now`
 */
export function outlookByForecast(deadline: number, etaSeconds: number, now: number): DeadlineOutlook {
  const marginSeconds = (deadline - now) / 1000 - etaSeconds;
  return { outlook: marginSeconds < 0 ? 'late' : 'in_time', marginSeconds };
}
