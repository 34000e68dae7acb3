import type { Clock, Timer } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import type { HeldLease, SlotStatus } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { type SlotInfo, SlotState } from '@clipfarm/shared/gen/clipfarm/v1/node';
import type { Logger } from '@clipfarm/shared/log';
import { type ClipFigures, ClipPipeline } from './clip-pipeline.ts';
import type { DiskGuard } from './disk-guard.ts';
import { groupGpuBytes } from './gpu/process-memory.ts';
import { HangWatch } from './hang-watch.ts';
import { HeldCall } from './held-call.ts';
import type { InputCache } from './input-cache.ts';
import { fetchLeaseInputs, type LeaseInputs } from './lease-inputs.ts';
import {
  currentClip,
  idle,
  type LeaseAction,
  type LeaseEvent,
  type LeaseOutcome,
  type LeaseState,
  stepLease,
} from './lease-machine.ts';
import type { LeaseTask } from './lease-task.ts';
import type { LoadGate } from './load-gate.ts';
import type { Outbox } from './outbox.ts';
import type { RunnerProfile } from './profile.ts';
import type { FromRunner, RunnerCapabilities, RunnerErrorClass } from './runner/protocol.ts';
import { RunnerHost, type UnloadOutcome } from './runner-host.ts';
import type { Spool } from './spool.ts';

/** What a {@link Slot} works with. */
export interface SlotOptions {
  readonly slotId: string;
  readonly profile: RunnerProfile;
  readonly gate: LoadGate;
  readonly socketDir: string;
  /** Path or name of ffmpeg. */
  readonly ffmpeg: string;
  readonly spool: Spool;
  readonly outbox: Outbox;
  readonly inputs: InputCache;
  /** Of all slots: they share the disk. */
  readonly disk: DiskGuard;
  readonly events: SlotEvents;
  readonly clock: Clock;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  readonly log: Logger;
}

/** What a slot tells its agent. */
export interface SlotEvents {
  /** A lease is over; called once for each, also for one that was refused. */
  readonly ended: (lease: LeaseTask, outcome: LeaseOutcome, clip: number) => void;
  readonly progress: (leaseId: string, clip: number, fraction: number) => void;
  /** The runner has every frame of a clip of the lease, pre-roll included. */
  readonly clipRendered: (lease: LeaseTask, clip: number, figures: ClipFigures) => void;
  /** A file was spooled; encoding took so long beyond the last frame. */
  readonly spooled: (encodeSeconds: number) => void;
  readonly runnerGone: () => void;
  /** The model of a slot without a lease was unloaded. */
  readonly unloaded: (outcome: UnloadOutcome) => void;
  /** The slot is no longer what it said of itself. */
  readonly changed: (slot: SlotInfo) => void;
}

/** Most characters of {@link SlotStatus.stateReason}. */
const MAX_REASON = 2000;

/** Milliseconds that a runner may take to confirm a cancel. */
const CANCEL_MILLIS = 10_000;

/** Failures after which a runner process is of no more use. */
const mustRestart: ReadonlySet<RunnerErrorClass> = new Set(['device', 'crash', 'hang']);

/**
 * One slot: carries out what the lease machine decides. It owns the runner, the pipeline from frames to chunks and the
 * timers that end every wait.
 */
export class Slot {
  readonly #options: SlotOptions;
  readonly #runner: RunnerHost;
  #state: LeaseState = idle;
  #pipeline: ClipPipeline | null = null;
  #inputs: LeaseInputs | null = null;
  /** Lease that was begun last, and what ends everything that is awaited for it. */
  #begun = '';
  #lease = new AbortController();
  #cancelTimer: Timer | null = null;
  #hang: HangWatch = HangWatch.none;
  #capabilities: RunnerCapabilities;
  #versions: Readonly<Record<string, string>> = {};
  readonly #call = new HeldCall();
  #leaving: string | null = null;
  /** Why its GPUs can't be used. */
  #gpuTrouble: string | null = null;
  readonly #whenIdle = new Set<() => void>();
  /** Runs while a loaded model has no lease, where the profile wants that to end. */
  #idleTimer: Timer | null = null;
  /** Why the model was unloaded; null while it is loaded, or was never. */
  #rested: string | null = null;
  /** Seconds that a lease waits for the model, because it is unloaded; until the first sign of its work. */
  #coldSeconds = 0;

