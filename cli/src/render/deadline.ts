import { DeadlineOutlook, type Job } from '@clipfarm/shared/gen/clipfarm/v1/job';
import type { Timestamp } from '@clipfarm/shared/gen/google/protobuf/timestamp';
import { isFinal } from '../farm/job-state.ts';
import type { Style } from './style.ts';
import { age, dateOf } from './units.ts';

/** What a job or a plan says about its deadline. */
export interface Outlook {
  readonly deadlineOutlook: DeadlineOutlook;
  /** Seconds from the end to the deadline; negative when it comes first. */
  readonly deadlineMarginSeconds: number;
}

/** A deadline and whether a plan keeps it by the forecast; undefined without one. */
export function plannedDeadline(deadline: Timestamp | undefined, plan: Outlook, style: Style): string | undefined {
  return deadline === undefined ? undefined : withVerdict(deadline, forecastVerdict(plan), plan, style);
}

/** A job's deadline and whether it is kept; undefined without one. */
export function jobDeadline(job: Job, style: Style): string | undefined {
  const deadline = job.spec?.deadline;
  return deadline === undefined ? undefined : withVerdict(deadline, verdict(job), job, style);
}

/** One line for who waits for a job that misses its deadline, or will by the forecast; undefined for all others. */
export function deadlineWarning(job: Job): string | undefined {
  const deadline = job.spec?.deadline;
  if (deadline === undefined || !isLate(job)) return undefined;
  return `the deadline ${timeText(deadline)} is ${verdict(job)}`;
}

/** A job's deadline for a table: when, and a word where it is decided or in danger. */
export function shortDeadline(job: Job): string {
  const deadline = job.spec?.deadline;
  if (deadline === undefined) return '-';
  const words = {
    [DeadlineOutlook.DEADLINE_OUTLOOK_LATE]: ' late',
    [DeadlineOutlook.DEADLINE_OUTLOOK_MET]: ' met',
    [DeadlineOutlook.DEADLINE_OUTLOOK_MISSED]: ' missed',
    [DeadlineOutlook.DEADLINE_OUTLOOK_IN_TIME]: '',
    [DeadlineOutlook.DEADLINE_OUTLOOK_UNSPECIFIED]: '',
  };
  return `${timeText(deadline).replace(/:\d\dZ$/, 'Z')}${words[job.deadlineOutlook]}`;
}

function isLate({ deadlineOutlook }: Outlook): boolean {
  return (
    deadlineOutlook === DeadlineOutlook.DEADLINE_OUTLOOK_LATE ||
    deadlineOutlook === DeadlineOutlook.DEADLINE_OUTLOOK_MISSED
  );
}

function withVerdict(deadline: Timestamp, said: string, outlook: Outlook, style: Style): string {
  if (said === '') return timeText(deadline);
  return `${timeText(deadline)}, ${isLate(outlook) ? style.warn(said) : said}`;
}

function verdict(job: Job): string {
  const { deadlineOutlook, deadlineMarginSeconds, etaSeconds } = job;
  const span = age(Math.abs(deadlineMarginSeconds));
  const over = isFinal(job.state);
  if (deadlineOutlook === DeadlineOutlook.DEADLINE_OUTLOOK_MET) return `met with ${span} to spare`;
  if (deadlineOutlook === DeadlineOutlook.DEADLINE_OUTLOOK_MISSED) {
    if (over) return `missed by ${span}`;
    return etaSeconds < 0 ? `missed, ${span} ago` : `missed, by about ${span} in the end`;
  }
  // Of a job that ended without a video before it, there is nothing to say.
  return over ? '' : forecastVerdict(job);
}

function forecastVerdict({ deadlineOutlook, deadlineMarginSeconds }: Outlook): string {
  const span = age(Math.abs(deadlineMarginSeconds));
  if (deadlineOutlook === DeadlineOutlook.DEADLINE_OUTLOOK_IN_TIME)
    return `kept by the forecast, with ${span} to spare`;
  if (deadlineOutlook === DeadlineOutlook.DEADLINE_OUTLOOK_LATE) return `missed by the forecast, by ${span}`;
  return 'no forecast now';
}

/** To the second, as nobody sets milliseconds. Other clients may set what no calendar has. */
function timeText(time: Timestamp): string {
  const date = dateOf(time);
  if (date === undefined || Number.isNaN(date.getTime())) return `${time.seconds} s after 1970`;
  return date.toISOString().replace(/\.\d+Z$/, 'Z');
}
