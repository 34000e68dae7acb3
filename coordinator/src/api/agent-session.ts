import type { Clock } from '@clipfarm/shared/clock';
import type {
  AttachRequest,
  AttachResponse,
  FailureClass as FailureClassMessage,
  Hello,
  LeaseEnded,
} from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import type { Logger } from '@clipfarm/shared/log';
import type { FailureClass } from '../core/job-model.ts';
import type { AnchorKeeper } from '../farm/anchor-keeper.ts';
import type { ChunkCommitter } from '../farm/chunk-committer.ts';
import type { FarmTimings } from '../farm/dispatcher.ts';
import type { Fleet } from '../farm/fleet.ts';
import type { Jobs } from '../farm/jobs.ts';
import type { Nodes } from '../farm/nodes.ts';
import type { Office } from '../farm/office.ts';

/** What a session works with. */
export interface SessionParts {
  readonly jobs: Jobs;
  readonly nodes: Nodes;
  readonly fleet: Fleet;
  /** Asks for a scheduling round. */
  readonly wake: () => void;
  readonly committer: ChunkCommitter;
  readonly anchors: AnchorKeeper;
  readonly timings: FarmTimings;
  readonly clock: Clock;
  readonly office: Office;
  readonly log: Logger;
}

type Message = NonNullable<AttachResponse['message']>;

/** How long a re-attached agent has to hand in its spool before the leases that it lost are given to others. */
const SPOOL_HAND_IN_MILLIS = 3000;

const failureClasses: { readonly [F in FailureClassMessage]: FailureClass } = {
  FAILURE_CLASS_UNSPECIFIED: 'crash',
  FAILURE_CLASS_OUT_OF_MEMORY: 'out_of_memory',
  FAILURE_CLASS_HANG: 'hang',
  FAILURE_CLASS_DEVICE: 'device',
  FAILURE_CLASS_CRASH: 'crash',
  FAILURE_CLASS_BAD_INPUT: 'bad_input',
  FAILURE_CLASS_ENVIRONMENT: 'environment',
  FAILURE_CLASS_BAD_CHUNK: 'bad_chunk',
  FAILURE_CLASS_NODE_LOST: 'node_lost',
};

/** One attached agent: what it says, in order, becomes commands; what it must know is sent by the listeners of events. */
export class AgentSession {
  readonly nodeId: string;
  readonly #parts: SessionParts;
  readonly #send: (message: Message) => void;
  readonly #log: Logger;
  /** Leases in force that the agent no longer has, until its spool is handed in. */
  #orphaned: string[] = [];
  #spoolLeft = 0;
  #closed = false;

  constructor(hello: Hello, parts: SessionParts, send: (message: Message) => void) {
    this.nodeId = hello.nodeId;
    this.#parts = parts;
    this.#send = send;
    this.#log = parts.log.child({ node_id: hello.nodeId, node: hello.name });
  }

