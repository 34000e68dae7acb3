import { type JobState, type LeaseState, slotKey } from '../core/job-model.ts';
import type { Jobs } from './jobs.ts';

/** A lease in force and its job. */
export interface HeldLease {
  readonly job: JobState;
  readonly lease: LeaseState;
}

/**
 * Finds leases in force by their identity and by their slot without looking through the jobs. It only says where to
 * look: what is in force is up to the job.
 */
export class LeaseIndex {
  readonly #jobs = new Map<string, JobState>();
  readonly #bySlot = new Map<string, string>();

  /** Begins with the leases in force and follows the events from there on. */
  constructor(jobs: Jobs) {
    for (const job of jobs.live()) for (const lease of job.leases.values()) this.#add(job, lease);
    jobs.onEvent((job, event) => {
      if (event.type === 'LeaseGranted') this.#add(job, event.lease);
      if (event.type === 'LeaseEnded') this.#remove(job, event.leaseId);
    });
  }

  /** The lease and its job, if it is in force. */
  holder(leaseId: string): HeldLease | null {
    const job = this.#jobs.get(leaseId);
    const lease = job?.leases.get(leaseId);
    return job && lease ? { job, lease } : null;
  }

  /** The lease in force on a slot (`node/slot`), if any. */
  onSlot(key: string): string | null {
    const leaseId = this.#bySlot.get(key);
    return leaseId !== undefined && this.#jobs.get(leaseId)?.leases.has(leaseId) ? leaseId : null;
  }

  #add(job: JobState, { leaseId, nodeId, slotId }: LeaseState): void {
    this.#jobs.set(leaseId, job);
    this.#bySlot.set(slotKey(nodeId, slotId), leaseId);
  }

  #remove(job: JobState, leaseId: string): void {
    this.#jobs.delete(leaseId);
    const past = job.pastLeases.get(leaseId);
    const key = past && slotKey(past.nodeId, past.slotId);
    if (key !== undefined && this.#bySlot.get(key) === leaseId) this.#bySlot.delete(key);
  }
}
