import type { Clock } from '@clipfarm/shared/clock';
import type { SlotInfo, SlotState } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { fitSlot } from '@clipfarm/shared/model/slot-fit';
import {
  confirmPeak,
  type ForecastSlot,
  forgetSlots,
  type Geometry,
  measuredSeconds,
  newForecast,
  noteMeasured,
  notePeak,
  noteSeen,
  peakOf,
  secondsPerClip,
  seenMemory,
  wasMeasured,
} from '../core/forecast.ts';
import { type AttemptFailure, type JobDefinition, type JobState, slotKey } from '../core/job-model.ts';
import { noteOpenCall } from '../core/open-calls.ts';
import type { LeaseProgress, OpenCall, ScheduledSlot, ScheduleInput, SchedulePolicy } from '../core/schedule-model.ts';
import type { Jobs } from './jobs.ts';
import { type HeldLease, LeaseIndex } from './lease-index.ts';
import type { NodeRecord } from './node-record.ts';
import type { Nodes } from './nodes.ts';
import { SlotFactsCache } from './slot-facts.ts';
import { UsageMeter } from './usage-meter.ts';

/** States in which a slot takes nothing, although its node is online. */
const UNAVAILABLE: ReadonlySet<SlotState | undefined> = new Set(['SLOT_STATE_RECOVERING', 'SLOT_STATE_DRAINING']);

/** Longest time for one clip that is believed, in seconds: a day, as for what a slot declares. */
const MAX_CLIP_SECONDS = 86_400;

/** A lease's progress and when it last moved. */
export interface TimedProgress extends LeaseProgress {
  /** Monotonic milliseconds. */
  readonly at: number;
}

/** A slot as the scheduler sees it, with its node and what it said of itself. */
export interface FleetSlot extends ScheduledSlot, ForecastSlot {
  readonly node: NodeRecord;
  readonly info: SlotInfo;
}

/** Whether one slot fits a picture, in words. */
export interface Fit {
  readonly node: NodeRecord;
  readonly slot: SlotInfo;
  readonly fits: boolean;
  readonly detail: string;
  readonly secondsPerClip: number;
}

/**
 * What the scheduler sees: jobs, slots, how far each lease is, how fast each slot proved to be, who used how much.
 * Progress and speeds are in memory only; a restart learns them anew within a clip.
 */
export class Fleet {
  readonly #jobs: Jobs;
  readonly #nodes: Nodes;
  readonly #clock: Clock;
  readonly #policy: SchedulePolicy;
  readonly #leases: LeaseIndex;
  readonly #facts = new SlotFactsCache();
  readonly #forecast = newForecast();
  readonly #progress = new Map<string, TimedProgress>();
  /** When each lease in force was granted, or first seen in this term, in monotonic milliseconds. */
  readonly #granted = new Map<string, number>();
  readonly #usage: UsageMeter;
  readonly #openCalls = new Map<string, OpenCall>();

