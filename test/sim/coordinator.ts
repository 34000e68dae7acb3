import { commandOf } from '../../coordinator/src/core/action-command.ts';
import { isOver, type JobCommand } from '../../coordinator/src/core/decide.ts';
import { stuckSeconds } from '../../coordinator/src/core/hang-limits.ts';
import type { JobEvent } from '../../coordinator/src/core/job-events.ts';
import type { FailureClass, JobState, LeaseState } from '../../coordinator/src/core/job-model.ts';
import { packJob, unpackJob } from '../../coordinator/src/core/job-snapshot.ts';
import { schedule } from '../../coordinator/src/core/schedule.ts';
import type { ScheduleAction, ScheduleInput } from '../../coordinator/src/core/schedule-model.ts';
import { contentRef, execute, type LoggedEvent, type LoggedJob, refold } from '../../coordinator/src/core/test-jobs.ts';
import type { Server } from './agent.ts';
import { SimFleet, type SimNode } from './fleet.ts';
import type { AgentMessage, CoordinatorMessage, SpooledChunk } from './messages.ts';
import type { Timeline } from './timeline.ts';

/** Whoever checks what the coordinator does. */
export interface CoordinatorObserver {
  /** After a job was submitted. */
  submitted(job: LoggedJob): void;
  /** After a coordinator folded from the log what another one had. */
  takenOver(before: LoggedJob, after: LoggedJob): void;
  /** After a command was carried out; `from` is the length that the log had before. */
  changed(job: LoggedJob, from: number): void;
  /** After a round; `refusal` says which action was not possible, if any. */
  scheduled(input: ScheduleInput, actions: readonly ScheduleAction[], refusal: string | null): void;
}

/** What survives a crash of the coordinator: logs and snapshots of the jobs, and how often it was started. */
export interface SimJournal {
  readonly logs: Map<string, LoggedEvent[]>;
  /** JSON of a packed job, and the length that its log had. */
  readonly snapshots: Map<string, { readonly length: number; readonly text: string }>;
  term: number;
}

/** Events of a job after which another snapshot is taken. */
const EVENTS_PER_SNAPSHOT = 300;

const TICK_MILLIS = 250;

/** Slots for which the scheduler is given a rest of a millisecond after each round, as the dispatcher does in proportion. */
const SLOTS_PER_REST_MILLI = 4;
const SPOOL_HAND_IN_MILLIS = 3000;
const STITCH_MILLIS = 300;

/** The coordinator around the real core: messages become commands, events become messages, the clock calls the scheduler. */
export class SimCoordinator implements Server {
  readonly jobs = new Map<string, LoggedJob>();
  readonly #timeline: Timeline;
  readonly #journal: SimJournal;
  readonly #observer: CoordinatorObserver;
  readonly #fleet = new SimFleet();
  readonly #startedAt: number;
  #leaseNumber = 0;
  #wakes = false;
  #running = true;
  #restUntil = 0;

