import type { JobPlan, SlotFit } from '@clipfarm/shared/gen/clipfarm/v1/job';
import type { Node } from '@clipfarm/shared/gen/clipfarm/v1/node';
import type { Timestamp } from '@clipfarm/shared/gen/google/protobuf/timestamp';
import { FPS } from '@clipfarm/shared/model/clip';
import { PRESETS } from '@clipfarm/shared/model/presets';
import { waysToWork } from '../farm/ways-to-work.ts';
import { plannedDeadline } from './deadline.ts';
import { slotLabel } from './progress-view.ts';
import type { Style } from './style.ts';
import { fields, table } from './table.ts';
import { printable } from './text.ts';
import { count, duration, gpuTime, mediaLength, speed } from './units.ts';

/** What a job would be, who could render it, what it would take, and whether that keeps its deadline. */
export function planReport(
  plan: JobPlan,
  deadline: Timestamp | undefined,
  nodes: readonly Node[],
  style: Style,
): string[] {
  const settings = plan.settings;
  const seconds = plan.frames / FPS;
  const pairs: [string, string][] = [
    ['video', `${plan.width}x${plan.height}, ${count(plan.frames, 'frame')}, ${mediaLength(seconds)}`],
    ['clips', `${plan.clips}, of 48 frames (1.92 s) and ${count(settings?.sampleSteps ?? 0, 'step')} each`],
    ['forecast', forecast(plan, seconds)],
  ];
  const due = plannedDeadline(deadline, plan, style);
  if (due !== undefined) pairs.push(['deadline', due]);
  const lines = [...fields(pairs, style)];
  const corrections = settings === undefined ? [] : correctionLines(settings.preset, style);
  if (plan.notes.length > 0) {
    lines.push(style.bold('Notes'), ...plan.notes.map((note) => `  ${printable(note)}`));
  }
  return [...lines, ...corrections, ...fitLines(plan, nodes, style)];
}

/** True when at least one slot that fits the job works, though it may be busy. */
export function isFeasible(plan: JobPlan): boolean {
  return plan.fits.some(isUsable);
}

/** What to do where no slot could take the job now; nothing where none fits: the plan has the numbers that say what would. */
export function planAdvice(plan: JobPlan, nodes: readonly Node[], coordinator: string, style: Style): string[] {
  // Of a node that has not come back since the coordinator started, no slot is known.
  if (plan.fits.length > 0 && !plan.fits.some(({ fits }) => fits)) return [];
  return isFeasible(plan)
    ? []
    : waysToWork(concerned(plan, nodes), coordinator).map((way) => style.warn(printable(way)));
}

/** The nodes that could render the job if they took work; all of them where no slot is known. */
function concerned({ fits }: JobPlan, nodes: readonly Node[]): readonly Node[] {
  if (fits.length === 0) return nodes;
  const fitting = new Set(fits.filter((fit) => fit.fits).map(({ nodeId }) => nodeId));
  return nodes.filter(({ nodeId }) => fitting.has(nodeId));
}

function isUsable({ fits, unavailable }: SlotFit): boolean {
  return fits && unavailable === '';
}

function forecast(plan: JobPlan, seconds: number): string {
  if (plan.fits.length === 0) return 'none: no slot is known';
  if (!plan.fits.some(({ fits }) => fits)) return 'none: no slot fits';
  if (!isFeasible(plan)) return 'none now: no slot that fits takes work';
  if (plan.forecastSeconds <= 0) return 'not known now: every slot that fits is busy or starts';
  const rate = speed(seconds / plan.forecastSeconds);
  return `${duration(plan.forecastSeconds)} (${rate} real time), ${gpuTime(plan.forecastGpuSeconds)}`;
}

function correctionLines(name: string, style: Style): string[] {
  // A newer coordinator may have presets that this program does not know.
  const corrections = PRESETS.find((preset) => preset.name === name)?.corrections ?? [];
  if (corrections.length === 0) return [];
  return [
    style.bold(`Preset ${name}: where it departs from what popular articles recommend`),
    ...corrections.map(({ field, article, farm }) => `  ${field}: they say ${article}; the farm: ${farm}`),
    style.dim('  clipfarm presets says why'),
  ];
}

/** Whether a slot could take the job now, as one word. */
function fitWord(fit: SlotFit): 'yes' | 'not now' | 'no' {
  if (!fit.fits) return 'no';
  return isUsable(fit) ? 'yes' : 'not now';
}

const FIT_ORDER = { yes: 0, 'not now': 1, no: 2 };

function fitLines(plan: JobPlan, nodes: readonly Node[], style: Style): string[] {
  if (plan.fits.length === 0) return [];
  const names = new Map(nodes.map((node) => [node.nodeId, node.name]));
  const order = (fit: SlotFit) => FIT_ORDER[fitWord(fit)];
  const rows = [...plan.fits].sort((a, b) => order(a) - order(b) || a.secondsPerClip - b.secondsPerClip);
  const paintOf = { yes: style.good, 'not now': style.warn, no: style.bad };
  return [
    style.bold('Slots'),
    ...table(
      rows,
      [
        {
          title: 'FITS',
          cell: fitWord,
          paint: (text, fit) => paintOf[fitWord(fit)](text),
        },
        { title: 'SLOT', cell: (fit) => slotLabel(names.get(fit.nodeId) ?? fit.nodeId, fit.slotId), max: 40 },
        { title: 'PROFILE', cell: (fit) => fit.profile, max: 24 },
        {
          title: 'S/CLIP',
          cell: (fit) => (fit.secondsPerClip > 0 ? fit.secondsPerClip.toFixed(2) : '-'),
          align: 'right',
        },
        { title: 'WHY', cell: ({ unavailable, detail }) => [unavailable, detail].filter(Boolean).join('; ') },
      ],
      style,
    ).map((row) => `  ${row}`),
  ];
}
