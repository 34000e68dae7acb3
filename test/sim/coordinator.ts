import { commandOf } from '../../coordinator/src/core/action-command.ts';
import { isOver, type JobCommand } from '../../coordinator/src/core/decide.ts';
import { type NodeFailure, quarantineUntil } from '../../coordinator/src/core/failure-policy.ts';
import { EMPTY_FORECAST, type ForecastTable, measured, secondsPerClip } from '../../coordinator/src/core/forecast.ts';
import type { JobEvent } from '../../coordinator/src/core/job-events.ts';
import {
  type AttemptFailure,
  type FailureClass,
  type JobState,
  type LeaseState,
  slotKey,
} from '../../coordinator/src/core/job-model.ts';
import { schedule } from '../../coordinator/src/core/schedule.ts';
import {
  DEFAULT_POLICY,
  type LeaseProgress,
  type ScheduleAction,
  type ScheduledSlot,
  type ScheduleInput,
} from '../../coordinator/src/core/schedule-model.ts';
import { contentRef, execute, type LoggedEvent, type LoggedJob, refold } from '../../coordinator/src/core/test-jobs.ts';
import type { Server } from './agent.ts';
import type { AgentMessage, CoordinatorMessage, SlotFacts, SpooledChunk } from './messages.ts';
import type { Timeline } from './timeline.ts';

/** Whoever checks what the coordinator does. */
export interface CoordinatorObserver {
  /** After a command was carried out. */
  changed(job: LoggedJob, from: number): void;
  scheduled(input: ScheduleInput, actions: readonly ScheduleAction[], refusal: string | null): void;
  /** After each look at the clock. */
  ticked(jobs: readonly LoggedJob[]): void;
}

/** What survives a crash of the coordinator: the logs of the jobs, and how often it was started. */
export interface SimJournal {
  readonly logs: Map<string, LoggedEvent[]>;
  term: number;
}

interface Node {
  readonly nodeId: string;
  slots: readonly SlotFacts[];
  lastSeen: number;
  lost: boolean;
  send: ((message: CoordinatorMessage) => void) | null;
  quarantinedUntil: number;
  failures: readonly NodeFailure[];
  /** Leases in force that the agent no longer has, until its spool is handed in. */
  orphaned: readonly string[];
  spoolLeft: number;
}

const TICK_MILLIS = 250;
const LEASE_MILLIS = 5000;
const SPOOL_HAND_IN_MILLIS = 3000;
const STITCH_MILLIS = 300;
const USAGE_HALF_LIFE_MILLIS = 600_000;
const HANG_FLOOR_SECONDS = 15;
const HANG_FACTOR = 8;
/** The coordinator gives agents this many times their own limit. */
const STUCK_FACTOR = 3;
const PRIOR_SECONDS_PER_CLIP = 2;

/** The coordinator around the real core: messages become commands, events become messages, the clock calls the scheduler. */
export class SimCoordinator implements Server {
  readonly jobs = new Map<string, LoggedJob>();
  readonly #timeline: Timeline;
  readonly #journal: SimJournal;
  readonly #observer: CoordinatorObserver;
  readonly #nodes = new Map<string, Node>();
  readonly #progress = new Map<string, LeaseProgress>();
  readonly #usage = new Map<string, number>();
  #forecast: ForecastTable = EMPTY_FORECAST;
  #leaseNumber = 0;
  #wakes = false;
  #running = true;
  readonly #startedAt: number;

