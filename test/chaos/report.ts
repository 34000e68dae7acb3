import { cpus, loadavg } from 'node:os';
import { natsServerBinary, versionOf } from '../harness/nats.ts';
import { quantile, type Times } from '../harness/quantile.ts';
import { type Campaign, type Incident, KINDS_ALONE } from './campaign.ts';
import type { Customers, Order } from './customers.ts';
import { type FaultName, faultKinds, faultNames } from './fault-kinds.ts';
import { failOverTimes, type LogFacts, regrantTimes } from './measure.ts';
import type { Witness } from './witness.ts';

/** What a campaign was. */
export interface Story {
  readonly seed: number;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
  readonly endedAt: number;
  /** How the network was made. */
  readonly network: string;
  readonly campaign: Campaign;
  readonly customers: Customers;
  readonly witness: Witness;
  readonly facts: LogFacts;
  /** Identity of each agent by its name. */
  readonly nodeIds: ReadonlyMap<string, string>;
}

/** Something that must hold, and whether it does. */
export interface Finding {
  readonly what: string;
  readonly holds: boolean;
  readonly detail: string;
}

/** A killed leader is replaced within this, and so are the clips of a killed agent; milliseconds. */
const FAIL_OVER_MILLIS = 5000;
const REGRANT_MILLIS = 6000;

/** Leaders that are lost in one of these ways are replaced by another. */
const losses: readonly FaultName[] = ['leaderKill', 'leaderStop', 'leaderFreeze', 'leaderDeposed', 'leaderCut'];

/** Faults that happen alone so that times can be taken of them. */
const timed: readonly FaultName[] = ['leaderKill', 'agentKill'];

/** Times are not taken of faults during which the machine let the test itself wait for longer; milliseconds. */
const STALLED_MILLIS = 250;

/** After a cut an agent hands in what it rendered meanwhile; milliseconds. */
const SETTLED_MILLIS = 5000;

/** A leader that is away for less than this need not be replaced; milliseconds. */
const NOTICED_MILLIS = 8000;

/** Everything that must hold after a campaign. */
export function findings(story: Story): Finding[] {
  const { campaign, customers, witness, facts } = story;
  const keys = new Set(customers.orders.map(({ jobId }) => jobId));
  const lost = facts.acknowledged.filter(
    ({ jobId, leaseId, clip }) => !witness.history(jobId).committedBy(leaseId, clip),
  );
  const stale = (facts.refusals.get('not_wanted') ?? 0) + (facts.refusals.get('rejected') ?? 0);
  const { failOver, regrant, rerendered, agentsKilled } = measures(story);
  const finding = (what: string, holds: boolean, detail: string): Finding => ({ what, holds, detail });
  return [
    finding(
      'Every job is completed, every frame of every video is where it belongs',
      customers.complaints.length === 0 && customers.videos === keys.size,
      customers.complaints.join('; ') ||
        `${customers.videos} videos, ${customers.frames} frames identified by their stamps`,
    ),
    finding(
      'The journal never breaks an invariant',
      witness.violations.length === 0,
      witness.violations.slice(0, 5).join('; ') ||
        `${witness.records.length} events of ${witness.jobIds.length} jobs checked as they came`,
    ),
    finding(
      'The same order again is the same job, and there are no others',
      witness.jobIds.length === keys.size && keys.size === customers.orders.length,
      `${customers.orders.length} orders, ${witness.jobIds.length} jobs, ${customers.repeats} calls were repeated`,
    ),
    finding(
      'Every acknowledged commit is in the journal',
      lost.length === 0,
      `${facts.acknowledged.length} acknowledged, ${lost.length} missing`,
    ),
    finding('Stale commits are seen and refused', stale > 0, `${stale} chunks of leases that were over`),
    finding(
      'What a deposed leader says changes nothing',
      facts.deposed > 0,
      `${facts.deposed} leaders found another leading when they went on, with ${facts.deposedLinks} agents still linked to them; agents ignored ${facts.voidMessages} messages of an older term, and ${facts.turnedAway} times one that knew a later term was turned away`,
    ),
    finding('No process ends by itself', campaign.crashes.length === 0, campaign.crashes.join('; ') || 'none did'),
    finding(
      'A killed agent costs at most one rendered clip',
      rerendered <= agentsKilled,
      `${rerendered} clips for ${agentsKilled} agents, in jobs without other faults than kills`,
    ),
    finding('A killed leader is replaced within 5 s', quantile(failOver, 0.99) <= FAIL_OVER_MILLIS, p(failOver)),
    finding(
      "A killed agent's clips are granted elsewhere within 6 s",
      quantile(regrant, 0.99) <= REGRANT_MILLIS,
      p(regrant),
    ),
  ];
}

function measures(story: Story) {
  const { campaign, facts, witness, nodeIds } = story;
  const { incidents } = campaign;
  const of = (kind: FaultName, alone: boolean) => incidents.filter((it) => it.kind === kind && it.alone === alone);
  const killed = of('agentKill', true);
  const measured = incidents.filter(({ alone, stalled }) => alone && stalled <= STALLED_MILLIS);
  const lostLeaders = incidents.filter((it) => losses.includes(it.kind) && !it.alone && isNoticed(it));
  return {
    rounds: killed.length,
    ...costOfKills(story, killed),
    failOver: failOverTimes(
      measured.filter(({ kind }) => kind === 'leaderKill'),
      facts,
    ),
    failOverAmidFaults: failOverTimes(lostLeaders, facts),
    regrant: regrantTimes(
      measured.filter(({ kind }) => kind === 'agentKill'),
      nodeIds,
      witness,
    ),
    stalled: killed.length + of('leaderKill', true).length - measured.filter(({ kind }) => timed.includes(kind)).length,
    regrantAmidFaults: regrantTimes(of('agentKill', false), nodeIds, witness),
  };
}