  /**
   * Starts on what the journal holds.
   *
   * @param before jobs of the coordinator that died
   */
  constructor(
    timeline: Timeline,
    journal: SimJournal,
    observer: CoordinatorObserver,
    before: ReadonlyMap<string, LoggedJob> = new Map(),
  ) {
    this.#timeline = timeline;
    this.#journal = journal;
    this.#observer = observer;
    this.#startedAt = timeline.now;
    journal.term += 1;
    for (const [jobId, log] of journal.logs) {
      const known = before.get(jobId);
      // What is completed stays so, and there is more of it than of what is under way; the end checks it once.
      const job = { state: known?.state.status === 'completed' ? known.state : this.#load(jobId, log), log };
      if (known) observer.takenOver(known, job);
      this.jobs.set(jobId, job);
      if (job.state.status === 'stitching') this.#stitchLater(jobId);
    }
    timeline.every(TICK_MILLIS, () => this.#tick());
  }

  /** A job as a restart finds it: its snapshot, if there is one, and the events after it. */
  #load(jobId: string, log: readonly LoggedEvent[]): JobState {
    const snapshot = this.#journal.snapshots.get(jobId);
    const packed = snapshot && unpackJob(JSON.parse(snapshot.text));
    return packed ? refold(log.slice(snapshot.length), packed) : refold(log);
  }

  /** Dies: everything that is not in the journal is gone. */
  crash(): void {
    this.#running = false;
  }

  /** Takes in a job that was submitted. */
  add(job: LoggedJob): void {
    const { jobId } = job.state.definition;
    this.#journal.logs.set(jobId, job.log);
    this.jobs.set(jobId, job);
    this.#observer.submitted(job);
    this.#wake();
  }

  /** Carries out a command, whoever asks. @returns what became of it */
  command(jobId: string, command: JobCommand): string {
    const job = this.jobs.get(jobId);
    if (!job) return 'refused';
    const from = job.log.length;
    const decision = execute(job, command, this.#timeline.now);
    for (const { event } of job.log.slice(from)) this.#announce(job, event);
    this.#observer.changed(job, from);
    this.#keepSnapshot(jobId, job);
    if (job.log.length > from) this.#wake();
    return decision.outcome;
  }

  #keepSnapshot(jobId: string, { state, log }: LoggedJob): void {
    const { length = 0 } = this.#journal.snapshots.get(jobId) ?? {};
    if (log.length - length < EVENTS_PER_SNAPSHOT) return;
    this.#journal.snapshots.set(jobId, { length: log.length, text: JSON.stringify(packJob(state)) });
  }

  /** Pauses a job with the clips in hand that are known. */
  pause(jobId: string): void {
    this.command(jobId, { type: 'pause', reason: 'by the operator', currentClips: this.#fleet.currentClips() });
  }

  accept(nodeId: string, send: (message: CoordinatorMessage) => void): ((message: AgentMessage) => void) | null {
    if (!this.#running) return null;
    const node = this.#node(nodeId);
    node.send = send;
    return (message) => {
      if (this.#running && node.send === send) this.#hear(node, message);
    };
  }

  hungUp(nodeId: string): void {
    if (this.#running) this.#node(nodeId).send = null;
  }

  #node(nodeId: string): SimNode {
    return this.#fleet.node(nodeId, this.#timeline.now);
  }

  #live(): LoggedJob[] {
    return [...this.jobs.values()].filter((job) => !isOver(job.state));
  }

  #leases(): { job: LoggedJob; lease: LeaseState }[] {
    return this.#live().flatMap((job) => [...job.state.leases.values()].map((lease) => ({ job, lease })));
  }

  #hear(node: SimNode, message: AgentMessage): void {
    const { now } = this.#timeline;
    node.lastSeen = now;
    node.lost = false;
    switch (message.type) {
      case 'hello':
        this.#welcome(node, message);
        break;
      case 'heartbeat':
        break;
      case 'progress':
        this.#fleet.noteProgress(message.leaseId, message.clip, message.fraction, now);
        break;
      case 'anchor': {
        const { jobId, leaseId, sha256 } = message;
        this.command(jobId, { type: 'commitAnchor', leaseId, anchor: contentRef(sha256) });
        break;
      }
      case 'chunk':
        this.#chunk(node, message.chunk);
        break;
      case 'stopped': {
        const { jobId, leaseId, reason } = message;
        if (!this.#holds(node, jobId, leaseId)) break;
        this.command(jobId, { type: 'endLease', leaseId, cause: 'returned', reason });
        break;
      }
      case 'failed':
        if (!this.#holds(node, message.jobId, message.leaseId)) break;
        this.#failLease(message.jobId, message.leaseId, message.failureClass, message.clip);
        break;
    }
  }

  #holds(node: SimNode, jobId: string, leaseId: string): boolean {
    return this.jobs.get(jobId)?.state.leases.get(leaseId)?.nodeId === node.nodeId;
  }

  #welcome(node: SimNode, hello: Extract<AgentMessage, { type: 'hello' }>): void {
    node.slots = hello.slots;
    const inForce = this.#leases().filter(({ lease }) => lease.nodeId === node.nodeId);
    const held = new Map(hello.leases.map((lease) => [lease.leaseId, lease.clip]));
    const valid = inForce.filter(({ lease }) => held.has(lease.leaseId));
    for (const [leaseId, clip] of held) this.#fleet.noteProgress(leaseId, clip, 0, this.#timeline.now);
    node.send?.({ type: 'welcome', term: this.#journal.term, valid: valid.map(({ lease }) => lease.leaseId) });
    // A shrink that was sent into a broken stream is said again.
    for (const { lease } of valid) node.send?.({ type: 'shrink', leaseId: lease.leaseId, end: lease.end });
    node.orphaned = inForce.filter(({ lease }) => !held.has(lease.leaseId)).map(({ lease }) => lease.leaseId);
    node.spoolLeft = hello.spooled;
    if (hello.spooled === 0) this.#handedIn(node);
    else this.#timeline.after(SPOOL_HAND_IN_MILLIS, () => this.#running && this.#handedIn(node));
  }

  /** The spool is dealt with, or took too long: leases that the agent lost are over now. */
  #handedIn(node: SimNode): void {
    const { orphaned } = node;
    node.orphaned = [];
    node.spoolLeft = 0;
    for (const { job, lease } of this.#leases()) if (orphaned.includes(lease.leaseId)) this.#failLost(job, lease);
    this.#wake();
  }

  #chunk(node: SimNode, chunk: SpooledChunk): void {
    const { jobId, leaseId, clip, sha256, renderSeconds, span } = chunk;
    const job = this.jobs.get(jobId);
    if (job && chunk.damaged) {
      this.#failLease(jobId, leaseId, 'bad_chunk', clip);
    } else if (job) {
      // An agent that dies between the anchor and the chunk of clip 0 leaves the anchor to be taken from the chunk.
      if (clip === 0) this.command(jobId, { type: 'commitAnchor', leaseId, anchor: contentRef(sha256) });
      const offered = { leaseId, clip, frames: 48, chunk: contentRef(sha256), headerHash: 'h', span };
      const outcome = this.command(jobId, { type: 'commit', chunk: offered });
      const slotId = job.state.committed.get(clip)?.slotId ?? '';
      if (outcome === 'done') this.#fleet.noteSuccess(node, slotId, job.state.definition, renderSeconds);
    }
    node.send?.({ type: 'ack', sha256 });
    if (node.spoolLeft === 0) return;
    node.spoolLeft -= 1;
    if (node.spoolLeft === 0) this.#handedIn(node);
  }

  #failLost(job: LoggedJob, lease: LeaseState): void {
    const clip = this.#fleet.progressOf(lease.leaseId)?.clip ?? lease.start;
    this.#failLease(job.state.definition.jobId, lease.leaseId, 'node_lost', clip);
  }

  #failLease(jobId: string, leaseId: string, failureClass: FailureClass, clip: number): void {
    this.command(jobId, { type: 'failLease', leaseId, failureClass, message: `simulated ${failureClass}`, clip });
  }

  /** What agents hear of an event, once it is durable. */
  #announce({ state }: LoggedJob, event: JobEvent): void {
    const { jobId, anchorMode, clips } = state.definition;
    this.#fleet.noteEvent(state, event);
    switch (event.type) {
      case 'LeaseGranted': {
        const { lease } = event;
        const makeAnchor = anchorMode === 'first_frame' && lease.start === 0 && state.anchor === null;
        const hangSeconds = this.#fleet.hangSeconds(lease, state.definition);
        this.#fleet.send(lease.nodeId, { type: 'grant', jobId, lease, makeAnchor, hangSeconds });
        break;
      }
      case 'LeaseShrunk': {
        const { leaseId, end } = event;
        const lease = state.leases.get(leaseId);
        if (lease) this.#fleet.send(lease.nodeId, { type: 'shrink', leaseId, end });
        break;
      }
      case 'LeaseEnded': {
        const { leaseId, failure } = event;
        this.#fleet.forget(leaseId);
        const lease = state.pastLeases.get(leaseId);
        if (lease && event.cause !== 'completed') this.#fleet.send(lease.nodeId, { type: 'revoke', leaseId });
        if (failure) this.#fleet.noteFailure(jobId, failure, this.#timeline.now);
        break;
      }
      case 'ClipCommitted':
      case 'JobRetried':
        if (state.committed.size === clips) this.#stitchLater(jobId);
    }
  }

