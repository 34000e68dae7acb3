import type { JobPlan } from '@clipfarm/shared/gen/clipfarm/v1/job';
import type { Node } from '@clipfarm/shared/gen/clipfarm/v1/node';
import type { Timestamp } from '@clipfarm/shared/gen/google/protobuf/timestamp';
import { FPS } from '@clipfarm/shared/model/clip';
import { PRESETS } from '@clipfarm/shared/model/presets';
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

/** True when at least one slot can render the job. */
export function isFeasible(plan: JobPlan): boolean {
  return plan.fits.some((fit) => fit.fits);
}

function forecast(plan: JobPlan, seconds: number): string {
  if (!isFeasible(plan) || plan.forecastSeconds <= 0) return 'none: no slot that is online fits';
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

function fitLines(plan: JobPlan, nodes: readonly Node[], style: Style): string[] {
  if (plan.fits.length === 0)
    return [style.warn('No slot is known to this coordinator. Start an agent that dials it: clipfarm agent --help')];
  const names = new Map(nodes.map((node) => [node.nodeId, node.name]));
  const rows = [...plan.fits].sort((a, b) => Number(b.fits) - Number(a.fits) || a.secondsPerClip - b.secondsPerClip);
  return [
    style.bold('Slots'),
    ...table(
      rows,
      [
        {
          title: 'FITS',
          cell: (fit) => (fit.fits ? 'yes' : 'no'),
          paint: (text, fit) => (fit.fits ? style.good(text) : style.bad(text)),
        },
        { title: 'SLOT', cell: (fit) => slotLabel(names.get(fit.nodeId) ?? fit.nodeId, fit.slotId), max: 40 },
        { title: 'PROFILE', cell: (fit) => fit.profile, max: 24 },
        {
          title: 'S/CLIP',
          cell: (fit) => (fit.secondsPerClip > 0 ? fit.secondsPerClip.toFixed(2) : '-'),
          align: 'right',
        },
        { title: 'WHY', cell: (fit) => fit.detail },
      ],
      style,
    ).map((row) => `  ${row}`),
  ];
}
