import assert from 'node:assert/strict';
import { isOver } from '../../coordinator/src/core/decide.ts';
import { type LeaseState, slotKey } from '../../coordinator/src/core/job-model.ts';
import type { ScheduleAction, ScheduleInput } from '../../coordinator/src/core/schedule-model.ts';
import { type LoggedJob, refold } from '../../coordinator/src/core/test-jobs.ts';
import { JobInvariants } from '../harness/job-invariants.ts';
import type { CoordinatorObserver } from './coordinator.ts';
import type { Timeline } from './timeline.ts';

/** More rounds than this at one moment are scheduling that goes in circles. */
const MAX_ROUNDS_AT_ONCE = 200;

/** Checks after every step what must hold at all times; throws an AssertionError when it does not. */
export class Checker implements CoordinatorObserver {
  readonly #timeline: Timeline;
  readonly #histories = new Map<string, JobInvariants>();
  /** Lease that holds each slot. */
  readonly #slots = new Map<string, string>();
  readonly #slotOf = new Map<string, string>();
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

  submitted(job: LoggedJob): void {
    const { jobId } = job.state.definition;
    const history = new JobInvariants(jobId);
    this.#histories.set(jobId, history);
    for (const { event } of job.log) history.take(event);
  }

  changed(job: LoggedJob, from: number): void {
    const { state, log } = job;
    const history = this.#history(state.definition.jobId);
    for (let n = from; n < log.length; n++) {
      const event = log[n]?.event ?? assert.fail('no event');
      history.take(event);
      if (event.type === 'LeaseGranted') this.#occupy(event.lease);
      else if (event.type === 'LeaseEnded') this.#vacate(event.leaseId);
    }
    assert.equal(state.revision, log.length, 'the revision counts the events');
    assert.equal(state.leases.size, history.leases, 'the leases in force');
    if (isOver(state) || state.status === 'stitching') assert.equal(history.leases, 0, 'a job over has no leases');
    if (state.status !== 'completed') assert.equal(state.committed.size, history.committed, 'the committed clips');
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

  takenOver(before: LoggedJob, after: LoggedJob): void {
    if (before.state !== after.state) assert.deepEqual(after.state, before.state, 'the log folds to another state');
  }

  /** What a coordinator that starts now folds from the log is what the one before had. */
  checkRefold(job: LoggedJob): void {
    assert.deepEqual(refold(job.log), job.state, 'the log folds to another state');
  }

  /** A job that is done has every clip exactly once. */
  checkComplete(job: LoggedJob): void {
    const { state } = job;
    assert.equal(state.status, 'completed', `job ${state.definition.jobId}: ${state.reason}`);
    assert.ok(this.#history(state.definition.jobId).completed, 'every clip is committed once');
  }

  #history(jobId: string): JobInvariants {
    return this.#histories.get(jobId) ?? assert.fail(`job ${jobId} was not submitted`);
  }

  #occupy({ leaseId, nodeId, slotId }: LeaseState): void {
    const key = slotKey(nodeId, slotId);
    assert.equal(this.#slots.get(key), undefined, `slot ${key} holds two leases`);
    this.#slots.set(key, leaseId);
    this.#slotOf.set(leaseId, key);
  }

  #vacate(leaseId: string): void {
    const key = this.#slotOf.get(leaseId) ?? assert.fail(`lease ${leaseId} holds no slot`);
    this.#slots.delete(key);
    this.#slotOf.delete(leaseId);
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