  /** Registers the node, tells the agent which of its leases still hold, and finds out which ones it lost. */
  async welcome(hello: Hello): Promise<void> {
    const { jobs, nodes, timings, office } = this.#parts;
    const { term } = office;
    await nodes.register(hello);
    const inForce = jobs
      .live()
      .flatMap((job) => [...job.leases.values()])
      .filter((l) => l.nodeId === this.nodeId);
    const held = new Set(hello.leases.map((lease) => lease.leaseId));
    const valid = inForce.filter((lease) => held.has(lease.leaseId)).map((lease) => lease.leaseId);
    for (const lease of hello.leases) {
      this.#parts.fleet.noteProgress(lease.leaseId, { clip: lease.currentClip, fraction: 0 });
    }
    this.#orphaned = inForce.filter((lease) => !held.has(lease.leaseId)).map((lease) => lease.leaseId);
    this.#spoolLeft = hello.spooledChunks;
    this.#send({
      $case: 'welcome',
      value: {
        term,
        heartbeatMillis: timings.heartbeatMillis,
        leaseMillis: timings.leaseMillis,
        graceMillis: timings.graceMillis,
        validLeaseIds: valid,
      },
    });
    for (const lease of inForce) {
      // A shrink that was sent into a broken stream is said again.
      if (held.has(lease.leaseId))
        this.#send({ $case: 'shrink', value: { term, leaseId: lease.leaseId, end: lease.end } });
    }
    this.#log.info(
      { version: hello.version, slots: hello.slots.length, held: held.size, lost: this.#orphaned.length },
      'node attached',
    );
    if (this.#spoolLeft === 0) await this.#handedIn();
    else this.#parts.clock.setTimeout(() => void this.#handedIn(), SPOOL_HAND_IN_MILLIS);
  }

  /** Takes one message after the other. */
  async handle(message: NonNullable<AttachRequest['message']>): Promise<void> {
    const { nodes, fleet } = this.#parts;
    switch (message.$case) {
      case 'hello':
        this.#log.warn('a second Hello on the same stream is ignored');
        return;
      case 'heartbeat':
        nodes.seen(this.nodeId, message.value.slots);
        return;
      case 'progress': {
        const { leaseId, clip, fraction } = message.value;
        nodes.seen(this.nodeId);
        fleet.noteProgress(leaseId, { clip, fraction });
        return;
      }
      case 'chunkReady':
        await this.#chunk(message.value.manifest);
        return;
      case 'anchorReady': {
        const { jobId, leaseId, sha256, bytes } = message.value;
        const reason = await this.#parts.anchors.commit(jobId, leaseId, { sha256, bytes });
        this.#send({ $case: 'anchorAck', value: { jobId, accepted: reason === null, reason: reason ?? '' } });
        return;
      }
      case 'leaseEnded':
        await this.#leaseEnded(message.value);
        return;
      case 'log': {
        const line = { source: 'agent', lease_id: message.value.leaseId };
        if (message.value.level >= 40) this.#log.warn(line, message.value.message);
        else this.#log.info(line, message.value.message);
        return;
      }
    }
  }

  /** The stream is over. */
  close(): void {
    this.#closed = true;
  }

  async #chunk(manifest: Parameters<ChunkCommitter['offer']>[1] | undefined): Promise<void> {
    if (!manifest) return;
    const { jobId, leaseId, clip } = manifest;
    const answer = await this.#parts.committer.offer(this.nodeId, manifest);
    this.#send({ $case: 'chunkAck', value: { jobId, leaseId, clip, ...answer } });
    if (this.#spoolLeft > 0) {
      this.#spoolLeft -= 1;
      if (this.#spoolLeft === 0) await this.#handedIn();
    }
  }

  /** The spool is dealt with, or took too long: leases that the agent lost are over now. */
  async #handedIn(): Promise<void> {
    const orphaned = this.#orphaned;
    this.#orphaned = [];
    this.#spoolLeft = 0;
    if (this.#closed) return;
    this.#parts.nodes.handedIn(this.nodeId);
    for (const leaseId of orphaned) {
      await this.#fail(leaseId, 'node_lost', 'the agent attached again without this lease', null);
    }
    this.#parts.wake();
  }

  async #leaseEnded(ended: LeaseEnded): Promise<void> {
    const { leaseId, jobId, reason, message } = ended;
    if (!this.#holds(jobId, leaseId)) return;
    switch (reason) {
      case 'LEASE_END_REASON_FAILED':
        await this.#fail(leaseId, failureClasses[ended.failureClass], message, ended.clip);
        return;
      case 'LEASE_END_REASON_STOPPED':
      case 'LEASE_END_REASON_REFUSED':
        await this.#parts.jobs.execute(jobId, { type: 'endLease', leaseId, cause: 'returned', reason: message });
        return;
      default:
        // Completed: the commit of its last chunk ends the lease.
        this.#log.debug({ job_id: jobId, lease_id: leaseId }, 'the agent is done with a lease');
    }
  }

  async #fail(leaseId: string, failureClass: FailureClass, message: string, clip: number | null): Promise<void> {
    const job = this.#parts.jobs.live().find((j) => j.leases.has(leaseId));
    const lease = job?.leases.get(leaseId);
    if (!job || lease?.nodeId !== this.nodeId) return;
    const at = clip ?? this.#parts.fleet.progressOf(leaseId)?.clip ?? lease.start;
    const { jobId } = job.definition;
    await this.#parts.jobs.execute(jobId, { type: 'failLease', leaseId, failureClass, message, clip: at });
  }

  #holds(jobId: string, leaseId: string): boolean {
    return this.#parts.jobs.get(jobId)?.leases.get(leaseId)?.nodeId === this.nodeId;
  }
}