  /** Starts on what the journal holds. */
  constructor(timeline: Timeline, journal: SimJournal, observer: CoordinatorObserver) {
    this.#timeline = timeline;
    this.#journal = journal;
    this.#observer = observer;
    this.#startedAt = timeline.now;
    journal.term += 1;
    for (const [jobId, log] of journal.logs) {
      const job = { state: refold(log), log };
      this.jobs.set(jobId, job);
      if (job.state.status === 'stitching') this.#stitchLater(jobId);
    }
    timeline.every(TICK_MILLIS, () => this.#tick());
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
    this.#wake();
  }

  /** Carries out a command, whoever asks. */
  command(jobId: string, command: JobCommand): string {
    const job = this.jobs.get(jobId);
    if (!job) return 'refused';
    const from = job.log.length;
    const decision = execute(job, command, this.#timeline.now);
    for (const { event } of job.log.slice(from)) this.#announce(job, event);
    this.#observer.changed(job, from);
    if (job.log.length > from) this.#wake();
    return decision.outcome;
  }

  /** Pauses a job with the clips in hand that are known. */
  pause(jobId: string): void {
    const currentClips = new Map([...this.#progress].map(([leaseId, at]) => [leaseId, at.clip]));
    this.command(jobId, { type: 'pause', reason: 'by the operator', currentClips });
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

  #node(nodeId: string): Node {
    const known = this.#nodes.get(nodeId);
    if (known) return known;
    const node: Node = {
      nodeId,
      slots: [],
      lastSeen: this.#timeline.now,
      lost: false,
      send: null,
      quarantinedUntil: 0,
      failures: [],
      orphaned: [],
      spoolLeft: 0,
    };
    this.#nodes.set(nodeId, node);
    return node;
  }

  #live(): LoggedJob[] {
    return [...this.jobs.values()].filter((job) => !isOver(job.state));
  }

  #leases(): { job: LoggedJob; lease: LeaseState }[] {
    return this.#live().flatMap((job) => [...job.state.leases.values()].map((lease) => ({ job, lease })));
  }

  #hear(node: Node, message: AgentMessage): void {
    node.lastSeen = this.#timeline.now;
    node.lost = false;
    switch (message.type) {
      case 'hello':
        this.#welcome(node, message);
        break;
      case 'heartbeat':
        break;
      case 'progress':
        this.#noteProgress(message.leaseId, message.clip, message.fraction);
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
        if (this.#holds(node, jobId, leaseId))
          this.command(jobId, { type: 'endLease', leaseId, cause: 'returned', reason });
        break;
      }
      case 'failed':
        if (this.#holds(node, message.jobId, message.leaseId)) {
          this.#failLease(message.jobId, message.leaseId, message.failureClass, message.clip);
        }
        break;
    }
    this.#wake();
  }

  #holds(node: Node, jobId: string, leaseId: string): boolean {
    return this.jobs.get(jobId)?.state.leases.get(leaseId)?.nodeId === node.nodeId;
  }

  #welcome(node: Node, hello: Extract<AgentMessage, { type: 'hello' }>): void {
    node.slots = hello.slots;
    const inForce = this.#leases().filter(({ lease }) => lease.nodeId === node.nodeId);
    const held = new Map(hello.leases.map((lease) => [lease.leaseId, lease.clip]));
    const valid = inForce.filter(({ lease }) => held.has(lease.leaseId));
    for (const [leaseId, clip] of held) this.#noteProgress(leaseId, clip, 0);
    node.send?.({ type: 'welcome', term: this.#journal.term, valid: valid.map(({ lease }) => lease.leaseId) });
    for (const { lease } of valid) node.send?.({ type: 'shrink', leaseId: lease.leaseId, end: lease.end });
    node.orphaned = inForce.filter(({ lease }) => !held.has(lease.leaseId)).map(({ lease }) => lease.leaseId);
    node.spoolLeft = hello.spooled;
    if (hello.spooled === 0) this.#endOrphaned(node);
    else this.#timeline.after(SPOOL_HAND_IN_MILLIS, () => this.#running && this.#endOrphaned(node));
  }

  #endOrphaned(node: Node): void {
    const orphaned = node.orphaned;
    node.orphaned = [];
    for (const leaseId of orphaned) {
      const found = this.#leases().find(({ lease }) => lease.leaseId === leaseId);
      if (found) this.#failLost(found.job, found.lease);
    }
  }