  constructor(options: SlotOptions) {
    this.#options = options;
    const { profile, gate, socketDir, clock, log } = options;
    this.#capabilities = profile.capabilities;
    this.#runner = new RunnerHost({
      ...{ profile, gate, socketDir, clock, log },
      // A pretended GPU is on no driver's list.
      gpuBytes: async (group) => (profile.slot.gpus.length === 0 ? null : groupGpuBytes(group)),
      onMessage: (message, payload) => this.#take(message, payload),
      onLoaded: ({ capabilities, versions }) => {
        this.#capabilities = capabilities;
        this.#versions = versions;
        this.#rested = null;
        if (this.#state.kind === 'idle') this.#coldSeconds = 0;
        options.events.changed(this.info);
        this.#watchIdleness();
      },
      onGone: (message) => {
        this.#call.close();
        options.events.runnerGone();
        if (this.#state.kind !== 'idle')
          this.#step({ type: 'runnerGone', leaseId: this.#state.lease.leaseId, message });
      },
    });
  }

  /** What the coordinator is told about the slot itself. */
  get info(): SlotInfo {
    const { setEnd, continues } = this.#capabilities;
    const told = { runnerVersions: { ...this.#versions }, fixedEnd: !setEnd, continues };
    const { slot } = this.#options.profile;
    const warmUpSeconds = slot.warmUpSeconds + this.#coldSeconds;
    return { ...slot, slotId: this.#options.slotId, warmUpSeconds, ...told };
  }

  /** What the slot does now. */
  get status(): SlotStatus {
    const state = this.#state;
    return {
      slotId: this.#options.slotId,
      state: this.#publicState(),
      leaseId: state.kind === 'idle' ? '' : state.lease.leaseId,
      currentClip: currentClip(state),
      clipProgress: state.kind === 'rendering' ? state.fraction : 0,
      stateReason: (this.#leaving ?? this.#trouble ?? this.#runner.beginning ?? this.#resting ?? '').slice(
        0,
        MAX_REASON,
      ),
      openLeaseId: state.kind === 'idle' ? this.#call.leaseId : '',
    };
  }

  /** True while it has no lease and its model is unloaded. */
  get unloaded(): boolean {
    return this.#resting !== null;
  }

  /** True while the runner prepares or renders a lease. */
  get rendering(): boolean {
    return this.#state.kind === 'loading' || this.#state.kind === 'rendering';
  }

  /** Leases that the slot has not reported as ended: the one in hand and one that waits for it. */
  get held(): readonly HeldLease[] {
    const state = this.#state;
    if (state.kind === 'idle') return [];
    const { slotId } = this.#options;
    const { leaseId, jobId } = state.lease;
    const inHand = { leaseId, jobId, slotId, currentClip: currentClip(state) };
    if (state.kind !== 'ending' || state.next === null) return [inHand];
    const { next } = state;
    return [inHand, { leaseId: next.leaseId, jobId: next.jobId, slotId, currentClip: next.start - next.preRoll }];
  }

  /** Loads the runner before the first lease comes. A failure is logged and tried again. */
  warmUp(): void {
    void this.#runner.ready();
  }

  /** Takes a lease or reports it as refused. A repeat of the lease in hand does nothing. */
  grant(lease: LeaseTask): void {
    const known = this.held.some((held) => held.leaseId === lease.leaseId);
    const { disk, events } = this.#options;
    const message = this.#leaving ?? this.#gpuTrouble;
    if ((message === null && disk.reason === null) || known) this.#step({ type: 'grant', lease });
    else if (message !== null) events.ended(lease, { reason: 'refused', message }, lease.start);
    // It was under way when the agent said so; what failed was reported by the slot that met it first.
    else events.ended(lease, { reason: 'stopped', message: disk.reason ?? '' }, lease.start);
  }

  /** Moves the end of a lease; see the lease machine. */
  shrink(leaseId: string, end: number): void {
    const held = this.#heldEnd(leaseId);
    if (held !== null && end < held.end) {
      const fields = { job_id: held.jobId, lease_id: leaseId, clip: currentClip(this.#state), end };
      this.#options.log.info({ ...fields, end_before: held.end }, 'lease shrunk');
    }
    this.#step({ type: 'shrink', leaseId, end });
  }

  /** The lease is void. */
  revoke(leaseId: string, reason: string): void {
    const held = this.#heldEnd(leaseId);
    if (held !== null) {
      const fields = { job_id: held.jobId, lease_id: leaseId, clip: currentClip(this.#state) };
      this.#options.log.info({ ...fields, reason }, 'lease revoked');
    }
    this.#step({ type: 'revoke', leaseId, reason });
  }

  /** Job and end of a lease that the slot holds, also where it only waits; null for any other. */
  #heldEnd(leaseId: string): { readonly jobId: string; readonly end: number } | null {
    const state = this.#state;
    if (state.kind === 'idle') return null;
    if (state.lease.leaseId === leaseId) return { jobId: state.lease.jobId, end: state.end };
    const next = state.kind === 'ending' && state.next?.leaseId === leaseId ? state.next : null;
    return next && { jobId: next.jobId, end: next.end };
  }

  /** Finishes the clip in hand and hands back the rest. */
  stop(reason: string): void {
    for (const { leaseId } of this.held.toReversed()) this.#step({ type: 'stop', leaseId, reason });
  }

  /** A chunk of a lease is lost: refused by the coordinator or damaged on disk. */
  chunkLost(leaseId: string, failureClass: 'bad_chunk' | 'environment', message: string): void {
    this.#step({ type: 'failed', leaseId, failureClass, message, runner: 'busy' });
  }

  /** Its GPUs can't be used for this reason, or can again. A lease in hand fails, because it would only hang. */
  judgeGpus(trouble: string | null): void {
    const before = this.#gpuTrouble;
    this.#gpuTrouble = trouble;
    const state = this.#state;
    if (trouble === null || trouble === before || state.kind === 'idle') return;
    const { leaseId } = state.lease;
    this.#step({ type: 'failed', leaseId, failureClass: 'device', message: trouble, runner: 'unusable' });
  }

  /**
   * Makes the model give its memory back until the next lease. Does nothing while there is a lease, or no loaded model.
   *
   * @returns why it does nothing, in words; null when it was begun
   */
  unload(reason: string): string | null {
    if (this.#state.kind !== 'idle') return 'it has a lease';
    if (this.#leaving !== null) return 'the agent is leaving';
    if (!this.#runner.loaded) return 'no model is loaded';
    this.#idleTimer?.cancel();
    this.#call.close();
    this.#rested = reason;
    this.#coldSeconds = this.#runner.slowestLoadSeconds;
    const unloading = this.#runner.unload(reason);
    this.#options.events.changed(this.info);
    void unloading.then((outcome) => {
      if (outcome !== null) this.#options.events.unloaded(outcome);
    });
    return null;
  }

  /** Takes no lease any more, for this reason. */
  refuse(reason: string): void {
    this.#leaving = reason;
  }

  /** Resolves as soon as the slot has no lease. */
  async whenIdle(): Promise<void> {
    while (this.#state.kind !== 'idle') await new Promise<void>((resolve) => this.#whenIdle.add(resolve));
  }

  /** Ends the runner within `graceMillis`; a lease in hand is lost. */
  async close(graceMillis: number): Promise<void> {
    this.refuse('the agent leaves');
    this.#hang.stop();
    this.#idleTimer?.cancel();
    this.#cancelTimer?.cancel();
    this.#lease.abort(new FarmError('unavailable', 'the agent leaves'));
    this.#pipeline?.close();
    await Promise.all([this.#pipeline?.flushed(), this.#runner.close(graceMillis)]);
  }

  /** Kills the runner and the encoder at once. */
  kill(): void {
    this.#pipeline?.close();
    this.#runner.kill();
  }

  /** Why the slot can't render now; null when it can. */
  get #trouble(): string | null {
    return this.#options.disk.reason ?? this.#gpuTrouble ?? this.#runner.trouble;
  }

  /** What a slot without a lease says of a model that is not loaded. */
  get #resting(): string | null {
    if (this.#state.kind !== 'idle' || this.#rested === null) return null;
    return `the model is unloaded (${this.#rested}); the next lease loads it`;
  }

  /** Begins to wait for the end of the model's patience, where the slot has a loaded model and no lease. */
  #watchIdleness(): void {
    const { profile, clock } = this.#options;
    const millis = profile.unloadIdleMillis;
    this.#idleTimer?.cancel();
    if (millis === null || this.#state.kind !== 'idle') return;
    const reason = `no lease for ${millis / 60_000} min`;
    this.#idleTimer = clock.setTimeout(() => this.unload(reason), millis);
  }

  /** The model works again, so the next lease need not wait for it. */
  #warm(): void {
    if (this.#coldSeconds === 0 || !this.#runner.loaded) return;
    this.#coldSeconds = 0;
    this.#options.events.changed(this.info);
  }

  #publicState(): SlotState {
    // Also while a clip is being finished: what counts for the coordinator is that nothing new is taken.
    if (this.#leaving !== null) return SlotState.SLOT_STATE_DRAINING;
    switch (this.#state.kind) {
      case 'idle':
        if (this.#trouble !== null) return SlotState.SLOT_STATE_RECOVERING;
        // A model takes minutes to load, and until then others may have the clips.
        return this.#runner.beginning === null ? SlotState.SLOT_STATE_IDLE : SlotState.SLOT_STATE_LOADING;
      case 'loading':
        return SlotState.SLOT_STATE_LOADING;
      default:
        return SlotState.SLOT_STATE_RENDERING;
    }
  }

  #step(event: LeaseEvent): void {
    const before = this.#state;
    const { state, actions } = stepLease(before, event);
    this.#state = state;
    if (state.kind !== 'idle') this.#idleTimer?.cancel();
    if (state.kind !== 'rendering') this.#hang.stop();
    else if (event.type !== 'ready' && state !== before) this.#hang.progressed();
    for (const action of actions) this.#act(action);
    if (this.#state.kind === 'idle') {
      if (before.kind !== 'idle') {
        this.#warm();
        this.#watchIdleness();
      }
      for (const resolve of this.#whenIdle) resolve();
      this.#whenIdle.clear();
    }
  }

  #act(action: LeaseAction): void {
    switch (action.do) {
      case 'prepare':
        this.#begun = action.lease.leaseId;
        this.#lease = new AbortController();
        void this.#prepare(action.lease, this.#lease.signal);
        break;
      case 'abandon':
        this.#lease.abort(new FarmError('unavailable', 'the lease is over'));
        break;
      case 'render':
        this.#render(action.lease, action.end);
        break;
      case 'setEnd':
        this.#runner.send({ type: 'setEnd', leaseId: action.leaseId, end: action.end });
        break;
      case 'cancel':
        this.#cancel(action.leaseId);
        break;
      case 'killRunner':
        this.#runner.kill();
        break;
      case 'discardClip':
        this.#pipeline?.close();
        break;
      case 'settle':
        void this.#settle(action.leaseId, action.acknowledged, this.#lease.signal);
        break;
      case 'report':
        this.#report(action.lease, action.outcome, action.clip);
        break;
    }
  }

  async #prepare(lease: LeaseTask, signal: AbortSignal): Promise<void> {
    const { leaseId } = lease;
    const { inputs, clock, random, log } = this.#options;
    try {
      const [files, failure] = await Promise.all([
        fetchLeaseInputs(lease, { inputs, clock, random, signal, log }),
        this.#runner.ready(),
      ]);
      if (signal.aborted) return files.release();
      this.#inputs = files;
      if (failure === null) this.#step({ type: 'ready', leaseId, setEnd: this.#capabilities.setEnd });
      else this.#step({ type: 'failed', leaseId, ...failure, runner: 'quiet' });
    } catch (error) {
      if (signal.aborted) return;
      this.#hostFailure(leaseId, FarmError.from(error));
    }
  }

  #render(lease: LeaseTask, end: number): void {
    const { spool, ffmpeg, clock, outbox, events, profile } = this.#options;
    const { leaseId } = lease;
    const wantedEnd = (): number => {
      const state = this.#state;
      return state.kind !== 'idle' && state.lease.leaseId === leaseId ? state.end : 0;
    };
    this.#hang = new HangWatch({
      clock,
      seconds: lease.hangSeconds,
      firstSeconds: lease.hangSeconds + profile.slot.warmUpSeconds,
      onHang: (seconds) => {
        const message = `no progress for ${seconds} s at clip ${currentClip(this.#state)}`;
        this.#step({ type: 'failed', leaseId, failureClass: 'hang', message, runner: 'unusable' });
      },
    });
    this.#pipeline = new ClipPipeline({
      ...{ lease, wantedEnd, spool, ffmpeg, clock },
      onSpooled: (entry, encodeSeconds) => {
        events.spooled(encodeSeconds);
        outbox.add(entry);
      },
      onFailed: (error, fault) => {
        if (fault === 'host') return this.#hostFailure(leaseId, error);
        const { message } = error;
        this.#step({ type: 'failed', leaseId, failureClass: 'crash', message, runner: 'unusable' });
      },
    });
    if (this.#inputs === null) throw new FarmError('internal', `lease ${leaseId} has no inputs`);
    const { reference, audio } = this.#inputs;
    const { jobId, span, start, preRoll, clips, width, height, sampleSteps, baseSeed, prompt } = lease;
    this.#runner.send({
      type: 'render',
      request: {
        ...{ leaseId, jobId, span, start, end, preRoll, clips, width, height, sampleSteps, baseSeed, prompt },
        continues: this.#capabilities.continues ? this.#call.continuationFor(lease) : null,
        referencePath: reference.path,
        anchored: lease.anchor !== null,
        audioPath: audio.path,
      },
    });
  }

  async #take(message: FromRunner, payload: Uint8Array): Promise<void> {
    const state = this.#state;
    const lease = state.kind !== 'idle' && state.kind !== 'loading' ? state.lease : null;
    // Between leases the runner can only say that it is broken; its end is reported by `onGone`.
    if (lease === null && message.type === 'error' && message.leaseId === undefined) this.#runner.kill();
    // What comes for a lease that is over was on its way when it ended.
    if (lease === null) return;
    if ('leaseId' in message && message.leaseId !== undefined && message.leaseId !== lease.leaseId) return;
    await this.#hang.hold(() => this.#takeOwn(lease, message, payload));
  }

  async #takeOwn(lease: LeaseTask, message: FromRunner, payload: Uint8Array): Promise<void> {
    const { events } = this.#options;
    const { leaseId } = lease;
    switch (message.type) {
      case 'progress':
        this.#step({ type: 'progress', leaseId, clip: message.clip, fraction: message.fraction });
        events.progress(leaseId, message.clip, message.fraction);
        this.#warm();
        break;
      case 'spanStarted':
        this.#started(lease, message.continued);
        break;
      case 'frames':
        await this.#pipeline?.frames(message.produced, message.count, payload);
        this.#hang.progressed();
        break;
      case 'clip':
        events.clipRendered(lease, message.clip, figuresOf(message));
        await this.#pipeline?.clipDone(message.clip, figuresOf(message));
        this.#step({ type: 'clipDone', leaseId, clip: message.clip });
        break;
      case 'spanEnded':
        if (message.reason === 'cancelled') this.#call.close();
        this.#step({ type: 'spanEnded', leaseId, end: message.end });
        break;
      case 'error': {
        this.#call.close();
        const runner = message.leaseId === undefined || mustRestart.has(message.class) ? 'unusable' : 'quiet';
        const { class: failureClass, message: text } = message;
        this.#step({ type: 'failed', leaseId, failureClass, message: text, runner });
        break;
      }
    }
  }

  #started(lease: LeaseTask, continued: boolean): void {
    const { leaseId } = lease;
    const call = this.#call.started(lease, continued);
    if (call === null) {
      const message = 'the runner goes on in a model call that it was not asked to go on in';
      this.#step({ type: 'failed', leaseId, failureClass: 'crash', message, runner: 'unusable' });
      return;
    }
    this.#pipeline?.started(call);
    this.#step({ type: 'spanStarted', leaseId, continued });
  }

  #cancel(leaseId: string): void {
    this.#runner.send({ type: 'cancel', leaseId });
    this.#cancelTimer?.cancel();
    this.#cancelTimer = this.#options.clock.setTimeout(
      () => this.#step({ type: 'cancelTimeout', leaseId }),
      CANCEL_MILLIS,
    );
  }

  async #settle(leaseId: string, acknowledged: boolean, signal: AbortSignal): Promise<void> {
    try {
      await this.#pipeline?.flushed();
      if (acknowledged) await this.#options.outbox.whenSettled(leaseId, signal);
    } catch {
      // Only the signal ends the wait early, when the lease was reported or the agent leaves.
    }
    this.#step({ type: 'settled', leaseId });
  }

  #report(lease: LeaseTask, outcome: LeaseOutcome, clip: number): void {
    // A lease that was refused, or that only waited, leaves the one in hand alone.
    if (lease.leaseId === this.#begun) {
      this.#cancelTimer?.cancel();
      this.#lease.abort(new FarmError('unavailable', 'the lease is over'));
      this.#inputs?.release();
      this.#inputs = null;
    }
    this.#options.events.ended(lease, outcome, clip);
  }

  /**
   * This host can't go on with the lease. A full disk keeps further leases away from all slots until there is room again; it is
   * one failure, of the slot that meets it first, and the others give back what they can't store.
   */
  #hostFailure(leaseId: string, error: FarmError): void {
    const { message, code } = error;
    const { disk } = this.#options;
    const known = disk.reason;
    if (code === 'resource_exhausted') disk.full(message);
    if (code === 'resource_exhausted' && known !== null) {
      const fields = { job_id: this.#heldEnd(leaseId)?.jobId, lease_id: leaseId, reason: message };
      this.#options.log.warn(fields, 'the disk is full here, too: the lease is given back');
      this.#step({ type: 'giveBack', leaseId, reason: disk.reason ?? known });
      return;
    }
    this.#step({ type: 'failed', leaseId, failureClass: 'environment', message, runner: 'busy' });
  }
}

function figuresOf(message: Extract<FromRunner, { type: 'clip' }>): ClipFigures {
  const { renderSeconds, peakMemoryBytes, reservedMemoryBytes = 0, hostBytes } = message;
  return { renderSeconds, peakMemoryBytes, reservedMemoryBytes, hostBytes };
}
