import type { Farm } from '../harness/farm.ts';
import type { Times } from '../harness/quantile.ts';
import type { Incident } from './campaign.ts';
import { deposedLeaders, type Lead } from './deposed.ts';
import type { JobRecord, Witness } from './witness.ts';

/** A line of a log. */
interface Line {
  readonly time: string;
  readonly msg: string;
  readonly term?: number;
  readonly job_id?: string;
  readonly lease_id?: string;
  readonly clip?: number;
  readonly pre_roll?: boolean;
  readonly verdict?: string;
  readonly reason?: string;
}

/** What the logs of all processes tell. */
export interface LogFacts {
  /** When a coordinator began to lead: milliseconds since 1970. */
  readonly leads: readonly Lead[];
  /** Chunks that a coordinator refused, by verdict. */
  readonly refusals: ReadonlyMap<string, number>;
  /** Leaders that laid their work down when another led already. */
  readonly deposed: number;
  /** Agents that were linked to one of them at that moment. */
  readonly deposedLinks: number;
  /** Messages and welcomes of an older term that agents ignored. */
  readonly voidMessages: number;
  /** Times that a coordinator which believed to lead turned an agent away that knew a later leader. */
  readonly turnedAway: number;
  /** Chunks that agents were told are committed: their commit is acknowledged. */
  readonly acknowledged: readonly { readonly jobId: string; readonly leaseId: string; readonly clip: number }[];
  /** Renders of each clip, by job and clip; pre-roll left out. */
  readonly renders: ReadonlyMap<string, number>;
}

/** How the reason begins for which a leader ends the links of its agents when it has lost the lead. */
const DEPOSED = 'the lead is lost: ';

/** Reads every log of a farm. */
export function readLogs(farm: Farm): LogFacts {
  const leads: Lead[] = [];
  const ended: Omit<Lead, 'term'>[] = [];
  const broken: number[] = [];
  const refusals = new Map<string, number>();
  const acknowledged: LogFacts['acknowledged'][number][] = [];
  const renders = new Map<string, number>();
  let voidMessages = 0;
  let turnedAway = 0;
  for (const [coordinator, { process: child }] of farm.coordinators.entries()) {
    for (const { msg, time, term, verdict = '', reason } of linesOf(child.output())) {
      if (msg === 'leading') leads.push({ at: Date.parse(time), coordinator, term: term ?? 0 });
      if (msg === 'no longer leading' && reason?.startsWith(DEPOSED)) ended.push({ at: Date.parse(time), coordinator });
      if (msg === 'chunk not committed') {
        const name = verdict.replace('CHUNK_VERDICT_', '').toLowerCase();
        refusals.set(name, (refusals.get(name) ?? 0) + 1);
      }
    }
  }
  for (const agent of farm.agents.values()) {
    for (const line of linesOf(agent.output())) {
      const { msg, job_id: jobId = '', lease_id: leaseId = '', clip = -1, reason = '' } = line;
      if (msg === 'ignored a void message' || /^its term \d+ is below/.test(reason)) voidMessages += 1;
      if (/^the agent knows term \d+ of this farm/.test(reason)) turnedAway += 1;
      if (msg === 'no link to the coordinator' && reason.startsWith(DEPOSED)) broken.push(Date.parse(line.time));
      if (msg === 'chunk handed in' && line.verdict === 'committed') acknowledged.push({ jobId, leaseId, clip });
      if (msg === 'clip rendered' && line.pre_roll === false) {
        renders.set(`${jobId} ${clip}`, (renders.get(`${jobId} ${clip}`) ?? 0) + 1);
      }
    }
  }
  leads.sort((a, b) => a.at - b.at);
  return { leads, ...deposedLeaders(leads, ended, broken), refusals, voidMessages, turnedAway, acknowledged, renders };
}

function* linesOf(log: string): Generator<Line> {
  for (const text of log.split('\n')) {
    // A process that was killed may have left half a line.
    if (text.startsWith('{') && text.endsWith('}')) yield JSON.parse(text) as Line;
  }
}

/** From the loss of a leader until another coordinator leads. */
export function failOverTimes(incidents: readonly Incident[], facts: LogFacts): Times {
  return incidents.flatMap(({ at, target }) => {
    const next = facts.leads.find((lead) => lead.at > at);
    return next && `coordinator ${next.coordinator}` !== target ? [next.at - at] : [];
  });
}

/**
 * From the death of an agent until the next clip that it still had to render is granted to another: one time for each
 * lease that it held. Clips after that one are not measured: they may have to wait for the job's anchor, whoever renders.
 *
 * @param nodeIds identity of each agent by its name
 */
export function regrantTimes(
  incidents: readonly Incident[],
  nodeIds: ReadonlyMap<string, string>,
  witness: Witness,
): Times {
  const byJob = [...Map.groupBy(witness.records, ({ jobId }) => jobId).values()];
  return incidents.flatMap(({ at, target }) => {
    const nodeId = nodeIds.get(target) ?? '';
    return byJob.flatMap((records) =>
      leasesHeld(records, nodeId, at).flatMap((clips) => takenOver(records, clips, nodeId, at)),
    );
  });
}

/** Clips that were left to do of every lease that a node held at a time. */
function leasesHeld(records: readonly JobRecord[], nodeId: string, at: number): ReadonlySet<number>[] {
  const left = new Map<string, Set<number>>();
  for (const { event } of records.filter((record) => record.at <= at)) {
    if (event.type === 'LeaseGranted') {
      const { leaseId, start, end } = event.lease;
      // What somebody else takes up as well does not depend on this node any more.
      for (const other of left.values()) for (let clip = start; clip < end; clip++) other.delete(clip);
      if (event.lease.nodeId !== nodeId) continue;
      left.set(leaseId, new Set(Array.from({ length: end - start }, (_, n) => start + n)));
    } else if (event.type === 'LeaseShrunk') {
      const clips = left.get(event.leaseId);
      for (const clip of clips ?? []) if (clip >= event.end) clips?.delete(clip);
    } else if (event.type === 'LeaseEnded') {
      left.delete(event.leaseId);
    } else if (event.type === 'ClipCommitted') {
      for (const clips of left.values()) clips.delete(event.record.clip);
    }
  }
  return [...left.values()].filter((clips) => clips.size > 0);
}

/** When the next of the clips was granted to another node, or committed after all; those after it may need an anchor. */
function takenOver(records: readonly JobRecord[], clips: ReadonlySet<number>, nodeId: string, at: number): number[] {
  const next = Math.min(...clips);
  for (const { event, at: when } of records) {
    if (when <= at) continue;
    if (event.type === 'ClipCommitted' && event.record.clip === next) return [when - at];
    if (event.type !== 'LeaseGranted' || event.lease.nodeId === nodeId) continue;
    if (event.lease.start <= next && next < event.lease.end) return [when - at];
  }
  return [];
}
