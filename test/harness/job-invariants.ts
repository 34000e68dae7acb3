import assert from 'node:assert/strict';
import type { JobEvent } from '../../coordinator/src/core/job-events.ts';

interface Lease {
  readonly nodeId: string;
  readonly start: number;
  readonly grantedEnd: number;
  readonly speculative: boolean;
  end: number;
}

/**
 * What must hold of the history of any job, checked event by event with a bookkeeping of its own, which shares nothing
 * with the product's fold. The cost of an event is that of the clips that it touches.
 *
 * - A lease is given once, over clips that nobody holds and that are not committed: what is committed is not rendered
 *   again. Only a speculative lease covers what another one holds.
 * - A lease never grows.
 * - A clip is committed once, unless it was lost, and only for the holder of a lease that covered it.
 * - A completed job has every clip.
 * - Terms only grow, and nobody writes in an older one.
 * - Whatever has a reason says it.
 */
export class JobInvariants {
  readonly #jobId: string;
  /** Holder of each clip that is leased, speculative leases left out. */
  #holders: (string | undefined)[] = [];
  #committed: (string | undefined)[] = [];
  #committedCount = 0;
  readonly #leases = new Map<string, Lease>();
  /** Leases that are over. */
  readonly #past = new Map<string, Lease>();
  #term = 0;
  #completed = false;

  constructor(jobId: string) {
    this.#jobId = jobId;
  }

  /** Clips that are committed now. */
  get committed(): number {
    return this.#committedCount;
  }

  /** Leases in force. */
  get leases(): number {
    return this.#leases.size;
  }

  get completed(): boolean {
    return this.#completed;
  }

  /** Whether that lease's chunk is the one that is committed for the clip. */
  committedBy(leaseId: string, clip: number): boolean {
    return this.#committed[clip] === leaseId;
  }

  /**
   * Takes the next event.
   *
   * @param term of the leader that wrote it, where known
   * @throws AssertionError when something does not hold
   */
  take(event: JobEvent, term = this.#term): void {
    assert.ok(term >= this.#term, this.#says(`${event.type} was written in term ${term} after ${this.#term}`));
    this.#term = term;
    if ('reason' in event && event.type !== 'JobRetried') {
      assert.notEqual(event.reason, '', this.#says(`${event.type} has no reason`));
    }
    switch (event.type) {
      case 'JobSubmitted':
        this.#holders = new Array(event.definition.clips).fill(undefined);
        this.#committed = new Array(event.definition.clips).fill(undefined);
        break;
      case 'LeaseGranted':
        this.#grant(event.lease);
        break;
      case 'LeaseShrunk': {
        const lease = this.#leases.get(event.leaseId);
        assert.ok(lease && event.end < lease.end, this.#says(`lease ${event.leaseId} may only shrink`));
        this.#release(event.leaseId, lease, event.end);
        break;
      }
      case 'LeaseEnded':
        this.#endLease(event.leaseId);
        break;
      case 'ClipCommitted':
        this.#commit(event.record);
        break;
      case 'ClipLost':
        assert.ok(this.#committed[event.clip], this.#says(`clip ${event.clip} is lost and was not committed`));
        this.#committed[event.clip] = undefined;
        this.#committedCount -= 1;
        this.#completed = false;
        break;
      case 'JobCompleted':
        assert.equal(this.#committedCount, this.#committed.length, this.#says('is completed without every clip'));
        this.#completed = true;
        break;
      case 'JobCancelled':
      case 'JobFailed':
        for (const leaseId of [...this.#leases.keys()]) this.#endLease(leaseId);
        break;
    }
  }

  #grant(given: { readonly leaseId: string } & Omit<Lease, 'end'> & { readonly end: number }): void {
    const { leaseId, nodeId, start, end, grantedEnd, speculative } = given;
    const isNew = !this.#leases.has(leaseId) && !this.#past.has(leaseId);
    assert.ok(isNew, this.#says(`lease ${leaseId} is granted twice`));
    assert.ok(
      0 <= start && start < end && end <= this.#committed.length,
      this.#says(`has no clips ${start} to ${end}`),
    );
    for (let clip = start; clip < end; clip++) {
      assert.equal(this.#committed[clip], undefined, this.#says(`clip ${clip} is leased again although committed`));
      if (speculative) continue;
      assert.equal(this.#holders[clip], undefined, this.#says(`clip ${clip} is leased twice`));
      this.#holders[clip] = leaseId;
    }
    this.#leases.set(leaseId, { nodeId, start, end, grantedEnd, speculative });
  }

  #commit(record: { readonly clip: number; readonly leaseId: string; readonly nodeId: string }): void {
    const { clip, leaseId, nodeId } = record;
    assert.equal(this.#committed[clip], undefined, this.#says(`clip ${clip} is committed twice`));
    const lease = this.#leases.get(leaseId) ?? this.#past.get(leaseId);
    assert.equal(lease?.nodeId, nodeId, this.#says(`lease ${leaseId} was not given to ${nodeId}`));
    const covered = lease !== undefined && lease.start <= clip && clip < lease.grantedEnd;
    assert.ok(covered, this.#says(`lease ${leaseId} never covered clip ${clip}`));
    this.#committed[clip] = leaseId;
    this.#committedCount += 1;
  }

  #endLease(leaseId: string): void {
    const lease = this.#leases.get(leaseId);
    assert.ok(lease, this.#says(`lease ${leaseId} ends and is not in force`));
    this.#release(leaseId, lease, lease.start);
    this.#leases.delete(leaseId);
    this.#past.set(leaseId, lease);
  }

  /** Takes the clips from `end` on from a lease. */
  #release(leaseId: string, lease: Lease, end: number): void {
    for (let clip = end; clip < lease.end; clip++) {
      if (this.#holders[clip] === leaseId) this.#holders[clip] = undefined;
    }
    lease.end = Math.min(lease.end, end);
  }

  #says(text: string): string {
    return `job ${this.#jobId}: ${text}`;
  }
}
