import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { systemClock } from '@clipfarm/shared/clock';
import { createLogger } from '@clipfarm/shared/log';
import { execute, submitJob } from '../../coordinator/src/core/test-jobs.ts';
import { Jobs } from '../../coordinator/src/farm/jobs.ts';
import { Office } from '../../coordinator/src/farm/office.ts';
import { SnapshotKeeper } from '../../coordinator/src/farm/snapshot-keeper.ts';
import type { Journal } from '../../coordinator/src/journal/journal.ts';
import { startNatsCluster } from '../harness/nats.ts';
import { type JournalPlace, openPlace } from './recovery-place.ts';

/** What a coordinator's start came to. Milliseconds. */
export interface Start {
  /** Live jobs, committed clips and leases that it found. */
  readonly jobs: number;
  readonly clips: number;
  readonly leases: number;
  /** From the open journal to the state in memory. */
  readonly loadMillis: number;
  /** From there to a term of its own on every stream. */
  readonly takeOverMillis: number;
  /** From the start of the process to the end of the take-over. */
  readonly allMillis: number;
  readonly rssMegabytes: number;
}

/** One start. */
export interface RecoveryRow extends Start {
  readonly journal: string;
  readonly snapshots: boolean;
}

const JOBS = 200;
const CLIPS = 2000;
/** Half of each job is committed, by ten leases one after the other; two more are under way. */
const COMMITTED = 1000;
const PAST_LEASES = 10;
const NODES = 400;

/** Events that come within the time of one write to a busy journal. */
const EVENTS_PER_APPEND = 50;

/** Of which the faster one counts: what else the machine does is no matter of the journal. */
const RUNS = 2;

const run = promisify(execFile);

/** Times the start of a coordinator with many live jobs, for each kind of journal, without snapshots and with them. */
export async function benchRecovery(): Promise<readonly RecoveryRow[]> {
  const dir = mkdtempSync(join(tmpdir(), 'clipfarm-bench-'));
  try {
    const sqlite = async (snapshots: boolean) => ({ kind: 'sqlite', path: join(dir, `${snapshots}.db`) }) as const;
    const rows = await both('SQLite', sqlite);
    for (const size of [1, 3] as const) {
      await using cluster = await startNatsCluster({ size, dir: join(dir, `nats-${size}`) });
      const nats = async (snapshots: boolean) =>
        ({ kind: 'nats', servers: cluster.urls, prefix: snapshots ? 'with' : 'without' }) as const;
      rows.push(...(await both(size === 1 ? 'JetStream, 1 server' : 'JetStream, 3 servers', nats)));
    }
    return rows;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

async function both(journal: string, placeOf: (snapshots: boolean) => Promise<JournalPlace>): Promise<RecoveryRow[]> {
  const rows: RecoveryRow[] = [];
  for (const snapshots of [false, true]) {
    const place = await placeOf(snapshots);
    await fill(place, snapshots);
    const script = fileURLToPath(new URL('./recovery-start.ts', import.meta.url));
    const starts: Start[] = [];
    while (starts.length < RUNS) {
      starts.push(JSON.parse((await run(process.execPath, [script, JSON.stringify(place)])).stdout) as Start);
    }
    const [fastest] = starts.sort((a, b) => a.allMillis - b.allMillis);
    if (fastest) rows.push({ journal, snapshots, ...fastest });
  }
  return rows;
}

/** Writes the jobs' events; with snapshots, a leader follows and saves them when it would. */
async function fill(place: JournalPlace, snapshots: boolean): Promise<void> {
  const journal = await openPlace(place);
  try {
    const keeper = new SnapshotKeeper(createLogger({ name: 'bench', level: 'silent' }));
    const office = new Office(() => null);
    const jobs = snapshots ? await Jobs.load({ journal, clock: systemClock, office, snapshots: keeper }) : null;
    office.enter(1);
    await writeNodes(journal);
    const all = Array.from({ length: JOBS }, (_, n) => n);
    await Promise.all(Array.from({ length: 8 }, async () => writeJobs(journal, all)));
    if (jobs) await settled(jobs, keeper);
  } finally {
    await journal.close();
  }
}

async function settled(jobs: Jobs, keeper: SnapshotKeeper): Promise<void> {
  const clips = () => jobs.all().reduce((sum, job) => sum + job.committed.size, 0);
  while (clips() < JOBS * COMMITTED) await new Promise((resolve) => setTimeout(resolve, 50));
  await keeper.settled();
}

async function writeNodes(journal: Journal): Promise<void> {
  const events = Array.from({ length: NODES }, (_, n) => {
    return {
      type: 'NodeRegistered',
      data: { type: 'NodeRegistered', nodeId: `node-${n}`, name: `host-${n}`, pool: '' },
    };
  });
  await journal.append('farm', 0, events, { at: Date.now(), term: 1 });
}

async function writeJobs(journal: Journal, numbers: number[]): Promise<void> {
  for (let n = numbers.pop(); n !== undefined; n = numbers.pop()) {
    const jobId = `${String(n).padStart(8, '0')}-0000-4000-8000-000000000000`;
    const events = jobEvents(jobId, n);
    for (let at = 0; at < events.length; at += EVENTS_PER_APPEND) {
      const some = events.slice(at, at + EVENTS_PER_APPEND).map((data) => ({ type: data.type, data }));
      await journal.append(`jobs/${jobId}`, at, some, { at: Date.now(), term: 1 });
    }
  }
}

function jobEvents(jobId: string, n: number) {
  const job = submitJob({ jobId, clips: CLIPS, audioSha256: sha(n), imageSha256: sha(n + 1) });
  const length = COMMITTED / PAST_LEASES;
  for (let start = 0; start < COMMITTED + 2 * length; start += length) {
    const leaseId = `${jobId.slice(0, 8)}-0000-4000-9000-${String(start).padStart(12, '0')}`;
    const at = { leaseId, nodeId: `node-${(2 * n) % NODES}`, slotId: '0', start, end: start + length };
    const lease = { ...at, profile: 'single-80g', preRoll: Math.min(1, start), speculative: false };
    execute(job, { type: 'grant', lease, reason: 'a free slot' }, Date.now());
    for (let clip = start; clip < Math.min(start + length, COMMITTED); clip++) {
      const chunk = { sha256: sha(1e6 * n + clip), bytes: 400_000 + clip };
      execute(job, { type: 'commit', chunk: { leaseId, clip, frames: 48, chunk, headerHash: sha(0) } }, Date.now());
    }
  }
  return job.log.map(({ event }) => event);
}

/** As long as a SHA-256 in hex. */
function sha(n: number): string {
  return n.toString(16).padStart(64, 'a');
}
