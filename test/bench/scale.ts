import { ManualClock } from '@clipfarm/shared/clock';
import { createLogger } from '@clipfarm/shared/log';
import { Views } from '../../coordinator/src/api/views.ts';
import type { JobDefinition, JobState } from '../../coordinator/src/core/job-model.ts';
import { schedule } from '../../coordinator/src/core/schedule.ts';
import { attach, commit, grant, type MemoryFarm, memoryFarm, submit } from '../../coordinator/src/farm/farm-fixture.ts';
import { LeaseWatch } from '../../coordinator/src/farm/lease-watch.ts';
import { LeftOutJobs } from '../../coordinator/src/farm/left-out-jobs.ts';
import { Speedometer } from '../../coordinator/src/farm/speedometer.ts';
import { StorageHealth } from '../../coordinator/src/farm/storage-health.ts';

/** One thing that the coordinator does over and over. */
export interface ScaleRow {
  readonly what: string;
  /** Of the fastest of several runs. */
  readonly millis: number;
}

const NODES = 500;
const SLOTS_PER_NODE = 2;
const SLOTS = NODES * SLOTS_PER_NODE;
const JOBS = 200;
const CLIPS = 2000;
const CLIPS_COMMITTED_PER_LEASE = 40;
const OWNERS = 10;
const LOG = createLogger({ name: 'bench', level: 'silent' });

/** Two profiles, so that not every slot takes every picture. */
const PROFILES = [
  { profile: 'single-80g', warmUpSeconds: 2 },
  { profile: 'pipe-4x24g', warmUpSeconds: 5 },
];

/**
 * Times what the coordinator does in memory at {@link SLOTS} slots, {@link JOBS} jobs of {@link CLIPS} clips: in one
 * process, without journal, disk or network.
 */
export async function benchScale(): Promise<readonly ScaleRow[]> {
  return [...(await busy()), ...(await oneLargeJob()), ...(await idle()), ...(await waiting())];
}

/** Every slot has a lease of one of many jobs. */
async function busy(): Promise<ScaleRow[]> {
  const farm = await farmOfSlots();
  const jobs: JobState[] = [];
  for (let n = 0; n < JOBS; n++) jobs.push(await submitNumbered(farm, n));
  for (let slot = 0; slot < SLOTS; slot++) {
    const job = jobs[Math.floor((slot * JOBS) / SLOTS)];
    if (job) await lease(farm, job, slot, slot % (SLOTS / JOBS), CLIPS / (SLOTS / JOBS));
  }
  const watch = new LeaseWatch({
    ...farm,
    leftOut: new LeftOutJobs(farm.clock, LOG),
    leaseMillis: 10_000,
    hangFloorSeconds: 30,
    log: LOG,
  });
  const round = async () => {
    await watch.check();
    schedule(farm.fleet.scheduleInput());
  };
  const views = viewsOf(farm);
  const job = () => views.job(jobs[0] ?? missing());
  return [
    { what: `round of the dispatcher, ${SLOTS} slots busy with ${JOBS} jobs`, millis: await timeAsync(round) },
    { what: 'GetJob', millis: time(job) },
    { what: 'ListJobs, 50 jobs', millis: time(() => views.jobs(jobs.slice(0, 50))) },
    { what: `ListNodes, ${NODES} nodes`, millis: time(() => farm.nodes.all().map((node) => views.node(node, true))) },
  ];
}

/** One job has every slot; then half of its leases are over, and the other half is nearly done. */
async function oneLargeJob(): Promise<ScaleRow[]> {
  const farm = await farmOfSlots();
  const job = await submitNumbered(farm, 0, { clips: 100 * SLOTS });
  for (let slot = 0; slot < SLOTS; slot++) await lease(farm, job, slot, slot, 100);
  const views = viewsOf(farm);
  const getJob = time(() => views.job(job));
  for (const { leaseId, nodeId, start, end } of [...job.leases.values()]) {
    const isSlow = start % 200 === 0;
    await commit(farm, job, leaseId, start + CLIPS_COMMITTED_PER_LEASE, isSlow ? end - 4 : end);
    if (isSlow) farm.fleet.noteProgress(nodeId, leaseId, { clip: end - 4, fraction: 0.5 });
  }
  return [
    { what: `GetJob, ${SLOTS} leases`, millis: getJob },
    { what: `decision, ${job.leases.size} slots idle beside the last clips`, millis: decisionMillis(farm) },
  ];
}

