import type { Clock, Timer } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import type {
  AnchorReady,
  AttachRequest,
  AttachResponse,
  ChunkReady,
  FailureClass as FailureClassMessage,
  Goodbye,
  Heartbeat,
  Hello,
  LeaseEnded,
  LogLine,
  SlotChanged,
} from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import type { Logger } from '@clipfarm/shared/log';
import type { FailureClass, LeaseState } from '../core/job-model.ts';
import type { AnchorKeeper } from '../farm/anchor-keeper.ts';
import type { ChunkCommitter } from '../farm/chunk-committer.ts';
import type { FarmTimings } from '../farm/dispatcher.ts';
import type { Fleet } from '../farm/fleet.ts';
import type { Jobs } from '../farm/jobs.ts';
import { Mutex } from '../farm/mutex.ts';
import type { Nodes } from '../farm/nodes.ts';
import type { Office } from '../farm/office.ts';
import { checkGpus, checkSlot, checkTerm } from './hello-check.ts';

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

/** A re-attached agent that hands nothing in for so long loses the leases that it does not hold any more. */
const SPOOL_PATIENCE_MILLIS = 3000;

/** Messages of one agent that may wait for the disk; a healthy one has a handful. */
const MAX_WAITING = 1000;

/** Longest line of an agent's that is logged, in characters. */
const MAX_LOG_TEXT = 2000;

/** pino's number for warnings. */
const WARN_LEVEL = 40;

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

/**
 * One attached agent: what it says becomes commands. Signs of life count at once; what needs the disk is done in order
 * behind them, so that a slow disk never makes a node look lost.
 */
export class AgentSession {
  readonly nodeId: string;
  readonly #parts: SessionParts;
  readonly #send: (message: Message) => void;
  readonly #fail: (reason: string) => void;
  readonly #log: Logger;
  readonly #work = new Mutex();
  #waiting = 0;
  /** Leases in force that the agent no longer has, until its spool is handed in. */
  readonly #orphaned = new Set<string>();
  #spoolLeft = 0;
  #patience: Timer | null = null;
  #closed = false;
  #attached = false;
  #farewell: string | null = null;

  /**
   * @param send queues a message to the agent
   * @param fail ends the stream; the agent attaches again and everything is sorted out then
   */
  constructor(hello: Hello, parts: SessionParts, send: (message: Message) => void, fail: (reason: string) => void) {
    this.nodeId = hello.nodeId;
    this.#parts = parts;
    this.#send = send;
    this.#fail = fail;
    this.#log = parts.log.child({ node_id: hello.nodeId, node: hello.name });
  }