  #stitchLater(jobId: string): void {
    this.#timeline.after(STITCH_MILLIS, () => {
      if (!this.#running) return;
      const frames = 48 * (this.jobs.get(jobId)?.state.definition.clips ?? 0);
      const times = { videoSeconds: frames / 25, audioSeconds: frames / 25, finishMillis: STITCH_MILLIS };
      this.command(jobId, { type: 'complete', result: { video: contentRef('video'), frames, ...times, checks: [] } });
    });
  }

  #tick(): boolean {
    if (!this.#running) return false;
    const live = this.#live().map((job) => job.state);
    this.#fleet.noteUsage(live, TICK_MILLIS);
    this.#wake();
    return true;
  }

  /** Asks for a round; changes of one moment, and in a large farm of the moments after a round, share it. */
  #wake(): void {
    if (this.#wakes) return;
    this.#wakes = true;
    this.#timeline.after(this.#restUntil - this.#timeline.now, () => {
      this.#wakes = false;
      if (!this.#running) return;
      const rest = Math.floor(this.#round() / SLOTS_PER_REST_MILLI);
      this.#restUntil = this.#timeline.now + Math.min(TICK_MILLIS, rest);
    });
  }

  /** @returns slots that were looked at */
  #round(): number {
    const { now } = this.#timeline;
    this.#fleet.expire(now);
    for (const { job, lease } of this.#leases()) {
      if (this.#node(lease.nodeId).lost) this.#failLost(job, lease);
      else this.#endIfStuck(job, lease);
    }
    const live = this.#live().map((job) => job.state);
    const input = this.#fleet.scheduleInput(live, now);
    const actions = schedule(input);
    let refusal: string | null = null;
    for (const action of actions) {
      const outcome = this.command(
        action.jobId,
        commandOf(action, () => this.#newLeaseId()),
      );
      if (outcome === 'done') continue;
      refusal = `${JSON.stringify(action)} is ${outcome}`;
      break;
    }
    this.#observer.scheduled(input, actions, refusal);
    return input.slots.length;
  }

  #endIfStuck(job: LoggedJob, lease: LeaseState): void {
    const since = this.#fleet.progressOf(lease.leaseId)?.movedAt ?? Math.max(lease.grantedAt, this.#startedAt);
    const limit = stuckSeconds(this.#fleet.hangSeconds(lease, job.state.definition));
    if (this.#timeline.now - since <= limit * 1000) return;
    this.#failLease(job.state.definition.jobId, lease.leaseId, 'hang', lease.start);
  }

  #newLeaseId(): string {
    this.#leaseNumber += 1;
    return `t${this.#journal.term}-${this.#leaseNumber}`;
  }
}