/** Nothing has begun. */
async function idle(): Promise<ScaleRow[]> {
  const rows: ScaleRow[] = [];
  for (const times of [1, 4]) {
    const many = await farmOfSlots(times * NODES);
    await submitNumbered(many, 0, { clips: 100 * times * SLOTS });
    rows.push({ what: `decision, one job meets ${times * SLOTS} idle slots`, millis: decisionMillis(many) });
  }
  const farm = await farmOfSlots();
  for (let n = 0; n < JOBS; n++) await submitNumbered(farm, n);
  return [...rows, { what: `decision, ${JOBS} jobs meet ${SLOTS} idle slots`, millis: decisionMillis(farm) }];
}

/** Each job has begun, and can't use a second slot before its first clip is there. */
async function waiting(): Promise<ScaleRow[]> {
  const farm = await farmOfSlots();
  for (let n = 0; n < JOBS; n++) {
    const job = await submitNumbered(farm, n, { anchorMode: 'first_frame' });
    await grant(farm, job, { ...slotAt(n), start: 0, end: 400 });
  }
  const what = `decision, ${JOBS} jobs wait for their anchors beside ${SLOTS - JOBS} idle slots`;
  return [{ what, millis: decisionMillis(farm) }];
}

async function farmOfSlots(nodes = NODES): Promise<MemoryFarm> {
  const farm = await memoryFarm(new ManualClock());
  for (let n = 0; n < nodes; n++) {
    const slots = Array.from({ length: SLOTS_PER_NODE }, () => ({ ...PROFILES[n % PROFILES.length] }));
    await attach(farm, `node-${n}`, slots);
  }
  return farm;
}

function submitNumbered(farm: MemoryFarm, n: number, given: Partial<JobDefinition> = {}): Promise<JobState> {
  return submit(farm, { jobId: `job-${n}`, owner: `owner-${n % OWNERS}`, clips: CLIPS, ...given });
}

/** Grants the `n`th part of a job to a slot, with its first clips committed and the next one in hand. */
async function lease(farm: MemoryFarm, job: JobState, slot: number, n: number, clips: number): Promise<void> {
  const start = n * clips;
  const at = slotAt(slot);
  const leaseId = await grant(farm, job, { ...at, start, end: start + clips });
  const inHand = start + CLIPS_COMMITTED_PER_LEASE;
  await commit(farm, job, leaseId, start, inHand);
  farm.fleet.noteProgress(at.nodeId, leaseId, { clip: inHand, fraction: (slot % 10) / 10 });
}

function slotAt(n: number): { readonly nodeId: string; readonly slotId: string } {
  return { nodeId: `node-${Math.floor(n / SLOTS_PER_NODE)}`, slotId: `${n % SLOTS_PER_NODE}` };
}

function viewsOf(farm: MemoryFarm): Views {
  const storage = new StorageHealth(LOG);
  return new Views(farm.fleet, farm.nodes, new Speedometer(() => farm.clock.monotonic()), storage, null, () => true);
}

function decisionMillis({ fleet }: MemoryFarm): number {
  return time(() => schedule(fleet.scheduleInput()));
}

const RUNS = 20;

/** Milliseconds of the fastest of some runs, after one that is not counted. */
function time(work: () => unknown): number {
  work();
  return Math.min(
    ...Array.from({ length: RUNS }, () => {
      const started = performance.now();
      work();
      return performance.now() - started;
    }),
  );
}

async function timeAsync(work: () => Promise<unknown>): Promise<number> {
  await work();
  let best = Number.POSITIVE_INFINITY;
  for (let n = 0; n < RUNS; n++) {
    const started = performance.now();
    await work();
    best = Math.min(best, performance.now() - started);
  }
  return best;
}

function missing(): never {
  throw new Error('there is no such job');
}
