import { type AttemptFailure, type Job, type JobResult, JobState } from '@clipfarm/shared/gen/clipfarm/v1/job';
import type { Node } from '@clipfarm/shared/gen/clipfarm/v1/node';
import type { Timestamp } from '@clipfarm/shared/gen/google/protobuf/timestamp';
import { CLIP_SECONDS, FPS } from '@clipfarm/shared/model/clip';
import { isFinal, jobStateWords } from '../farm/job-state.ts';
import { jobDeadline } from './deadline.ts';
import type { Style } from './style.ts';
import { fields, table } from './table.ts';
import { printable } from './text.ts';
import { bytes, count, dateOf, duration, mediaLength, speed } from './units.ts';

/** Everything about a job that fits a screen. */
export function jobDetails(job: Job, nodes: readonly Node[], style: Style): string[] {
  const { plan, spec } = job;
  const settings = plan?.settings ?? spec?.settings;
  const lines = [headline(job, style)];
  const pairs: [string, string][] = [];
  if (job.stateReason !== '') pairs.push(['reason', printable(job.stateReason)]);
  if (plan !== undefined) {
    pairs.push([
      'video',
      `${plan.width}x${plan.height}, ${count(plan.frames, 'frame')}, ${mediaLength(plan.frames / FPS)}`,
    ]);
    pairs.push(['clips', clipsText(job)]);
  }
  if (settings !== undefined) {
    const steps = settings.sampleSteps === undefined ? '' : `, ${count(settings.sampleSteps, 'step')}`;
    const seed = settings.baseSeed === undefined ? '' : `, seed ${settings.baseSeed}`;
    pairs.push(['settings', printable(`preset ${settings.preset || 'delivery'}${steps}${seed}`)]);
  }
  pairs.push(['owner', printable(`${spec?.owner || 'default'}, priority ${spec?.priority ?? 0}`)]);
  const submitted = dateOf(job.submittedAt);
  if (submitted !== undefined) pairs.push(['submitted', submitted.toISOString()]);
  pairs.push(...deadlinePair(job, style));
  const took = renderSeconds(job);
  if (took !== undefined && job.result !== undefined) pairs.push(['took', tookText(job.result, took)]);
  if (job.keptUntil !== undefined) pairs.push(['kept until', keptText(job.keptUntil)]);
  lines.push(...fields(pairs, style));
  lines.push(...shareLines(job, nodes, style), ...checkLines(job, style), ...failureLines(job.failures, nodes, style));
  return lines;
}

/** What a job came to, for whoever waited for it. */
export function endReport(job: Job, nodes: readonly Node[], style: Style): string[] {
  if (job.state === JobState.JOB_STATE_COMPLETED) {
    const { result } = job;
    if (result === undefined) return [headline(job, style)];
    const took = renderSeconds(job);
    const pairs: [string, string][] = [
      ['video', `${count(result.frames, 'frame')}, ${mediaLength(result.videoSeconds)}, ${bytes(result.bytes)}`],
      ['joins', String(result.joins)],
      ...(took === undefined ? [] : ([['took', tookText(result, took)]] satisfies [string, string][])),
      ...deadlinePair(job, style),
      ...(job.keptUntil === undefined ? [] : ([['kept until', keptText(job.keptUntil)]] satisfies [string, string][])),
    ];
    return [headline(job, style), ...fields(pairs, style), ...shareLines(job, nodes, style), ...checkLines(job, style)];
  }
  const lines = [headline(job, style)];
  const reason: [string, string][] = job.stateReason === '' ? [] : [['reason', printable(job.stateReason)]];
  lines.push(...fields([...reason, ...deadlinePair(job, style)], style));
  lines.push(...failureLines(job.failures, nodes, style));
  return lines;
}

/** Seconds from the first lease to the finished file; undefined while it goes on. */
export function renderSeconds(job: Job): number | undefined {
  const [start, end] = [dateOf(job.startedAt), dateOf(job.finishedAt)];
  if (start === undefined || end === undefined) return undefined;
  return (end.getTime() - start.getTime()) / 1000;
}

function deadlinePair(job: Job, style: Style): [string, string][] {
  const text = jobDeadline(job, style);
  return text === undefined ? [] : [['deadline', text]];
}

/** To the minute: it is days away. */
function keptText(time: Timestamp): string {
  return `${dateOf(time)?.toISOString().slice(0, 16)}Z on the farm`;
}