  #chunk(node: Node, chunk: SpooledChunk): void {
    const { jobId, leaseId, clip, sha256 } = chunk;
    const job = this.jobs.get(jobId);
    if (job && chunk.damaged) {
      this.#failLease(jobId, leaseId, 'bad_chunk', clip);
    } else if (job) {
      // An agent that dies between the anchor and the chunk of clip 0 leaves the anchor to be taken from the chunk.
      if (clip === 0) this.command(jobId, { type: 'commitAnchor', leaseId, anchor: contentRef(sha256) });
      const offered = { leaseId, clip, frames: 48, chunk: contentRef(sha256), headerHash: 'h' };
      const outcome = this.command(jobId, { type: 'commit', chunk: offered });
      if (outcome === 'done') this.#noteSuccess(node, job.state, chunk);
    }
    node.send?.({ type: 'ack', sha256 });
    if (node.spoolLeft === 0) return;
    node.spoolLeft -= 1;
    if (node.spoolLeft === 0) this.#endOrphaned(node);
  }

  #noteSuccess(node: Node, job: JobState, chunk: SpooledChunk): void {
    node.failures = [];
    const slotId = job.committed.get(chunk.clip)?.slotId ?? '';
    const slot = { key: slotKey(node.nodeId, slotId), profile: 'p', declaredSecondsPerClip: 0 };
    this.#forecast = measured(this.#forecast, slot, job.definition, chunk.renderSeconds);
  }

  #noteProgress(leaseId: string, clip: number, fraction: number): void {
    const before = this.#progress.get(leaseId);
    if (before && before.clip + before.fraction >= clip + fraction) return;
    this.#progress.set(leaseId, { clip, fraction, movedAt: this.#timeline.now });
  }

  #failLost(job: LoggedJob, lease: LeaseState): void {
    const clip = this.#progress.get(lease.leaseId)?.clip ?? lease.start;
    this.#failLease(job.state.definition.jobId, lease.leaseId, 'node_lost', clip);
  }

  #failLease(jobId: string, leaseId: string, failureClass: FailureClass, clip: number): void {
    this.command(jobId, { type: 'failLease', leaseId, failureClass, message: `simulated ${failureClass}`, clip });
  }

  /** What agents hear of an event, once it is durable. */
  #announce(job: LoggedJob, event: JobEvent): void {
    const { jobId, anchorMode } = job.state.definition;
    if (event.type === 'LeaseGranted') {
      const { lease } = event;
      const makeAnchor = anchorMode === 'first_frame' && lease.start === 0 && job.state.anchor === null;
      const hangSeconds = this.#hangSeconds(lease, job.state);
      this.#nodes.get(lease.nodeId)?.send?.({ type: 'grant', jobId, lease, makeAnchor, hangSeconds });
    }
    if (event.type === 'LeaseShrunk') {
      const lease = job.state.leases.get(event.leaseId);
      if (lease) this.#nodes.get(lease.nodeId)?.send?.({ type: 'shrink', leaseId: event.leaseId, end: event.end });
    }
    if (event.type === 'LeaseEnded') {
      this.#progress.delete(event.leaseId);
      const nodeId = job.state.pastLeases.get(event.leaseId)?.nodeId ?? '';
      const { leaseId, failure } = event;
      if (event.cause !== 'completed') this.#nodes.get(nodeId)?.send?.({ type: 'revoke', leaseId });
      if (failure) this.#noteFailure(jobId, failure);
    }
    if (event.type === 'ClipCommitted' && job.state.committed.size === job.state.definition.clips)
      this.#stitchLater(jobId);
    if (event.type === 'JobRetried' && job.state.committed.size === job.state.definition.clips)
      this.#stitchLater(jobId);
  }

  #noteFailure(jobId: string, failure: AttemptFailure): void {
    const node = this.#node(failure.nodeId);
    node.failures = [...node.failures, { ...failure, jobId }].slice(-20);
    const until = quarantineUntil(node.failures, this.#timeline.now);
    if (until === null) return;
    node.quarantinedUntil = until;
    node.failures = [];
  }

  #stitchLater(jobId: string): void {
    this.#timeline.after(STITCH_MILLIS, () => {
      if (!this.#running) return;
      const frames = 48 * (this.jobs.get(jobId)?.state.definition.clips ?? 0);
      const times = { videoSeconds: frames / 25, audioSeconds: frames / 25, finishMillis: STITCH_MILLIS };
      this.command(jobId, { type: 'complete', result: { video: contentRef('video'), frames, ...times, checks: [] } });
    });
  }

  #hangSeconds(lease: LeaseState, job: JobState): number {
    const slot = this.#slots().find((s) => s.key === slotKey(lease.nodeId, lease.slotId));
    if (!slot) return HANG_FLOOR_SECONDS;
    const expected = this.#secondsPerClip(slot, job);
    return Math.max(HANG_FLOOR_SECONDS, HANG_FACTOR * expected + 2 * slot.warmUpSeconds);
  }

  #secondsPerClip(slot: ScheduledSlot, job: JobState): number {
    const asked = { key: slot.key, profile: slot.profile, declaredSecondsPerClip: 0 };
    return secondsPerClip(this.#forecast, asked, job.definition, PRIOR_SECONDS_PER_CLIP);
  }

  #slots(): ScheduledSlot[] {
    const held = new Map(this.#leases().map(({ lease }) => [slotKey(lease.nodeId, lease.slotId), lease.leaseId]));
    return [...this.#nodes.values()].flatMap((node) => {
      const available = node.send !== null && !node.lost && node.quarantinedUntil <= this.#timeline.now;
      return node.slots.map(({ slotId, warmUpSeconds }) => {
        const key = slotKey(node.nodeId, slotId);
        const leaseId = held.get(key) ?? null;
        return { key, nodeId: node.nodeId, slotId, profile: 'p', available, leaseId, warmUpSeconds };
      });
    });
  }

  #input(): ScheduleInput {
    return {
      now: this.#timeline.now,
      jobs: this.#live().map((job) => job.state),
      slots: this.#slots(),
      progress: this.#progress,
      usage: this.#usage,
      secondsPerClip: (slot, geometry) => {
        const asked = { key: slot.key, profile: slot.profile, declaredSecondsPerClip: 0 };
        return secondsPerClip(this.#forecast, asked, geometry, PRIOR_SECONDS_PER_CLIP);
      },
      fits: () => true,
      policy: DEFAULT_POLICY,
    };
  }

  #tick(): boolean {
    if (!this.#running) return false;
    const fade = 0.5 ** (TICK_MILLIS / USAGE_HALF_LIFE_MILLIS);
    for (const [owner, seconds] of this.#usage) this.#usage.set(owner, seconds * fade);
    for (const { job } of this.#leases()) {
      const { owner } = job.state.definition;
      this.#usage.set(owner, (this.#usage.get(owner) ?? 0) + TICK_MILLIS / 1000);
    }
    this.#observer.ticked([...this.jobs.values()]);
    this.#wake();
    return true;
  }

  /** Asks for a round; changes of one moment share it. */
  #wake(): void {
    if (this.#wakes) return;
    this.#wakes = true;
    this.#timeline.after(0, () => {
      this.#wakes = false;
      if (this.#running) this.#round();
    });
  }

  #round(): void {
    const { now } = this.#timeline;
    for (const node of this.#nodes.values()) if (now - node.lastSeen > LEASE_MILLIS) node.lost = true;
    for (const { job, lease } of this.#leases()) {
      // A node that has not attached since the start gets one lease time to do so.
      if (this.#node(lease.nodeId).lost) this.#failLost(job, lease);
      else this.#endIfStuck(job, lease);
    }
    const input = this.#input();
    const actions = schedule(input);
    let refusal: string | null = null;
    for (const action of actions) {
      const command = commandOf(action, () => this.#newLeaseId());
      const outcome = this.command(action.jobId, command);
      if (outcome === 'done') continue;
      refusal = `${JSON.stringify(action)} is ${outcome}`;
      break;
    }
    this.#observer.scheduled(input, actions, refusal);
  }

  #endIfStuck(job: LoggedJob, lease: LeaseState): void {
    const { now } = this.#timeline;
    const since = this.#progress.get(lease.leaseId)?.movedAt ?? Math.max(lease.grantedAt, this.#startedAt);
    if (now - since <= STUCK_FACTOR * this.#hangSeconds(lease, job.state) * 1000) return;
    this.#failLease(job.state.definition.jobId, lease.leaseId, 'hang', lease.start);
  }

  #newLeaseId(): string {
    this.#leaseNumber += 1;
    return `t${this.#journal.term}-${this.#leaseNumber}`;
  }
}
