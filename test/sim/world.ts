import assert from 'node:assert/strict';
import { isOver } from '../../coordinator/src/core/decide.ts';
import type { JobDefinition } from '../../coordinator/src/core/job-model.ts';
import { committedSpans } from '../../coordinator/src/core/job-progress.ts';
import { type LoggedJob, submitJob } from '../../coordinator/src/core/test-jobs.ts';
import { SimAgent, type SlotTruth } from './agent.ts';
import { Checker } from './checker.ts';
import { SimCoordinator, type SimJournal } from './coordinator.ts';
import { drawFault, type FaultKind, strike } from './faults.ts';
import type { Random } from './random.ts';
import { Renders } from './renders.ts';
import { Timeline } from './timeline.ts';

/** A job that somebody submits. */
export interface SimJob {
  readonly clips: number;
  readonly owner: string;
  readonly priority: number;
  readonly anchorMode: JobDefinition['anchorMode'];
  /** Pixels; not every slot can render every picture. */
  readonly height: number;
  /** Milliseconds. */
  readonly submittedAt: number;
}

/** A farm and what will happen to it. */
export interface Scenario {
  /** Slots of each node. */
  readonly nodes: readonly (readonly SlotTruth[])[];
  readonly jobs: readonly SimJob[];
  readonly faults: number;
  readonly faultKinds: readonly FaultKind[];
  /** Faults happen until then; milliseconds. */
  readonly faultsUntil: number;
  /** Every job must be completed by then; milliseconds. */
  readonly deadline: number;
}

/** What came of it. */
export interface Outcome {
  /** From the first submission to the last commit. */
  readonly makespanSeconds: number;
  /** The same if all slots that fit worked together on whatever was submitted, without any cost of dividing it. */
  readonly idealSeconds: number;
  readonly joins: number;
  readonly steals: number;
  readonly speculations: number;
  readonly preemptions: number;
  readonly revocations: number;
  readonly preRollClips: number;
  /** Leases that went on in the model call of the one before. */
  readonly wentOnLeases: number;
  readonly clips: number;
  readonly rerendered: number;
  readonly mostPerKilledWorker: number;
  readonly idleSeconds: number;
  readonly brokenOffSeconds: number;
  readonly steps: number;
  /** Events in all logs; each was checked. */
  readonly events: number;
  /** Faults that hit something, by kind. */
  readonly faults: ReadonlyMap<FaultKind, number>;
  readonly virtualSeconds: number;
}

/** A farm in virtual time: agents, a coordinator around the real core, and whoever plays with them. */
export class SimWorld {
  readonly agents: SimAgent[];
  readonly #timeline = new Timeline();
  readonly #random: Random;
  readonly #scenario: Scenario;
  readonly #checker: Checker;
  readonly #renders: Renders;
  readonly #journal: SimJournal = { logs: new Map(), snapshots: new Map(), term: 0 };
  #coordinator: SimCoordinator;
  readonly #struck = new Map<FaultKind, number>();
  #coordinatorIsUp = true;
  #steps = 0;

