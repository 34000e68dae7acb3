import type { FailureClass, LeaseState } from '../../coordinator/src/core/job-model.ts';
import { Link } from './link.ts';
import type { AgentMessage, CoordinatorMessage, SpooledChunk } from './messages.ts';
import type { Random } from './random.ts';
import type { Timeline } from './timeline.ts';

/** A slot as it really is; the coordinator finds out. */
export interface SlotTruth {
  readonly slotId: string;
  readonly secondsPerClip: number;
  /** From the start of a lease to its first clip. */
  readonly warmUpSeconds: number;
  /** On top of it when the model has to be loaded: at first, and after a failure. */
  readonly loadSeconds: number;
  /** Whether the coordinator is told how fast it is, or has to find out. */
  readonly declared: boolean;
  /** The highest picture that fits its memory; pixels. */
  readonly maxHeight: number;
}

/** The coordinator, as far as an agent can see it. */
export interface Server {
  /** Null when nobody answers. */
  accept(nodeId: string, send: (message: CoordinatorMessage) => void): ((message: AgentMessage) => void) | null;
  /** The stream broke, and the coordinator noticed. */
  hungUp(nodeId: string): void;
}

/** Whoever counts what is really rendered. */
export interface RenderObserver {
  rendered(nodeId: string, slotId: string, chunk: SpooledChunk): void;
  preRolled(): void;
  /** A lease goes on in the model call of the one before it. */
  wentOn(): void;
  /** A clip in hand, pre-roll not counted, was thrown away because the lease was taken from the slot. */
  brokenOff(seconds: number): void;
}

interface Task {
  readonly jobId: string;
  readonly lease: LeaseState;
  readonly makeAnchor: boolean;
  readonly hangSeconds: number;
  /** Span of its model call. */
  readonly span: number;
  end: number;
  clip: number;
  fraction: number;
  movedAt: number;
  /** Null while it is loading. */
  clipBegan: number | null;
  stopAfterClip: string | null;
  hung: boolean;
  cancel: () => void;
}

interface Slot {
  readonly truth: SlotTruth;
  task: Task | null;
  loaded: boolean;
  /** Model call that the runner keeps open after its last lease, and the clip that comes next in it. */
  call: { readonly leaseId: string; readonly span: number; readonly next: number } | null;
  /** Damages the next chunk. */
  damageNext: boolean;
}

const HEARTBEAT_MILLIS = 1000;
const GRACE_MILLIS = 20_000;
const RECONNECT_MILLIS = 700;

/** A node agent: renders what it is granted, spools chunks on disk until they are acknowledged, dials again and again. */
export class SimAgent {
  readonly nodeId: string;
  readonly slots: readonly Slot[];
  readonly #timeline: Timeline;
  readonly #random: Random;
  readonly #server: Server;
  readonly #observer: RenderObserver;
  readonly #down: Link<CoordinatorMessage>;
  readonly #up: Link<AgentMessage>;
  #receive: ((message: AgentMessage) => void) | null = null;
  #spool: SpooledChunk[] = [];
  #alive = true;
  #reachable = true;
  #contentNumber = 0;
  #attempt = 0;

  constructor(
    nodeId: string,
    slots: readonly SlotTruth[],
    parts: { timeline: Timeline; random: Random; server: Server; observer: RenderObserver },
  ) {
    this.nodeId = nodeId;
    this.slots = slots.map((truth) => ({ truth, task: null, loaded: false, call: null, damageNext: false }));
    this.#timeline = parts.timeline;
    this.#random = parts.random;
    this.#server = parts.server;
    this.#observer = parts.observer;
    this.#down = new Link(parts.timeline, parts.random, (message) => this.#hear(message));
    this.#up = new Link(parts.timeline, parts.random, (message) => this.#receive?.(message));
  }