  /**
   * Registers the node, tells the agent which of its leases still hold, and finds out which ones it lost.
   *
   * @throws FarmError as {@link checkTerm} does; what the journal throws
   */
  async welcome(hello: Hello): Promise<void> {
    const { nodes, fleet, timings, office } = this.#parts;
    // A lease or a chunk that is not known here yet would be taken for one that the farm has given up.
    await office.whenTaken();
    const { term } = office;
    checkTerm(hello, nodes.farmId, term);
    // Who comes from another farm counted the chunks of that one; how many are this one's nobody has said.
    const isAnothers = hello.farmId !== '' && hello.farmId !== nodes.farmId;
    const spooledChunks = isAnothers ? Number.POSITIVE_INFINITY : hello.spooledChunks;
    await nodes.register({ ...hello, spooledChunks });
    const held = new Map(hello.leases.map((lease) => [lease.leaseId, lease.currentClip]));
    const inForce = this.#leasesInForce();
    const valid = inForce.filter((lease) => held.has(lease.leaseId));
    for (const { leaseId } of valid) {
      fleet.noteProgress(this.nodeId, leaseId, { clip: held.get(leaseId) ?? 0, fraction: 0 });
    }
    for (const { leaseId } of inForce) if (!held.has(leaseId)) this.#orphaned.add(leaseId);
    this.#send({
      $case: 'welcome',
      value: {
        term,
        heartbeatMillis: timings.heartbeatMillis,
        leaseMillis: timings.leaseMillis,
        graceMillis: timings.graceMillis,
        validLeaseIds: valid.map((lease) => lease.leaseId),
        farmId: nodes.farmId,
      },
    });
    // A shrink that was sent into a broken stream is said again.
    for (const { leaseId, end } of valid) this.#send({ $case: 'shrink', value: { term, leaseId, end } });
    const counts = { slots: hello.slots.length, leases_held: held.size, leases_lost: this.#orphaned.size };
    this.#attached = true;
    this.#log.info({ version: hello.version, spooled_chunks: hello.spooledChunks, ...counts }, 'node attached');
    this.#spoolLeft = spooledChunks;
    this.#awaitSpool();
  }

  /** Takes a message. Never throws and never waits. */
  handle(message: NonNullable<AttachRequest['message']>): void {
    const { nodes, fleet } = this.#parts;
    nodes.seen(this.nodeId);
    switch (message.$case) {
      case 'heartbeat':
        this.#heartbeat(message.value);
        return;
      case 'progress': {
        const { leaseId, clip, fraction } = message.value;
        fleet.noteProgress(this.nodeId, leaseId, { clip, fraction });
        return;
      }
      case 'chunkReady':
        this.#later(() => this.#chunkReady(message.value));
        return;
      case 'anchorReady':
        this.#later(() => this.#anchorReady(message.value));
        return;
      case 'leaseEnded':
        this.#later(() => this.#leaseEnded(message.value));
        return;
      case 'slotChanged':
        this.#slotChanged(message.value);
        return;
      case 'log':
        this.#logLine(message.value);
        return;
      case 'goodbye':
        this.#farewell ??= farewellOf(message.value);
        this.#later(() => this.#goodbye(message.value));
        return;
      default:
        return;
    }
  }

  /** Whether the agent was welcomed. */
  get attached(): boolean {
    return this.#attached;
  }

  /** Why the agent said goodbye; null where it has not. */
  get farewell(): string | null {
    return this.#farewell;
  }

  /** Resolves when everything that the agent has said so far is dealt with. */
  settled(): Promise<void> {
    return this.#work.run(async () => {});
  }

  /** The stream is over. */
  close(): void {
    this.#closed = true;
    this.#patience?.cancel();
  }

  /** Does something after what was asked before. A failure ends the stream, never the process. */
  #later(work: () => Promise<void>): void {
    if (this.#waiting >= MAX_WAITING) {
      this.#fail(`${MAX_WAITING} messages wait to be dealt with`);
      return;
    }
    this.#waiting += 1;
    this.#work
      .run(async () => {
        if (!this.#closed) await work();
      })
      .catch((error: unknown) => {
        this.#log.warn({ err: error }, 'a message could not be dealt with; the agent has to attach again');
        this.#fail('the coordinator could not deal with a message');
      })
      .finally(() => {
        this.#waiting -= 1;
      });
  }

  async #chunkReady({ manifest }: ChunkReady): Promise<void> {
    if (!manifest) return;
    const { jobId, leaseId, clip } = manifest;
    const answer = await this.#parts.committer.offer(this.nodeId, manifest);
    this.#send({ $case: 'chunkAck', value: { jobId, leaseId, clip, ...answer } });
    if (this.#spoolLeft > 0) {
      this.#spoolLeft -= 1;
      this.#awaitSpool();
    }
  }

  #heartbeat({ slots, gpus }: Heartbeat): void {
    if (this.#passes(() => checkGpus(gpus))) this.#parts.nodes.reported(this.nodeId, slots, gpus);
  }

  #slotChanged({ slot }: SlotChanged): void {
    if (!slot || !this.#passes(() => checkSlot(slot))) return;
    this.#parts.nodes.slotChanged(this.nodeId, slot);
    this.#parts.wake();
  }

  /** Whether a check passes; if not, the agent is not listened to any longer. */
  #passes(check: () => void): boolean {
    try {
      check();
      return true;
    } catch (error) {
      this.#fail(FarmError.from(error).message);
      return false;
    }
  }

  async #anchorReady({ jobId, leaseId, sha256, bytes }: AnchorReady): Promise<void> {
    const reason = await this.#parts.anchors.commit(this.nodeId, jobId, leaseId, { sha256, bytes });
    this.#send({ $case: 'anchorAck', value: { jobId, accepted: reason === null, reason: reason ?? '' } });
  }

  /** Waits for the next chunk of the spool; when there is none left, or none comes, lost leases are over. */
  #awaitSpool(): void {
    this.#patience?.cancel();
    const settle = () => this.#later(() => this.#handedIn());
    if (this.#spoolLeft === 0) settle();
    else this.#patience = this.#parts.clock.setTimeout(settle, SPOOL_PATIENCE_MILLIS);
  }

  async #handedIn(): Promise<void> {
    this.#spoolLeft = 0;
    for (const leaseId of this.#orphaned) {
      await this.#failLease(leaseId, 'node_lost', 'the agent attached again without this lease', null);
      this.#orphaned.delete(leaseId);
    }
    this.#parts.nodes.handedIn(this.nodeId);
    this.#parts.wake();
  }

  async #leaseEnded({ leaseId, reason, message, failureClass, clip }: LeaseEnded): Promise<void> {
    switch (reason) {
      case 'LEASE_END_REASON_FAILED':
        return this.#failLease(leaseId, failureClasses[failureClass], message, clip);
      case 'LEASE_END_REASON_REFUSED':
        // Counted and backed off like a failure, or a slot that always refuses would be asked for ever.
        return this.#failLease(leaseId, 'environment', `the agent refused the lease: ${message}`, null);
      default: {
        // Completed too: every chunk was answered before, so what is not committed by now will not come.
        const held = this.#held(leaseId);
        if (!held) return;
        const { jobId } = held;
        const said =
          message === '' ? 'the agent is done with it, and not every clip of it is committed' : bounded(message);
        await this.#parts.jobs.execute(jobId, { type: 'endLease', leaseId, cause: 'returned', reason: said });
      }
    }
  }

  async #failLease(leaseId: string, failureClass: FailureClass, message: string, clip: number | null): Promise<void> {
    const held = this.#held(leaseId);
    if (!held) return;
    const at = clip ?? this.#parts.fleet.progressOf(leaseId)?.clip ?? held.lease.start;
    await this.#parts.jobs.execute(held.jobId, { type: 'failLease', leaseId, failureClass, message, clip: at });
  }

  /** Behind what it said before: by then its leases are ended, by their own messages as a rule. */
  async #goodbye(said: Goodbye): Promise<void> {
    const reason = farewellOf(said);
    const { jobs, nodes, wake } = this.#parts;
    const leases = this.#leasesInForce();
    for (const { leaseId } of leases) {
      const jobId = this.#held(leaseId)?.jobId;
      const command = { type: 'endLease', leaseId, cause: 'returned', reason: `its agent left: ${reason}` } as const;
      if (jobId !== undefined) await jobs.execute(jobId, command);
    }
    await nodes.left(this.nodeId, reason);
    this.#log.info({ reason, leases_returned: leases.length }, 'node left');
    wake();
  }

  #logLine({ level, message, leaseId }: LogLine): void {
    const fields = { lease_id: leaseId.slice(0, 100), text: message.slice(0, MAX_LOG_TEXT) };
    this.#log[level >= WARN_LEVEL ? 'warn' : 'info'](fields, 'the agent reports');
  }

  /** A lease in force that is this node's, and its job. */
  #held(leaseId: string): { readonly jobId: string; readonly lease: LeaseState } | null {
    const holder = this.#parts.fleet.holder(leaseId);
    if (holder?.lease.nodeId !== this.nodeId) return null;
    return { jobId: holder.job.definition.jobId, lease: holder.lease };
  }

  #leasesInForce(): LeaseState[] {
    const leases = this.#parts.jobs.live().flatMap((job) => [...job.leases.values()]);
    return leases.filter((lease) => lease.nodeId === this.nodeId);
  }
}

/** A text of an agent's, no longer than the protocol allows. */
function bounded(text: string): string {
  return text.slice(0, MAX_LOG_TEXT).toWellFormed();
}

/** Why an agent left, no longer than the protocol allows. */
function farewellOf({ reason }: Goodbye): string {
  return bounded(reason) || 'it did not say why';
}
