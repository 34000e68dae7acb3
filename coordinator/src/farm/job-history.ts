import type { JobEvent } from '../core/job-events.ts';
import type { JobState } from '../core/job-model.ts';
import type { Journal } from '../journal/journal.ts';
import { JOB_STREAMS, type Jobs } from './jobs.ts';

/** An event of a job with what was stored beside it. */
export interface PastEvent {
  readonly event: JobEvent;
  /** From 1 on. */
  readonly position: number;
  /** Wall-clock milliseconds. */
  readonly at: number;
  readonly term: number;
}

/** Who had a lease, and from which clip on. */
export interface LeaseHolder {
  readonly nodeId: string;
  readonly slotId: string;
  readonly start: number;
}

/** A part of a job's history. */
export interface HistoryPage {
  /** Newest first. */
  readonly events: readonly PastEvent[];
  /** Of the leases that the events name. */
  readonly holders: ReadonlyMap<string, LeaseHolder>;
}

/** What happened to jobs, read from the journal when it is asked for. It has every event of a job as long as the job. */
export class HistoryReader {
  readonly #journal: Pick<Journal, 'read'>;
  readonly #jobs: Jobs;

  constructor(parts: { readonly journal: Pick<Journal, 'read'>; readonly jobs: Jobs }) {
    this.#journal = parts.journal;
    this.#jobs = parts.jobs;
  }

  /**
   * At most `size` events before the position `before`, or the newest.
   *
   * @throws what the journal throws when it can't be read
   */
  async page(job: JobState, size: number, before: number | undefined): Promise<HistoryPage> {
    const { jobId } = job.definition;
    const last = Math.min(this.#jobs.positionOf(jobId), (before ?? Number.POSITIVE_INFINITY) - 1);
    const first = Math.max(1, last - size + 1);
    const events: PastEvent[] = [];
    if (last >= first) {
      for await (const stored of this.#journal.read(JOB_STREAMS + jobId, first)) {
        if (stored.position > last) break;
        const { position, at, term } = stored;
        events.push({ event: stored.data as JobEvent, position, at, term });
      }
    }
    return { events: events.toReversed(), holders: await this.#holdersOf(job, events, first) };
  }

  /** The job's state knows its leases until it is completed; then only the journal does. */
  async #holdersOf(job: JobState, events: readonly PastEvent[], first: number) {
    const holders = new Map<string, LeaseHolder>();
    const missing = new Set<string>();
    for (const { event } of events) {
      if (event.type === 'LeaseGranted') holders.set(event.lease.leaseId, event.lease);
      else if ('leaseId' in event && !holders.has(event.leaseId)) {
        const known = job.leases.get(event.leaseId) ?? job.pastLeases.get(event.leaseId);
        if (known) holders.set(event.leaseId, known);
        else missing.add(event.leaseId);
      }
    }
    if (missing.size === 0) return holders;
    // They were granted before the first of these events.
    for await (const stored of this.#journal.read(JOB_STREAMS + job.definition.jobId, 1)) {
      if (stored.position >= first || missing.size === 0) break;
      const event = stored.data as JobEvent;
      if (event.type === 'LeaseGranted' && missing.delete(event.lease.leaseId)) {
        holders.set(event.lease.leaseId, event.lease);
      }
    }
    return holders;
  }
}