  /** Begins to dial and to look after its slots. */
  start(): void {
    this.#dial();
    this.#timeline.every(HEARTBEAT_MILLIS, () => {
      if (this.#alive) this.#lookAfterSlots();
      if (this.connected) this.#up.send({ type: 'heartbeat' });
      return true;
    });
  }

  get connected(): boolean {
    return this.#receive !== null;
  }

  get alive(): boolean {
    return this.#alive;
  }

  /** The process dies; the spool is on disk. It comes back after `millis`. False when it is dead. */
  kill(millis: number): boolean {
    if (!this.#alive) return false;
    this.#alive = false;
    for (const slot of this.slots) {
      slot.task?.cancel();
      slot.task = null;
      slot.loaded = false;
      slot.call = null;
    }
    this.#loseStream(true);
    this.#timeline.after(millis, () => {
      this.#alive = true;
      this.#dial();
    });
    return true;
  }

  /** The network is away for `millis`; the coordinator notices at once or only by the silence. False when it is. */
  partition(millis: number, noticed: boolean): boolean {
    if (!this.#reachable) return false;
    this.#reachable = false;
    this.#loseStream(noticed);
    this.#timeline.after(millis, () => {
      this.#reachable = true;
    });
    return true;
  }

  /** Messages take `millis` longer for a while. */
  lag(millis: number, forMillis: number): boolean {
    this.#up.lag = millis;
    this.#down.lag = millis;
    this.#timeline.after(forMillis, () => {
      this.#up.lag = 0;
      this.#down.lag = 0;
    });
    return true;
  }

  /** The coordinator is gone: the stream breaks. */
  coordinatorGone(): void {
    this.#loseStream(false);
  }

  /** The runner of a slot fails at what it is doing. False when it does nothing. */
  failSlot(index: number, failureClass: FailureClass): boolean {
    const slot = this.slots[index];
    if (!slot?.task) return false;
    this.#fail(slot, slot.task, failureClass);
    return true;
  }

  /** The runner of a slot stands still from now on. False when it does nothing. */
  hangSlot(index: number): boolean {
    const task = this.slots[index]?.task;
    if (!task) return false;
    task.cancel();
    task.hung = true;
    return true;
  }

  /** The next chunk of a slot is damaged on its way. False when the next one is already. */
  damageNextChunk(index: number): boolean {
    const slot = this.slots[index];
    if (!slot || slot.damageNext) return false;
    slot.damageNext = true;
    return true;
  }

  #loseStream(noticed: boolean): void {
    this.#down.break();
    this.#up.break();
    const wasConnected = this.connected;
    this.#receive = null;
    if (wasConnected && noticed) this.#server.hungUp(this.nodeId);
    if (!this.#alive) return;
    const attempt = this.#attempt;
    this.#timeline.after(RECONNECT_MILLIS * this.#random.between(0.5, 1.5), () => this.#dial());
    this.#timeline.after(GRACE_MILLIS, () => {
      if (attempt === this.#attempt && !this.connected) this.#stopAll('out of grace');
    });
  }

  #dial(): void {
    if (!this.#alive || this.connected) return;
    const again = () => this.#timeline.after(RECONNECT_MILLIS * this.#random.between(0.5, 1.5), () => this.#dial());
    if (!this.#reachable) {
      again();
      return;
    }
    const receive = this.#server.accept(this.nodeId, (message) => this.#down.send(message));
    if (!receive) {
      again();
      return;
    }
    this.#attempt += 1;
    this.#receive = receive;
    const tasks = this.slots.flatMap((slot) => (slot.task ? [slot.task] : []));
    this.#up.send({
      type: 'hello',
      slots: this.slots.map(({ truth: { slotId, warmUpSeconds, declared, secondsPerClip, maxHeight } }) => {
        return { slotId, warmUpSeconds, declaredSecondsPerClip: declared ? secondsPerClip : 0, maxHeight };
      }),
      leases: tasks.map((task) => ({ leaseId: task.lease.leaseId, clip: task.clip })),
      spooled: this.#spool.length,
    });
  }

  #hear(message: CoordinatorMessage): void {
    if (!this.#alive) return;
    switch (message.type) {
      case 'welcome': {
        const valid = new Set(message.valid);
        for (const slot of this.slots) if (slot.task && !valid.has(slot.task.lease.leaseId)) this.#drop(slot);
        for (const chunk of this.#spool) this.#up.send({ type: 'chunk', chunk });
        return;
      }
      case 'grant':
        this.#begin(message);
        return;
      case 'shrink': {
        const slot = this.#slotWith(message.leaseId);
        if (!slot?.task) return;
        slot.task.end = Math.min(slot.task.end, message.end);
        if (slot.task.end <= slot.task.clip || slot.task.end <= slot.task.lease.start) this.#breakOff(slot, slot.task);
        return;
      }
      case 'revoke': {
        const slot = this.#slotWith(message.leaseId);
        if (slot?.task) this.#breakOff(slot, slot.task);
        return;
      }
      case 'ack':
        this.#spool = this.#spool.filter((chunk) => chunk.sha256 !== message.sha256);
        return;
    }
  }

  #slotWith(leaseId: string): Slot | undefined {
    return this.slots.find((slot) => slot.task?.lease.leaseId === leaseId);
  }

  #begin({ jobId, lease, makeAnchor, hangSeconds }: Extract<CoordinatorMessage, { type: 'grant' }>): void {
    const slot = this.slots.find(({ truth }) => truth.slotId === lease.slotId);
    if (!slot || slot.task) {
      this.#say({ type: 'stopped', jobId, leaseId: lease.leaseId, reason: 'the slot is busy' });
      return;
    }
    const { now } = this.#timeline;
    const open = slot.call;
    const goesOn = open !== null && open.leaseId === lease.continues && open.next === lease.start;
    if (goesOn) this.#observer.wentOn();
    const clip = goesOn ? lease.start : lease.start - lease.preRoll;
    const span = goesOn ? open.span : lease.span;
    const progress = { end: lease.end, clip, fraction: 0, movedAt: now, clipBegan: null };
    const task: Task = {
      jobId,
      lease,
      makeAnchor,
      hangSeconds,
      span,
      ...progress,
      stopAfterClip: null,
      hung: false,
      cancel: () => undefined,
    };
    slot.task = task;
    slot.call = null;
    const warmUp = slot.truth.warmUpSeconds + (slot.loaded ? 0 : slot.truth.loadSeconds);
    const seconds = goesOn ? 0 : warmUp;
    task.cancel = this.#timeline.after(seconds * 1000, () => {
      slot.loaded = true;
      this.#beginClip(slot, task);
    });
  }

  #beginClip(slot: Slot, task: Task): void {
    task.clipBegan = this.#timeline.now;
    this.#advance(slot, task, slot.truth.secondsPerClip * this.#random.between(0.95, 1.05) * 250);
  }

  #advance(slot: Slot, task: Task, quarterMillis: number): void {
    task.cancel = this.#timeline.after(quarterMillis, () => {
      task.movedAt = this.#timeline.now;
      task.fraction += 0.25;
      if (task.fraction < 1) {
        this.#report(task);
        this.#advance(slot, task, quarterMillis);
        return;
      }
      this.#finishClip(slot, task);
    });
  }

  #report(task: Task): void {
    this.#say({ type: 'progress', leaseId: task.lease.leaseId, clip: task.clip, fraction: task.fraction });
  }

  #finishClip(slot: Slot, task: Task): void {
    if (task.clip >= task.lease.start) this.#spoolClip(slot, task);
    else this.#observer.preRolled();
    task.clip += 1;
    task.fraction = 0;
    if (task.clip >= task.end || task.stopAfterClip !== null) {
      slot.call = { leaseId: task.lease.leaseId, span: task.span, next: task.clip };
    }
    if (task.clip >= task.end) {
      slot.task = null;
      return;
    }
    if (task.stopAfterClip !== null) {
      slot.task = null;
      this.#say({ type: 'stopped', jobId: task.jobId, leaseId: task.lease.leaseId, reason: task.stopAfterClip });
      return;
    }
    this.#report(task);
    this.#beginClip(slot, task);
  }

  #spoolClip(slot: Slot, task: Task): void {
    const { jobId, clip } = task;
    const { leaseId } = task.lease;
    this.#contentNumber += 1;
    const chunk: SpooledChunk = {
      jobId,
      leaseId,
      clip,
      span: task.span,
      sha256: `${this.nodeId}-${this.#contentNumber}`,
      renderSeconds: this.#secondsAtClip(task),
      damaged: slot.damageNext,
    };
    slot.damageNext = false;
    this.#spool.push(chunk);
    this.#observer.rendered(this.nodeId, slot.truth.slotId, chunk);
    const attempt = this.#attempt;
    // Encoding and uploading; what is not through when the stream breaks is offered with the spool after it.
    this.#timeline.after(this.#random.between(20, 200), () => {
      if (!this.#alive || attempt !== this.#attempt) return;
      if (clip === 0 && task.makeAnchor) this.#say({ type: 'anchor', jobId, leaseId, sha256: chunk.sha256 });
      this.#say({ type: 'chunk', chunk });
    });
  }

  #lookAfterSlots(): void {
    for (const slot of this.slots) {
      const { task } = slot;
      if (task && this.#timeline.now - task.movedAt > task.hangSeconds * 1000) this.#fail(slot, task, 'hang');
    }
  }

  #fail(slot: Slot, task: Task, failureClass: FailureClass): void {
    const { jobId, clip } = task;
    this.#drop(slot);
    slot.loaded = false;
    this.#say({ type: 'failed', jobId, leaseId: task.lease.leaseId, clip, failureClass });
  }

  #stopAll(reason: string): void {
    for (const slot of this.slots) {
      if (!slot.task) continue;
      if (slot.task.clip < slot.task.lease.start) this.#drop(slot);
      else slot.task.stopAfterClip = reason;
    }
  }

  #breakOff(slot: Slot, task: Task): void {
    if (task.clip >= task.lease.start) this.#observer.brokenOff(this.#secondsAtClip(task));
    this.#drop(slot);
  }

  #secondsAtClip({ clipBegan }: Task): number {
    return clipBegan === null ? 0 : (this.#timeline.now - clipBegan) / 1000;
  }

  #drop(slot: Slot): void {
    slot.task?.cancel();
    slot.task = null;
  }

  #say(message: AgentMessage): void {
    if (this.connected) this.#up.send(message);
  }
}
