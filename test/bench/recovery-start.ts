/**
 * A coordinator's start as far as the journal has a part in it, as a process of its own. Argument: JSON of the
 * {@link JournalPlace}. Prints the {@link Start} as JSON.
 */
import { systemClock } from '@clipfarm/shared/clock';
import { createLogger } from '@clipfarm/shared/log';
import { Jobs } from '../../coordinator/src/farm/jobs.ts';
import { Nodes } from '../../coordinator/src/farm/nodes.ts';
import { Office } from '../../coordinator/src/farm/office.ts';
import { SnapshotKeeper } from '../../coordinator/src/farm/snapshot-keeper.ts';
import type { Start } from './recovery.ts';
import { type JournalPlace, openPlace } from './recovery-place.ts';

const place: JournalPlace = JSON.parse(process.argv[2] ?? '');
const journal = await openPlace(place);
const opened = performance.now();
const office = new Office(() => null);
const snapshots = new SnapshotKeeper(createLogger({ name: 'bench', level: 'silent' }));
const parts = { journal, clock: systemClock, office, snapshots };
const jobs = await Jobs.load(parts);
const nodes = await Nodes.load(parts);
const loaded = performance.now();
office.enter(2);
await nodes.takeOver();
await jobs.takeOver();
const start: Start = {
  jobs: jobs.live().length,
  clips: jobs.live().reduce((sum, job) => sum + job.committed.size, 0),
  leases: jobs.live().reduce((sum, job) => sum + job.leases.size, 0),
  loadMillis: loaded - opened,
  takeOverMillis: performance.now() - loaded,
  allMillis: performance.now(),
  rssMegabytes: process.memoryUsage.rss() / 1e6,
};
process.stdout.write(JSON.stringify(start));
process.exit(0);