/** Clips that were rendered more than once in jobs during which nothing but kills happened, and the agents killed. */
function costOfKills({ campaign, customers, facts, witness }: Story, kills: readonly Incident[]) {
  const others = campaign.incidents.filter(
    ({ kind, alone }) => !alone || (kind !== 'agentKill' && kind !== 'leaderKill'),
  );
  const completedAt = new Map(
    witness.records.flatMap(({ jobId, event, at }) => (event.type === 'JobCompleted' ? [[jobId, at] as const] : [])),
  );
  const during = ({ orderedAt, jobId }: Order, { at, until }: Incident) => {
    return at < (completedAt.get(jobId) ?? Number.POSITIVE_INFINITY) && until + SETTLED_MILLIS > orderedAt;
  };
  const quiet = customers.orders.filter((order) => !others.some((incident) => during(order, incident)));
  const ids = new Set(quiet.map(({ jobId }) => jobId));
  const renders = [...facts.renders].filter(([key]) => ids.has(key.split(' ')[0] ?? ''));
  return {
    agentsKilled: kills.filter((kill) => quiet.some((order) => during(order, kill))).length,
    rerendered: renders.reduce((sum, [, times]) => sum + times - 1, 0),
  };
}

function isNoticed({ kind, at, until }: Incident): boolean {
  return kind === 'leaderKill' || kind === 'leaderStop' || until - at > NOTICED_MILLIS;
}

/** The campaign in Markdown. */
export function reportText(story: Story, found: readonly Finding[]): string {
  const { campaign, customers, witness, facts, seed, startedAt, endedAt } = story;
  const { incidents } = campaign;
  const { rounds, stalled, failOver, failOverAmidFaults, regrant, regrantAmidFaults, rerendered, agentsKilled } =
    measures(story);
  const count = (kind: FaultName) => incidents.filter((incident) => incident.kind === kind).length;
  const clips = witness.records.filter(({ event }) => event.type === 'ClipCommitted').length;
  const superfluous = witness.records.filter(({ event }) => event.type === 'ChunkSuperfluous').length;
  const left = [...campaign.impossible].map((name) => faultKinds[name].what);
  const minutes = ((endedAt - startedAt) / 60_000).toFixed(1);
  return [
    `${new Date(startedAt).toISOString().slice(0, 16)}Z, seed ${seed}, ${minutes} minutes, ${cpus().length} cores (load ${loadavg()[1]?.toFixed(1)} at the end), Node ${process.version}, nats-server ${versionOf(natsServerBinary())}.`,
    `Network: ${story.network}.`,
    '',
    `${incidents.length} faults while ${customers.orders.length} jobs of ${clips} clips were rendered; up to four faults at a time, after ${KINDS_ALONE * rounds} that happened alone and were measured.`,
    '',
    '| fault | times |',
    '|---|---:|',
    ...faultNames.filter((name) => count(name) > 0).map((name) => `| ${faultKinds[name].what} | ${count(name)} |`),
    ...(left.length === 0 ? [] : ['', `Not possible on this machine: ${left.join('; ')}.`]),
    '',
    '| what must hold | | |',
    '|---|---|---|',
    ...found.map(({ what, holds, detail }) => `| ${what} | ${holds ? 'yes' : '**no**'} | ${detail} |`),
    '',
    '| time | n | p50 | p99 | longest |',
    '|---|---:|---:|---:|---:|',
    row('leader killed, nothing else wrong: another leads', failOver),
    row('leader lost amid other faults, those of NATS among them: another leads', failOverAmidFaults),
    row('agent killed, nothing else wrong: its next clip is granted elsewhere', regrant),
    row('agent killed amid other faults: its next clip is granted elsewhere', regrantAmidFaults),
    '',
    `Refused chunks: ${[...facts.refusals].map(([verdict, times]) => `${times} ${verdict}`).join(', ') || 'none'}. Clips rendered twice: ${superfluous} were handed in for nothing in the whole campaign; ${rerendered} in the jobs during which nothing happened but that ${agentsKilled} agents, and leaders, were killed. Leaders: ${facts.leads.length} terms. Jobs taken up again by hand: ${customers.retries}. Times were not taken of ${stalled} faults during which the machine kept the test itself waiting for more than ${STALLED_MILLIS} ms.`,
    '',
  ].join('\n');
}

function row(what: string, times: Times): string {
  const cells = [quantile(times, 0.5), quantile(times, 0.99), quantile(times, 1)].map(seconds);
  return `| ${what} | ${times.length} | ${cells.join(' | ')} |`;
}

function p(times: Times): string {
  return `p50 ${seconds(quantile(times, 0.5))}, p99 ${seconds(quantile(times, 0.99))} of ${times.length}`;
}

function seconds(millis: number): string {
  return `${(millis / 1000).toFixed(2)} s`;
}
