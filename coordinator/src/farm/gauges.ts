import type { Metrics } from '../admin/metrics.ts';
import { countClips } from '../core/clip-ranges.ts';
import type { JobState } from '../core/job-model.ts';
import { pendingClips } from '../core/job-progress.ts';
import { type JournalTrouble, journalTroubleKinds } from '../journal/journal-trouble.ts';
import type { Fleet } from './fleet.ts';
import type { Jobs } from './jobs.ts';
import type { Nodes } from './nodes.ts';
import type { Office } from './office.ts';
import type { StorageHealth } from './storage-health.ts';

/** Has it computed at each scrape whether this coordinator leads, and what keeps its journal from working. */
export function collectOfficeGauges(metrics: Metrics, office: Office, troubles: () => readonly JournalTrouble[]): void {
  metrics.onCollect(() => {
    metrics.leading.set(office.leads ? 1 : 0);
    const now = new Set(troubles().map(({ kind }) => kind));
    for (const kind of journalTroubleKinds) metrics.journalTrouble.set({ kind }, now.has(kind) ? 1 : 0);
  });
}

/** Has the gauges of state computed at each scrape, so that they can't drift from what they count. */
export function collectFarmGauges(
  metrics: Metrics,
  jobs: Jobs,
  nodes: Nodes,
  fleet: Fleet,
  storage: StorageHealth,
): void {
  metrics.onCollect(() => {
    const live = jobs.live();
    metrics.setByState(metrics.jobs, jobs.all().map(jobStateLabel));
    metrics.setByState(
      metrics.nodes,
      nodes.all().map((node) => nodes.status(node)),
    );
    const slots = fleet.slots();
    metrics.setByState(
      metrics.slots,
      slots.map((slot) => (slot.leaseId ? 'busy' : slot.available ? 'idle' : 'unavailable')),
    );
    metrics.clipsPending.set(
      live.reduce((sum, job) => sum + (job.status === 'active' ? countClips(pendingClips(job)) : 0), 0),
    );
    metrics.storageFull.set(storage.problem === null ? 0 : 1);
    metrics.leasesActive.set(live.reduce((sum, job) => sum + job.leases.size, 0));
  });
}

function jobStateLabel(job: JobState): string {
  if (job.status !== 'active') return job.status;
  if (job.paused) return 'paused';
  return job.startedAt === null ? 'queued' : 'rendering';
}
