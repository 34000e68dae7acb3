import { type Job, JobState } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { FPS } from '@clipfarm/shared/model/clip';
import { isFinal, jobStateWords } from '../farm/job-state.ts';
import { deadlineWarning } from './deadline.ts';
import type { ProgressView, SlotView } from './progress-view.ts';
import { bar, type StripCell, strip, stripLegend } from './strip.ts';
import type { Style } from './style.ts';
import { padEnd, padStart, printable, truncate, widthOf } from './text.ts';
import { count, duration, mediaLength, percent, speed } from './units.ts';

/** Where and how the progress is drawn. */
export interface ProgressLayout {
  /** Columns of the terminal; nothing is drawn beyond. */
  readonly width: number;
  /** Most lines for slots. */
  readonly slotLines: number;
  /** Seconds since the job was last heard of; forecasts go down by them. */
  readonly staleSeconds: number;
  /** Something that must be seen, for example that the coordinator is away. */
  readonly warning?: string;
}

/** Columns of the bar within a slot's line. */
const SLOT_BAR = 12;

/** The live display: title, bar, strip with legend, one line per slot. Pure; golden tests fix it. */
export function renderProgress(view: ProgressView, layout: ProgressLayout, style: Style): string[] {
  const { width } = layout;
  const cells = strip(view.clips, width);
  const letters = view.slots.map((slot) => slot.letter);
  const lines = [title(view.job, width, style), barLine(view.job, layout, style)];
  if (cells.length > 0) {
    lines.push(paintStrip(cells, style), style.dim(stripLegend(cells, letters)));
  }
  lines.push(...slotLines(view.slots, layout, style));
  const reason = layout.warning ?? waitingReason(view.job);
  for (const text of [reason, deadlineWarning(view.job)]) {
    if (text !== undefined) lines.push(style.warn(truncate(printable(text), width)));
  }
  return lines;
}

/** The numbers of a job in one line, as for a log file. */
export function progressSummary(view: ProgressView): string {
  const { job } = view;
  const total = job.plan?.clips ?? 0;
  const parts = [
    jobStateWords[job.state],
    `${job.clipsCommitted}/${total} clips`,
    percent(total === 0 ? 0 : job.clipsCommitted / total),
  ];
  if (job.speed > 0) parts.push(`${speed(job.speed)} real time`);
  if (job.etaSeconds >= 0) parts.push(`${duration(job.etaSeconds)} left`);
  const leases = view.slots.flatMap(({ label, lease, doing }) =>
    lease === undefined ? [] : [`${label} ${lease.start}-${lease.end - 1} ${doing}`],
  );
  const reason = waitingReason(job);
  const remarks = [reason, deadlineWarning(job)].filter((text) => text !== undefined);
  return printable([...parts, ...leases, ...remarks].join('  '));
}

function title(job: Job, width: number, style: Style): string {
  const plan = job.plan;
  const picture =
    plan === undefined ? '' : `${plan.width}x${plan.height}, ${count(plan.clips, 'clip')}, ${videoLength(job)}`;
  const state = jobStateWords[job.state];
  const name = truncate(printable(job.spec?.name ?? ''), Math.max(8, width - widthOf(picture) - state.length - 4));
  const left = `${name}  ${state}`;
  const gap = ' '.repeat(Math.max(2, width - widthOf(left) - widthOf(picture)));
  if (widthOf(left) + 2 + widthOf(picture) > width) return truncate(left, width);
  return `${style.bold(name)}  ${paintState(job.state, style)(state)}${gap}${style.dim(picture)}`;
}

function videoLength(job: Job): string {
  return mediaLength((job.plan?.frames ?? 0) / FPS);
}

function paintState(state: JobState, style: Style): (text: string) => string {
  if (state === JobState.JOB_STATE_COMPLETED) return style.good;
  if (state === JobState.JOB_STATE_FAILED || state === JobState.JOB_STATE_CANCELLED) return style.bad;
  return state === JobState.JOB_STATE_PAUSED ? style.warn : String;
}

