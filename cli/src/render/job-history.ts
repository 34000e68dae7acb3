import { type JobEvent, JobEventType } from '@clipfarm/shared/gen/clipfarm/v1/job';
import type { Node } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { slotLabel } from './progress-view.ts';
import type { Style } from './style.ts';
import { table } from './table.ts';
import { dateOf } from './units.ts';

/** Columns of the terminal for a reason; runners can say a lot. */
const REASON_WIDTH = 200;

/** One line of a history: an event, or clips that one slot committed while nothing else happened. */
interface Row {
  readonly event: JobEvent;
  /** Clips as pairs `[start, end)`. */
  readonly clips: readonly (readonly [number, number])[];
  /** The last event of the line. */
  readonly last: JobEvent;
}

/**
 * What happened to a job, in lines.
 *
 * @param events oldest first
 * @param nodes for their names
 */
export function historyLines(events: readonly JobEvent[], nodes: readonly Node[], style: Style): string[] {
  const names = new Map(nodes.map((node) => [node.nodeId, node.name]));
  const where = ({ nodeId, slotId }: JobEvent) => (nodeId === '' ? '' : slotLabel(names.get(nodeId) ?? nodeId, slotId));
  return table(
    rowsOf(events),
    [
      { title: 'TIME', cell: ({ event }) => timeOf(event) },
      { title: 'EVENT', cell: ({ event }) => wordsOf(event), paint: (text, { event }) => paint(event, style)(text) },
      { title: 'WHERE', cell: ({ event }) => where(event), max: 40 },
      { title: 'CLIPS', cell: ({ clips }) => clips.map(rangeText).join(', '), max: 30 },
      { title: 'REASON', cell: remark, max: REASON_WIDTH },
    ],
    style,
  );
}

/** Commits that nothing else lies between become one line for each slot; they are most of what happens. */
function rowsOf(events: readonly JobEvent[]): readonly Row[] {
  const rows: Row[] = [];
  /** Lines that the next commit may belong to, by lease. */
  let open = new Map<string, number>();
  for (const event of events) {
    const own: (readonly [number, number])[] = event.end > 0 ? [[event.start, event.end]] : [];
    if (event.type !== JobEventType.JOB_EVENT_TYPE_CLIP_COMMITTED) {
      open = new Map();
      rows.push({ event, clips: own, last: event });
      continue;
    }
    const index = open.get(event.leaseId);
    const row = index === undefined ? undefined : rows[index];
    if (index === undefined || row === undefined) {
      open.set(event.leaseId, rows.length);
      rows.push({ event, clips: own, last: event });
    } else {
      rows[index] = { ...row, clips: withClip(row.clips, event), last: event };
    }
  }
  return rows;
}

function withClip(clips: Row['clips'], { start, end }: JobEvent): Row['clips'] {
  const last = clips.at(-1);
  return last?.[1] === start ? [...clips.slice(0, -1), [last[0], end]] : [...clips, [start, end]];
}

function rangeText([start, end]: readonly [number, number]): string {
  return end === start + 1 ? `${start}` : `${start}-${end - 1}`;
}

/** To the second, in UTC. */
function timeOf({ at }: JobEvent): string {
  return (
    dateOf(at)
      ?.toISOString()
      .replace(/\.\d+Z$/, 'Z') ?? ''
  );
}

function remark({ event, last }: Row): string {
  if (event !== last) return `until ${timeOf(last).slice(-9)}`;
  if (event.type === JobEventType.JOB_EVENT_TYPE_PRIORITY_CHANGED) return `to ${event.priority}`;
  if (event.type === JobEventType.JOB_EVENT_TYPE_SUBMITTED) return `priority ${event.priority}`;
  if (event.type === JobEventType.JOB_EVENT_TYPE_TERM_OPENED) return `term ${event.term}`;
  return [event.failureClass, event.reason].filter((text) => text !== '').join(': ');
}

function wordsOf({ type, outcome }: JobEvent): string {
  if (type === JobEventType.JOB_EVENT_TYPE_LEASE_ENDED) return `lease ${outcome}`;
  return words[type] ?? words[JobEventType.JOB_EVENT_TYPE_UNSPECIFIED];
}

const words = {
  [JobEventType.JOB_EVENT_TYPE_UNSPECIFIED]: 'unknown to this version',
  [JobEventType.JOB_EVENT_TYPE_SUBMITTED]: 'submitted',
  [JobEventType.JOB_EVENT_TYPE_LEASE_GRANTED]: 'lease granted',
  [JobEventType.JOB_EVENT_TYPE_LEASE_SHRUNK]: 'lease shortened',
  [JobEventType.JOB_EVENT_TYPE_LEASE_ENDED]: 'lease ended',
  [JobEventType.JOB_EVENT_TYPE_ANCHOR_COMMITTED]: 'anchor committed',
  [JobEventType.JOB_EVENT_TYPE_CLIP_COMMITTED]: 'committed',
  [JobEventType.JOB_EVENT_TYPE_CLIP_LOST]: 'clip lost',
  [JobEventType.JOB_EVENT_TYPE_CHUNK_SUPERFLUOUS]: 'clip came twice',
  [JobEventType.JOB_EVENT_TYPE_TERM_OPENED]: 'new leader',
  [JobEventType.JOB_EVENT_TYPE_PAUSED]: 'paused',
  [JobEventType.JOB_EVENT_TYPE_RESUMED]: 'resumed',
  [JobEventType.JOB_EVENT_TYPE_PRIORITY_CHANGED]: 'priority changed',
  [JobEventType.JOB_EVENT_TYPE_CANCELLED]: 'cancelled',
  [JobEventType.JOB_EVENT_TYPE_FAILED]: 'failed',
  [JobEventType.JOB_EVENT_TYPE_RETRIED]: 'taken up again',
  [JobEventType.JOB_EVENT_TYPE_COMPLETED]: 'completed',
} as const satisfies Record<JobEventType, string>;

function paint({ type, outcome }: JobEvent, style: Style): (text: string) => string {
  if (type === JobEventType.JOB_EVENT_TYPE_COMPLETED) return style.good;
  const troubles: readonly JobEventType[] = [
    JobEventType.JOB_EVENT_TYPE_FAILED,
    JobEventType.JOB_EVENT_TYPE_CANCELLED,
    JobEventType.JOB_EVENT_TYPE_CLIP_LOST,
  ];
  return troubles.includes(type) || outcome === 'failed' || outcome === 'lost' ? style.bad : String;
}