function headline(job: Job, style: Style): string {
  const word = jobStateWords[job.state];
  const good = job.state === JobState.JOB_STATE_COMPLETED;
  const bad = job.state === JobState.JOB_STATE_FAILED || job.state === JobState.JOB_STATE_CANCELLED;
  const paint = good ? style.good : bad ? style.bad : String;
  return `${paint(word)}  ${style.bold(printable(job.spec?.name ?? ''))}  ${style.dim(job.jobId)}`;
}

function clipsText(job: Job): string {
  const total = job.plan?.clips ?? 0;
  const parts = [`${job.clipsCommitted} of ${total}`];
  if (job.clipsPrefix > 0 && job.clipsPrefix < total) {
    parts.push(`${mediaLength(job.clipsPrefix * CLIP_SECONDS)} playable from the beginning`);
  }
  if (job.speed > 0 && !isFinal(job.state)) parts.push(`${speed(job.speed)} real time`);
  if (job.etaSeconds >= 0 && job.clipsCommitted < total) parts.push(`${duration(job.etaSeconds)} left`);
  return parts.join(', ');
}

function tookText(result: JobResult, seconds: number): string {
  const parts = [`${seconds.toFixed(1)} s`];
  if (seconds > 0) parts.push(`${speed(result.videoSeconds / seconds)} real time`);
  parts.push(`file finished ${(result.finishMillis / 1000).toFixed(2)} s after the last clip`);
  if (result.clipsRerendered > 0) parts.push(`${count(result.clipsRerendered, 'clip')} rendered more than once`);
  return parts.join(', ');
}

/** Which node made how much of the video. */
function shareLines(job: Job, nodes: readonly Node[], style: Style): string[] {
  const clips = new Map<string, number>();
  for (const { nodeId, start, end } of job.spans) clips.set(nodeId, (clips.get(nodeId) ?? 0) + end - start);
  const names = namesOf(nodes);
  const most = [...clips].sort((a, b) => b[1] - a[1]);
  const percents = wholePercents(most.map(([, number]) => number));
  const pairs = most.map(([nodeId, number], i): [string, string] => [
    printable(names.get(nodeId) ?? nodeId),
    `${count(number, 'clip')}, ${percents[i]}%`,
  ]);
  return pairs.length === 0 ? [] : [style.bold('Shares'), ...fields(pairs, style)];
}

/** Shares in whole percent that come to 100: what rounding down leaves over goes to those that lost most by it. */
function wholePercents(parts: readonly number[]): readonly number[] {
  const total = parts.reduce((sum, part) => sum + part, 0);
  const exact = parts.map((part) => (100 * part) / total);
  const left = 100 - exact.reduce((sum, share) => sum + Math.floor(share), 0);
  const lost = exact.map((share, i) => ({ i, fraction: share % 1 })).sort((a, b) => b.fraction - a.fraction);
  const rounded = new Set(lost.slice(0, left).map(({ i }) => i));
  return exact.map((share, i) => Math.floor(share) + (rounded.has(i) ? 1 : 0));
}

function namesOf(nodes: readonly Node[]): ReadonlyMap<string, string> {
  return new Map(nodes.map((node) => [node.nodeId, node.name]));
}

function checkLines(job: Job, style: Style): string[] {
  const checks = job.result?.checks ?? [];
  if (checks.length === 0) return [];
  const lines = checks.map(
    ({ name, ok, detail }) =>
      `  ${ok ? style.good('ok    ') : style.bad('failed')}  ${printable(name)}: ${style.dim(printable(detail))}`,
  );
  return [style.bold('Checks'), ...lines];
}

function failureLines(failures: readonly AttemptFailure[], nodes: readonly Node[], style: Style): string[] {
  if (failures.length === 0) return [];
  const names = namesOf(nodes);
  const rows = table(
    failures,
    [
      { title: 'WHERE', cell: ({ nodeId, slotId }) => `${names.get(nodeId) ?? nodeId}/${slotId}`, max: 60 },
      { title: 'CLIP', cell: (failure) => String(failure.clip), align: 'right' },
      { title: 'CLASS', cell: (failure) => failure.failureClass },
      { title: 'EVIDENCE', cell: (failure) => failure.message, max: 200 },
    ],
    style,
  );
  return [style.bold('Failed attempts'), ...rows.map((row) => `  ${row}`)];
}
