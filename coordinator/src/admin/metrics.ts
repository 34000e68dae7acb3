import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { LeaseEndCause } from '../core/job-events.ts';
import { failureClasses } from '../core/job-model.ts';
import type { NodeStatus } from '../farm/node-record.ts';
import { countedTroubleKinds, journalTroubleKinds } from '../journal/journal-trouble.ts';
import type { AppendRefusal } from '../journal/watched-journal.ts';
import type { NatsOutcome } from '../notify/nats-events.ts';
import type { WebhookOutcome } from '../notify/webhook-queue.ts';

/** Seconds: from a synced write on a fast disk to a stall. */
const FAST_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** Seconds: from a synthetic clip to one on the slowest profile, and the finishing of a long video. */
const SLOW_BUCKETS = [0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320, 600];

/**
 * Gauges of prom-client whose names end like counters', which Prometheus' own lint refuses, and their breakdowns by
 * type, which the farm has no use for.
 */
const UNWANTED = ['nodejs_active_handles', 'nodejs_active_requests', 'nodejs_active_resources'];

/** Label values that are known beforehand: their series exist from the start, so that a first event shows as a rise. */
const KNOWN = {
  job: ['queued', 'rendering', 'paused', 'stitching', 'completed', 'failed', 'cancelled'],
  node: ['online', 'left', 'lost', 'draining', 'quarantined'] satisfies NodeStatus[],
  slot: ['idle', 'busy', 'unavailable'],
  outcome: ['completed', 'superseded', 'returned', 'failed', 'lost', 'revoked'] satisfies LeaseEndCause[],
  leadership: ['begun', 'ended', 'failed'],
  refusal: ['conflict', 'failed'] satisfies AppendRefusal[],
  uploadRefusal: ['room', 'stalled', 'slow'] satisfies UploadRefusal[],
  agentRefusal: ['term', 'hello', 'protocol'] satisfies AgentRefusal[],
  delivery: ['delivered', 'refused', 'unreachable', 'expired'] satisfies WebhookOutcome[],
  natsOutcome: ['published', 'dropped'] satisfies NatsOutcome[],
  verdict: ['not_wanted', 'rejected', 'try_again'],
} as const;

/**
 * What speaks against an agent: it knows a later leader; it says of itself what can't be; it speaks another version of
 * the protocol.
 */
export type AgentRefusal = 'term' | 'hello' | 'protocol';

/** What ends an upload: the disk has no room for it; nothing more of it came; it came too slowly. */
export type UploadRefusal = 'room' | 'stalled' | 'slow';

/** The farm's metrics; see {@link createMetrics}. */
export type Metrics = ReturnType<typeof createMetrics>;

/**
 * Registers every metric of a coordinator in a registry of its own. Labels have closed or configured sets of values;
 * never job, user, path or text.
 */