  constructor(jobs: Jobs, nodes: Nodes, clock: Clock, policy: SchedulePolicy) {
    this.#jobs = jobs;
    this.#nodes = nodes;
    this.#clock = clock;
    this.#policy = policy;
    this.#usage = new UsageMeter(clock.monotonic());
    this.#leases = new LeaseIndex(jobs);
    nodes.onForgotten((nodeId) => this.#forget(nodeId));
    jobs.onEvent((job, event) => {
      noteOpenCall(this.#openCalls, job, event);
      if (event.type === 'LeaseGranted') this.#granted.set(event.lease.leaseId, this.#clock.monotonic());
      if (event.type !== 'LeaseEnded') return;
      this.#progress.delete(event.leaseId);
      this.#granted.delete(event.leaseId);
      if (event.failure?.failureClass === 'out_of_memory') this.#ranOutOfMemory(job, event.failure);
    });
  }

  /** What is kept by slot would grow for ever where hosts come and go under identities of their own. */
  #forget(nodeId: string): void {
    const isGone = (key: string) => key.startsWith(slotKey(nodeId, ''));
    forgetSlots(this.#forecast, isGone);
    for (const key of this.#openCalls.keys()) if (isGone(key)) this.#openCalls.delete(key);
  }

  /** Begins a term: what was seen while another coordinator led, or before, is no measure of anything. */
  takeOver(): void {
    this.#progress.clear();
    this.#openCalls.clear();
    this.#granted.clear();
    const leases = this.#jobs.live().flatMap((job) => [...job.leases.keys()]);
    for (const leaseId of leases) this.#granted.set(leaseId, this.#clock.monotonic());
    this.#usage.advance([], this.#clock.monotonic());
  }

  /**
   * Notes how far a lease is, if it is in force and that node's. What lies outside the lease is taken as its nearest
   * end; going back is ignored, because messages may be repeated.
   *
   * @param given clip in hand, pre-roll included, and the share of it that is done
   */
  noteProgress(nodeId: string, leaseId: string, given: Pick<LeaseProgress, 'clip' | 'fraction'>): void {
    const lease = this.#leases.holder(leaseId)?.lease;
    if (lease?.nodeId !== nodeId || Number.isNaN(given.clip) || Number.isNaN(given.fraction)) return;
    const clip = Math.min(Math.max(given.clip, lease.start - lease.preRoll), lease.end);
    const fraction = Math.min(Math.max(given.fraction, 0), 1);
    const before = this.#progress.get(leaseId);
    if (before && before.clip + before.fraction >= clip + fraction) return;
    this.#progress.set(leaseId, { clip, fraction, at: this.#clock.monotonic() });
  }

  /** How far a lease in force is, if its node said so in this term. */
  progressOf(leaseId: string): TimedProgress | undefined {
    return this.#progress.get(leaseId);
  }

  #stillSeconds(leaseId: string): number {
    const now = this.#clock.monotonic();
    return Math.max(0, now - (this.#progress.get(leaseId)?.at ?? this.#granted.get(leaseId) ?? now)) / 1000;
  }

  /**
   * Notes how long a clip took on a slot, and how much memory its model call had needed on one GPU by then, alone and with
   * what its allocator holds in reserve (0 where unknown). What can't be is passed over: every slot of the profile is judged
   * by these figures, for as long as the coordinator runs.
   */
  noteClip(slot: FleetSlot, geometry: Geometry, seconds: number, peakBytes: number, reservedBytes = 0): void {
    if (isRenderTime(seconds)) noteMeasured(this.#forecast, slot, geometry, seconds);
    const card = slot.info.memoryBytes || Math.max(0, ...slot.node.gpus.map((gpu) => gpu.memoryBytes));
    // It has rendered the clip, so more than that was not needed, whatever else used the card.
    const peak = Math.min(peakBytes, card);
    if (peak === 0) return;
    notePeak(this.#forecast, slot.profile, geometry, peak, this.#clock.monotonic());
    noteSeen(this.#forecast, slot.profile, geometry, { bytes: peak, reservedBytes: Math.min(reservedBytes, card) });
  }

  #ranOutOfMemory({ definition }: JobState, { nodeId, slotId }: Pick<AttemptFailure, 'nodeId' | 'slotId'>): void {
    const slot = this.slot(nodeId, slotId);
    if (slot) confirmPeak(this.#forecast, slot.profile, definition, this.#clock.monotonic());
  }

  /** Forecast of seconds per clip on a slot. */
  secondsPerClip(slot: FleetSlot, geometry: Geometry): number {
    return secondsPerClip(this.#forecast, slot, geometry, this.#facts.of(slot.info, geometry).prior);
  }

  /** Whether a slot can render a job. */
  canRender(slot: FleetSlot, job: Geometry & { readonly clips: number }): boolean {
    const { fits, longestJob } = this.#facts.of(slot.info, job);
    const { memoryBytes } = slot.info;
    return fits && job.clips <= longestJob && !(memoryBytes > 0 && this.#peak(slot, job) > memoryBytes);
  }

  /**
   * Most bytes that the picture took on slots of the profile; 0 where that says nothing about this one. What a pretended
   * GPU takes says nothing about the next one, of which another size may be declared; and a slot that has rendered the
   * picture has room for it, however much it took of a larger card.
   */
  #peak({ key, profile, info }: FleetSlot, geometry: Geometry): number {
    if (info.runnerKind === 'synthetic' || wasMeasured(this.#forecast, key, geometry)) return 0;
    return peakOf(this.#forecast, profile, geometry, this.#clock.monotonic());
  }

  /** The lease in force and its job, if it is in force. O(1). */
  holder(leaseId: string): HeldLease | null {
    return this.#leases.holder(leaseId);
  }

  /** A slot of a node that attached since the start. Takes as long as the node has slots, at most 64. */
  slot(nodeId: string, slotId: string): FleetSlot | undefined {
    const node = this.#nodes.get(nodeId);
    const info = node?.slots.find((slot) => slot.slotId === slotId);
    return node && info && this.#slotOf(node, info, this.#takesWork(node));
  }

  /** Every slot of every node that attached since the start. */
  slots(): FleetSlot[] {
    return this.#nodes.all().flatMap((node) => {
      const takesWork = this.#takesWork(node);
      return node.slots.map((info) => this.#slotOf(node, info, takesWork));
    });
  }

  #takesWork(node: NodeRecord): boolean {
    return this.#nodes.status(node) === 'online' && !node.handingIn;
  }

  #slotOf(node: NodeRecord, info: SlotInfo, takesWork: boolean): FleetSlot {
    const { nodeId } = node;
    const { slotId, profile, warmUpSeconds, declaredSecondsPerClip } = info;
    const key = slotKey(nodeId, slotId);
    const status = node.statuses.get(slotId);
    const loads = status?.state === 'SLOT_STATE_LOADING' && status.leaseId === '';
    const available = takesWork && !loads && !UNAVAILABLE.has(status?.state);
    const leaseId = this.#leases.onSlot(key);
    const { fixedEnd } = info;
    const said = { profile, warmUpSeconds, declaredSecondsPerClip, fixedEnd };
    return { key, nodeId, slotId, available, leaseId, ...said, openCall: this.#openCall(key, node, info), node, info };
  }

  /** The call that a slot keeps open; an idle slot knows better than what follows from the events. */
  #openCall(key: string, node: NodeRecord, info: SlotInfo): OpenCall | null {
    const call = this.#openCalls.get(key);
    if (!call || !info.continues) return null;
    const status = node.statuses.get(info.slotId);
    return status?.state === 'SLOT_STATE_IDLE' && status.openLeaseId !== call.leaseId ? null : call;
  }

  /** Which of the known slots fit a job, with the numbers. */
  fits(definition: JobDefinition): Fit[] {
    return this.slots().map((slot) => this.fit(slot, definition));
  }

  /** Whether a slot fits a job, with the numbers. */
  fit(slot: FleetSlot, definition: JobDefinition): Fit {
    const { node, info } = slot;
    const measured = {
      secondsPerClip: measuredSeconds(this.#forecast, slot, definition),
      peakBytes: this.#peak(slot, definition),
      // What a pretended GPU takes says nothing about a real one.
      ...(info.runnerKind === 'synthetic' ? {} : { seen: seenMemory(this.#forecast, slot.profile, definition) }),
    };
    const fit = fitSlot(info, definition, measured);
    return { node, slot: info, ...fit, secondsPerClip: this.secondsPerClip(slot, definition) };
  }

  /**
   * Everything that the pure scheduler needs, for the jobs given.
   *
   * @param slots what {@link slots} has just returned, where the caller needs them too
   */
  scheduleInput(jobs: readonly JobState[] = this.#jobs.live(), slots = this.slots()): ScheduleInput {
    const byKey = new Map(slots.map((slot) => [slot.key, slot]));
    return {
      now: this.#clock.now(),
      jobs,
      slots,
      progress: this.#progress,
      stillSeconds: ({ leaseId }) => this.#stillSeconds(leaseId),
      usage: this.#usage.byOwner,
      secondsPerClip: ({ key }, geometry) => {
        const slot = byKey.get(key);
        return slot ? this.secondsPerClip(slot, geometry) : 1;
      },
      fits: ({ key }, { definition }) => {
        const slot = byKey.get(key);
        return slot !== undefined && this.canRender(slot, definition);
      },
      leaseLimit: ({ key }, { definition }) => {
        const slot = byKey.get(key);
        return slot ? this.#facts.of(slot.info, definition).longestCall : 0;
      },
      policy: this.#policy,
    };
  }

  /** Adds the slot-seconds since the last call to their owners and lets older ones fade. */
  tickUsage(): void {
    this.#usage.advance(this.#jobs.live(), this.#clock.monotonic());
  }
}

/** Whether so many seconds can be what rendering a clip took. */
export function isRenderTime(seconds: number): boolean {
  return seconds > 0 && seconds <= MAX_CLIP_SECONDS;
}
