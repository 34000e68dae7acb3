import assert from 'node:assert/strict';
import { hasClip } from '../../coordinator/src/core/clip-ranges.ts';
import { isOver } from '../../coordinator/src/core/decide.ts';
import type { JobEvent } from '../../coordinator/src/core/job-events.ts';
import { type JobState, type LeaseState, slotKey } from '../../coordinator/src/core/job-model.ts';
import type { ScheduleAction, ScheduleInput } from '../../coordinator/src/core/schedule-model.ts';
import { type LoggedJob, refold } from '../../coordinator/src/core/test-jobs.ts';
import type { CoordinatorObserver } from './coordinator.ts';
import type { Timeline } from './timeline.ts';

/** What a checker remembers of a job, from its events alone. */
interface Memory {
  readonly granted: Map<string, LeaseState>;
  readonly committed: Map<number, string>;
}

/** More rounds than this at one moment are scheduling that goes in circles. */
const MAX_ROUNDS_AT_ONCE = 200;

/** Checks after every step what must hold at all times; throws an AssertionError when it does not. */
export class Checker implements CoordinatorObserver {
  readonly #timeline: Timeline;
  readonly #memories = new Map<string, Memory>();
  #roundsAt = -1;
  #rounds = 0;
  /** Steals, duplicates, preemptions, revocations of overtaken leases. */
  readonly counts = { steals: 0, speculations: 0, preemptions: 0, revocations: 0 };
  /** Slot-seconds in which a fitting slot was free beside clips that it might have had. */
  idleSeconds = 0;
  #idle: { readonly at: number; readonly slots: number } = { at: 0, slots: 0 };

  constructor(timeline: Timeline) {
    this.#timeline = timeline;
  }

  changed(job: LoggedJob, from: number): void {
    const { state, log } = job;
    const memory = this.#memory(state.definition.jobId);
    for (const { event } of log.slice(from)) checkEvent(memory, event);
    assert.equal(state.revision, log.length, 'the revision counts the events');
    if (state.status !== 'completed') assert.equal(state.committed.size, memory.committed.size);
    checkLeases(state, memory);
  }

  scheduled(input: ScheduleInput, actions: readonly ScheduleAction[], refusal: string | null): void {
    assert.equal(refusal, null, `the scheduler asked for what is not possible: ${refusal}`);
    this.#rounds = this.#roundsAt === this.#timeline.now ? this.#rounds + 1 : 0;
    this.#roundsAt = this.#timeline.now;
    assert.ok(this.#rounds < MAX_ROUNDS_AT_ONCE, `scheduling goes in circles: ${JSON.stringify(actions)}`);
    for (const action of actions) {
      if (action.reason.startsWith('taken over')) this.counts.steals += 1;
      if (action.type === 'grant' && action.speculative) this.counts.speculations += 1;
      if (action.reason.endsWith('goes first')) this.counts.preemptions += 1;
      if (action.type === 'revoke') this.counts.revocations += 1;
    }
    this.#countIdle(input, actions);
  }

  ticked(jobs: readonly LoggedJob[]): void {
    const slots = new Set<string>();
    for (const { state } of jobs) {
      for (const lease of state.leases.values()) {
        const key = slotKey(lease.nodeId, lease.slotId);
        assert.ok(!slots.has(key), `slot ${key} holds two leases`);
        slots.add(key);
      }
    }
  }

  /** What a coordinator that starts now folds from the log is what the one before had. */
  checkRefold(job: LoggedJob): void {
    assert.deepEqual(refold(job.log), job.state, 'the log folds to another state');
  }

  /** A job that is done has every clip exactly once. */
  checkComplete(job: LoggedJob): void {
    const { state } = job;
    assert.equal(state.status, 'completed', `job ${state.definition.jobId}: ${state.reason}`);
    const clips = [...this.#memory(state.definition.jobId).committed.keys()].sort((a, b) => a - b);
    assert.deepEqual(
      clips,
      Array.from({ length: state.definition.clips }, (_, n) => n),
    );
  }

  #memory(jobId: string): Memory {
    const known = this.#memories.get(jobId);
    if (known) return known;
    const memory: Memory = { granted: new Map(), committed: new Map() };
    this.#memories.set(jobId, memory);
    return memory;
  }

  #countIdle(input: ScheduleInput, actions: readonly ScheduleAction[]): void {
    const { now } = this.#timeline;
    this.idleSeconds += (this.#idle.slots * (now - this.#idle.at)) / 1000;
    const waiting = input.jobs.some(
      (job) => job.status === 'active' && !job.paused && job.leases.size + job.committed.size < job.definition.clips,
    );
    const free = input.slots.filter((slot) => slot.available && slot.leaseId === null).length;
    const granted = actions.filter((action) => action.type === 'grant').length;
    this.#idle = { at: now, slots: waiting ? Math.max(0, free - granted) : 0 };
  }
}

function checkEvent(memory: Memory, event: JobEvent): void {
  if (event.type === 'LeaseGranted') {
    assert.ok(!memory.granted.has(event.lease.leaseId), 'a lease is granted once');
    memory.granted.set(event.lease.leaseId, event.lease);
  }
  if (event.type === 'ClipLost') memory.committed.delete(event.clip);
  if (event.type === 'ClipCommitted') {
    const { clip, leaseId, nodeId } = event.record;
    assert.ok(!memory.committed.has(clip), `clip ${clip} is committed twice`);
    assert.equal(memory.granted.get(leaseId)?.nodeId, nodeId, `lease ${leaseId} was not given to ${nodeId}`);
    memory.committed.set(clip, leaseId);
  }
  if (event.type !== 'JobRetried' && 'reason' in event)
    assert.notEqual(event.reason, '', `${event.type} has no reason`);
}

function checkLeases(state: JobState, memory: Memory): void {
  const leases = [...state.leases.values()];
  if (isOver(state) || state.status === 'stitching') assert.equal(leases.length, 0, 'a job over has no leases');
  for (const lease of leases) {
    const granted = memory.granted.get(lease.leaseId);
    assert.ok(granted && lease.end <= granted.end && lease.start === granted.start, 'a lease never grows');
    assert.ok(!hasClip(state.committedSet, lease.end - 1), `the end of lease ${lease.leaseId} is committed`);
    for (const other of leases) {
      if (other === lease || other.speculative || lease.speculative) continue;
      assert.ok(other.end <= lease.start || lease.end <= other.start, 'leases overlap');
    }
  }
}