export function createMetrics() {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  for (const name of UNWANTED) {
    registry.removeSingleMetric(name);
    registry.removeSingleMetric(`${name}_total`);
  }
  const collectors: (() => void)[] = [];
  const gauge = <L extends string = never>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Gauge<L>({ name: `clipfarm_${name}`, help, labelNames, registers });
  const counter = <L extends string = never>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Counter<L>({ name: `clipfarm_${name}_total`, help, labelNames, registers });
  const histogram = <L extends string = never>(
    name: string,
    help: string,
    buckets: number[],
    labelNames: readonly L[] = [],
  ) => new Histogram<L>({ name: `clipfarm_${name}_seconds`, help, buckets, labelNames, registers });

  const jobs = gauge('jobs', 'Jobs known, by state.', ['state']);
  const nodes = gauge('nodes', 'Nodes known, by state.', ['state']);
  const slots = gauge('slots', 'Slots of all nodes, by state.', ['state']);
  const leases = counter('leases', 'Leases that ended, by how they ended.', ['outcome']);
  const chunkRefusals = counter('chunk_refusals', 'Chunks that were not committed, by verdict.', ['verdict']);
  const attemptFailures = counter('attempt_failures', 'Attempts that failed, by failure class.', ['class']);
  const leaderships = counter(
    'leaderships',
    'Times that this coordinator began or ended to lead, or failed to begin.',
    ['change'],
  );
  const appendsRefused = counter(
    'journal_appends_refused',
    'Appends that were not stored, by reason: another process was first, or the journal could not be written.',
    ['reason'],
  );
  const journalTroubles = counter(
    'journal_troubles',
    'Times that something began to keep the journal from working, (slow) that this process read it too slowly, and (copies) that streams lacked copies.',
    ['kind'],
  );
  const journalTrouble = gauge(
    'journal_trouble',
    '1 for each kind of trouble that keeps the journal from working now.',
    ['kind'],
  );
  for (const kind of countedTroubleKinds) journalTroubles.inc({ kind }, 0);
  for (const change of KNOWN.leadership) leaderships.inc({ change }, 0);
  for (const reason of KNOWN.refusal) appendsRefused.inc({ reason }, 0);
  const agentsRefused = counter('agents_refused', 'Agents that were not let in, by what speaks against them.', [
    'reason',
  ]);
  for (const reason of KNOWN.agentRefusal) agentsRefused.inc({ reason }, 0);
  for (const outcome of KNOWN.outcome) leases.inc({ outcome }, 0);
  for (const verdict of KNOWN.verdict) chunkRefusals.inc({ verdict }, 0);
  for (const failureClass of failureClasses) attemptFailures.inc({ class: failureClass }, 0);
  /** States that each gauge has shown: one that no longer occurs must go to 0, not keep its last value. */
  const shown = new Map([
    [jobs, new Set<string>(KNOWN.job)],
    [nodes, new Set<string>(KNOWN.node)],
    [slots, new Set<string>(KNOWN.slot)],
  ]);
  for (const [target, states] of shown) for (const state of states) target.set({ state }, 0);
  const uploadsRefused = counter(
    'uploads_refused',
    'Uploads refused for lack of room, or ended because nothing more came, or too slowly.',
    ['reason'],
  );
  for (const reason of KNOWN.uploadRefusal) uploadsRefused.inc({ reason }, 0);
  for (const kind of journalTroubleKinds) journalTrouble.set({ kind }, 0);
  const webhookDeliveries = counter('webhook_deliveries', 'Notices posted to webhooks, by how it ended.', ['outcome']);
  for (const outcome of KNOWN.delivery) webhookDeliveries.inc({ outcome }, 0);
  const natsNotices = counter('nats_events', 'Notices for NATS subjects, by what became of them.', ['outcome']);
  for (const outcome of KNOWN.natsOutcome) natsNotices.inc({ outcome }, 0);

  return {
    jobs,
    nodes,
    slots,
    clipsPending: gauge('clips_pending', 'Clips of active jobs that are neither leased nor committed.'),
    jobsExpired: counter('jobs_expired', 'Jobs removed after the time for which finished ones are kept.'),
    nodesForgotten: counter('nodes_forgotten', 'Nodes forgotten because they were away for long.'),
    inputsExpired: counter('inputs_expired', 'Inputs removed because no job needs them.'),
    leasesActive: gauge('leases_active', 'Leases held now.'),
    storageFull: gauge('storage_full', '1 while the store takes no data because its disk is full.'),

    leading: gauge('leading', '1 while this coordinator leads.'),
    leaderships,
    journalTrouble,
    journalTroubles,
    appendsRefused,

    agentsRefused,
    uploadsRefused,
    clipsCommitted: counter('clips_committed', 'Clips committed, by profile of the slot that rendered them.', [
      'profile',
    ]),
    clipsRerendered: counter('clips_rerendered', 'Chunks that came for a clip which another lease had committed.'),
    clipsLost: counter('clips_lost', 'Committed clips whose chunk was gone or damaged: rendered again.'),
    leases,
    chunkRefusals,
    staleCommits: counter('stale_commits', 'Chunks of leases that were over, or of an older term.'),
    attemptFailures,
    stitchedBytes: counter('stitched_bytes', 'Bytes of chunks written to finished or growing videos.'),

    webhookDeliveries,
    webhookJobsPending: gauge('webhook_jobs_pending', 'Jobs with something left to be told, over all endpoints.'),
    webhookEndpointsFailing: gauge('webhook_endpoints_failing', 'Webhook endpoints that could not be reached last.'),
    natsNotices,

    clipRenderSeconds: histogram('clip_render', 'Time to render one clip, by profile.', SLOW_BUCKETS, ['profile']),
    chunkCommitSeconds: histogram('chunk_commit', 'Time from ChunkReady to its answer.', FAST_BUCKETS),
    finishSeconds: histogram('finish', 'Time from the last commit of a job to its finished file.', SLOW_BUCKETS),
    journalAppendSeconds: histogram('journal_append', 'Time until an append is on disk.', FAST_BUCKETS),
    scheduleSeconds: histogram('schedule', 'Time of one scheduling pass.', FAST_BUCKETS),

    /** Has `collect` called at every scrape, to set gauges from the state that they describe. */
    onCollect(collect: () => void): void {
      collectors.push(collect);
    },

    /** Sets a gauge to the number of times each state occurs; states that no longer occur go to 0. */
    setByState(target: Gauge<'state'>, states: Iterable<string>): void {
      const known = shown.get(target) ?? new Set();
      shown.set(target, known);
      const counts = new Map<string, number>();
      for (const state of states) counts.set(state, (counts.get(state) ?? 0) + 1);
      for (const state of counts.keys()) known.add(state);
      for (const state of known) target.set({ state }, counts.get(state) ?? 0);
    },

    /** Content type of {@link render}. */
    contentType: registry.contentType as string,

    /** All metrics in Prometheus' text format. */
    async render(): Promise<string> {
      for (const collect of collectors) collect();
      return registry.metrics();
    },
  };
}