function barLine(job: Job, layout: ProgressLayout, style: Style): string {
  const total = Math.max(1, job.plan?.clips ?? 1);
  const share = job.clipsCommitted / total;
  const wide = layout.width >= 80;
  const parts = [
    `${padStart(String(job.clipsCommitted), String(total).length)}/${total}${wide ? ' clips' : ''}`,
    padStart(percent(share), 4),
  ];
  if (job.speed > 0) parts.push(`${speed(job.speed)}${wide ? ' real time' : ''}`);
  if (job.etaSeconds >= 0) parts.push(`${duration(job.etaSeconds - layout.staleSeconds)} left`);
  const numbers = parts.join('  ');
  const drawn = bar(share, Math.max(10, layout.width - widthOf(numbers) - 2));
  return `${style.good(drawn.filled)}${style.dim(drawn.rest)}  ${numbers}`;
}

/** Neighbours of one colour are painted together, which keeps a line of 200 cells short. */
function paintStrip(cells: readonly StripCell[], style: Style): string {
  let line = '';
  for (let start = 0; start < cells.length; ) {
    const owner = cells[start]?.owner;
    let end = start;
    let run = '';
    for (; end < cells.length && cells[end]?.owner === owner; end += 1) run += cells[end]?.glyph ?? '';
    line += (owner === undefined ? style.dim : style.owner(owner))(run);
    start = end;
  }
  return line;
}

function slotLines(slots: readonly SlotView[], layout: ProgressLayout, style: Style): string[] {
  // Working slots first: they must not be pushed out by idle ones.
  const working = slots.filter((slot) => slot.lease !== undefined);
  const shown = new Set([...working, ...slots.filter((slot) => slot.lease === undefined)].slice(0, layout.slotLines));
  const listed = slots.filter((slot) => shown.has(slot));
  const lines = drawSlots(listed, layout, style);
  const hidden = slots.length - listed.length;
  if (hidden > 0) {
    const alsoWorking = working.filter((slot) => !shown.has(slot)).length;
    lines.push(style.dim(`  and ${count(hidden, 'slot')} more, ${alsoWorking} of them working`));
  }
  return lines;
}

function drawSlots(slots: readonly SlotView[], layout: ProgressLayout, style: Style): string[] {
  const wide = layout.width >= 80;
  const labels = slots.map((slot) => truncate(printable(slot.label), wide ? 24 : 12));
  const spans = slots.map(({ lease }) => (lease === undefined ? '' : `${lease.start}-${lease.end - 1}`));
  const etas = slots.map(({ lease }) =>
    lease === undefined || lease.etaSeconds < 0 ? '' : `${duration(lease.etaSeconds - layout.staleSeconds)} left`,
  );
  const widest = (texts: readonly string[]) => Math.max(0, ...texts.map(widthOf));
  const [labelWidth, spanWidth, etaWidth] = [widest(labels), widest(spans), widest(etas)];
  const fixed = 2 + labelWidth + 2 + (wide ? 6 : 0) + spanWidth + 2 + (wide ? SLOT_BAR + 2 : 0) + 2 + etaWidth;
  const doingWidth = Math.min(widest(slots.map((slot) => slot.doing)), Math.max(8, layout.width - fixed));
  return slots.map((slot, index) => {
    const paint = style.owner(slot.owner);
    const head = `${paint(slot.letter)} ${padEnd(labels[index] ?? '', labelWidth)}`;
    if (slot.lease === undefined) return `${head}  ${style.dim(slot.doing)}`;
    const drawn = bar(slot.lease.share, SLOT_BAR);
    const columns = [
      head,
      `${wide ? 'clips ' : ''}${padEnd(spans[index] ?? '', spanWidth)}`,
      ...(wide ? [`${paint(drawn.filled)}${style.dim(drawn.rest)}`] : []),
      padEnd(truncate(slot.doing, doingWidth), doingWidth),
      padStart(etas[index] ?? '', etaWidth),
    ];
    return columns.join('  ').trimEnd();
  });
}

/** Why a job does not get on; the report at the end has the reasons of those that ended. */
function waitingReason(job: Job): string | undefined {
  return isFinal(job.state) || job.stateReason === '' ? undefined : job.stateReason;
}
