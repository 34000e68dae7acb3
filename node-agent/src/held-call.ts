import type { ModelCall } from './clip-pipeline.ts';
import type { LeaseTask } from './lease-task.ts';

/** The model call of the lease in hand, or the one that the runner keeps open after its last lease. */
export class HeldCall {
  #call: { readonly leaseId: string; readonly span: number } | null = null;

  /** Lease that the call rendered last; empty without one. */
  get leaseId(): string {
    return this.#call?.leaseId ?? '';
  }

  /** What the runner is asked to go on in: what the lease names, if that is the call that is open. */
  continuationFor(lease: LeaseTask): string | null {
    return this.#call?.leaseId === lease.continues ? lease.continues : null;
  }

  /** The runner has begun a lease, in the open call or in a new one; null when it can't be in the open one. */
  started(lease: LeaseTask, continued: boolean): ModelCall | null {
    const before = this.#call;
    if (continued && (before === null || before.leaseId !== lease.continues)) return null;
    const span = continued && before !== null ? before.span : lease.span;
    this.#call = { leaseId: lease.leaseId, span };
    return { continued, span };
  }

  /** Nothing can go on in it any more. */
  close(): void {
    this.#call = null;
  }
}