  constructor(scenario: Scenario, random: Random) {
    this.#scenario = scenario;
    this.#random = random;
    this.#checker = new Checker(this.#timeline);
    this.#renders = new Renders(() => this.#timeline.now);
    this.#coordinator = new SimCoordinator(this.#timeline, this.#journal, this.#checker);
    // Agents keep dialling whichever coordinator there is.
    const server: SimCoordinator['accept'] = (nodeId, send) =>
      this.#coordinatorIsUp ? this.#coordinator.accept(nodeId, send) : null;
    this.agents = scenario.nodes.map((slots, n) => {
      const parts = {
        timeline: this.#timeline,
        random: random.fork(),
        server: { accept: server, hungUp: (nodeId: string) => this.#coordinator.hungUp(nodeId) },
        observer: this.#renders,
      };
      return new SimAgent(`n${n}`, slots, parts);
    });
  }

  /**
   * Lets everything happen.
   *
   * @param onMinute called after each minute of virtual time with its seconds and the number of jobs that are done
   * @throws AssertionError when an invariant is broken or a job does not get done in time
   */
  run(onMinute: (seconds: number, done: number) => void = () => undefined): Outcome {
    for (const agent of this.agents) agent.start();
    for (const [n, job] of this.#scenario.jobs.entries()) {
      this.#timeline.after(job.submittedAt, () => this.#submit(n, job));
    }
    this.#planFaults();
    this.#timeline.every(60_000, () => {
      onMinute(this.#timeline.now / 1000, [...this.#coordinator.jobs.values()].filter(isCompleted).length);
      return true;
    });
    while (this.#timeline.now < this.#scenario.deadline && !this.#isDone()) {
      this.#steps += 1;
      if (!this.#timeline.step()) break;
    }
    const jobs = this.#coordinator.jobs;
    assert.equal(jobs.size, this.#scenario.jobs.length, 'every job was submitted');
    for (const job of jobs.values()) {
      this.#checker.checkRefold(job);
      this.#checker.checkComplete(job);
    }
    return this.#outcome();
  }

  /** Everything that happened to the jobs, in order, for whoever replays a seed. */
  trace(): string[] {
    const lines = [...this.#journal.logs].flatMap(([jobId, log]) =>
      log.map(({ event, at }) => ({ at, text: `${(at / 1000).toFixed(2)} ${jobId} ${JSON.stringify(event)}` })),
    );
    return lines.sort((a, b) => a.at - b.at).map(({ text }) => text);
  }

  /** Jobs that were submitted so far. */
  jobIds(): string[] {
    return [...this.#coordinator.jobs.keys()];
  }

  /** An agent dies and is back after `millis`. */
  kill(agent: SimAgent, millis: number): boolean {
    // One that is cut off anyway has more to lose, and that is not the death's doing.
    if (agent.alive && agent.connected) this.#renders.died(agent.nodeId, agent.slots.length);
    return agent.kill(millis);
  }

  /** The coordinator dies and starts again after `millis`, on what its journal holds. */
  restartCoordinator(millis: number): boolean {
    if (!this.#coordinatorIsUp) return false;
    const { jobs } = this.#coordinator;
    this.#coordinator.crash();
    this.#coordinatorIsUp = false;
    for (const agent of this.agents) agent.coordinatorGone();
    this.#timeline.after(millis, () => {
      this.#coordinator = new SimCoordinator(this.#timeline, this.#journal, this.#checker, jobs);
      this.#coordinatorIsUp = true;
    });
    return true;
  }

  /** An operator pauses a job, and resumes it after `millis`. */
  pause(jobId: string, millis: number): boolean {
    if (!this.#isLive(jobId)) return false;
    this.#coordinator.pause(jobId);
    this.#insist(millis, () => this.#coordinator.command(jobId, { type: 'resume' }));
    return true;
  }

  /** An operator cancels a job, and thinks better of it after `millis`. */
  cancel(jobId: string, millis: number): boolean {
    if (!this.#isLive(jobId)) return false;
    this.#coordinator.command(jobId, { type: 'cancel', reason: 'by the operator' });
    this.#insist(millis, () => this.#coordinator.command(jobId, { type: 'retry' }));
    return true;
  }

  /** The stored chunk of a committed clip is gone. */
  loseClip(jobId: string): boolean {
    const committed = [...(this.#coordinator.jobs.get(jobId)?.state.committed.keys() ?? [])];
    const clip = this.#random.pick(committed);
    if (!this.#isLive(jobId) || clip === undefined) return false;
    return this.#coordinator.command(jobId, { type: 'loseClip', clip, reason: 'its chunk is gone' }) === 'done';
  }

  /** An operator changes a job's priority. */
  setPriority(jobId: string, priority: number): boolean {
    if (!this.#isLive(jobId)) return false;
    return this.#coordinator.command(jobId, { type: 'setPriority', priority }) === 'done';
  }

  /** Whether somebody could do something to a job. */
  #isLive(jobId: string): boolean {
    const job = this.#coordinatorIsUp ? this.#coordinator.jobs.get(jobId) : undefined;
    return job !== undefined && !isOver(job.state);
  }

  /** Does something after `millis`, or as soon as the coordinator is there after that. */
  #insist(millis: number, run: () => void): void {
    this.#timeline.after(millis, () => {
      if (this.#coordinatorIsUp) run();
      else this.#insist(500, run);
    });
  }

  #submit(n: number, job: SimJob): void {
    if (!this.#coordinatorIsUp) {
      this.#insist(500, () => this.#submit(n, job));
      return;
    }
    const { clips, owner, anchorMode, priority, height } = job;
    const given = { jobId: `job-${n}`, clips, owner, anchorMode, height };
    this.#coordinator.add(submitJob(given, priority, this.#timeline.now));
  }

  #planFaults(): void {
    const { faults, faultKinds, faultsUntil } = this.#scenario;
    for (let n = 0; n < faults; n++) {
      const kind = drawFault(this.#random, faultKinds, this.agents.length);
      this.#timeline.after(this.#random.between(0, faultsUntil), () => {
        if (strike(this, this.#random, kind)) this.#struck.set(kind, (this.#struck.get(kind) ?? 0) + 1);
      });
    }
    // Jobs that the faults were too much for are given another chance once they are over.
    this.#timeline.every(5000, () => {
      if (this.#timeline.now < faultsUntil || !this.#coordinatorIsUp) return true;
      for (const job of this.#coordinator.jobs.values()) {
        if (job.state.status === 'failed') this.#coordinator.command(job.state.definition.jobId, { type: 'retry' });
      }
      return true;
    });
  }

  #isDone(): boolean {
    const { jobs } = this.#coordinator;
    return jobs.size === this.#scenario.jobs.length && [...jobs.values()].every(isCompleted);
  }

  /** When the jobs of at least this height could be done by the slots that can render it, in seconds. */
  #idealEnd(height: number): number {
    const fit = this.#scenario.nodes.flat().filter((slot) => slot.maxHeight >= height);
    const speed = fit.reduce((sum, slot) => sum + 1 / slot.secondsPerClip, 0);
    return [...this.#coordinator.jobs.values()]
      .filter(({ state }) => state.definition.height >= height)
      .map(({ state }) => ({ at: state.submittedAt / 1000, clips: state.definition.clips }))
      .sort((a, b) => a.at - b.at)
      .reduce((end, { at, clips }) => Math.max(end, at) + clips / speed, 0);
  }

  #outcome(): Outcome {
    const jobs = [...this.#coordinator.jobs.values()];
    const heights = new Set(jobs.map(({ state }) => state.definition.height));
    const first = Math.min(...jobs.map(({ state }) => state.submittedAt));
    const idealEnd = Math.max(...[...heights].map((height) => this.#idealEnd(height)));
    const last = Math.max(...jobs.map(({ state }) => state.lastCommitAt ?? 0));
    return {
      makespanSeconds: (last - first) / 1000,
      idealSeconds: idealEnd - first / 1000,
      joins: jobs.reduce((sum, { state }) => sum + committedSpans(state).length - 1, 0),
      ...this.#checker.counts,
      preRollClips: this.#renders.preRollClips,
      wentOnLeases: this.#renders.wentOnLeases,
      clips: this.#renders.clips,
      brokenOffSeconds: this.#renders.brokenOffSeconds,
      ...this.#renders.summary(this.#coordinator.jobs),
      idleSeconds: this.#checker.idleSeconds,
      steps: this.#steps,
      events: jobs.reduce((sum, { log }) => sum + log.length, 0),
      faults: this.#struck,
      virtualSeconds: this.#timeline.now / 1000,
    };
  }
}

function isCompleted({ state }: LoggedJob): boolean {
  return isOver(state) && state.status === 'completed';
}
