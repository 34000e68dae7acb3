import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../harness/farm.ts';
import { disturbBoth, type Trouble } from '../harness/network.ts';
import type { TestProcess } from '../harness/process.ts';
import { seeded } from '../harness/seeded.ts';
import { type Arena, agentNames } from './arena.ts';
import type { Customers } from './customers.ts';
import { type Fault, type FaultName, faultKinds, faultNames, pick } from './fault-kinds.ts';

/** A fault that happened. */
export interface Incident {
  readonly kind: FaultName;
  readonly target: string;
  /** Milliseconds since 1970. */
  readonly at: number;
  until: number;
  /** Nothing else was wrong: times are measured then. */
  readonly alone: boolean;
  /** Longest time for which the machine did not let this process run meanwhile; milliseconds. */
  stalled: number;
}

/** How much is to happen. */
export interface CampaignOptions {
  readonly faults: number;
  readonly seed: number;
  /** Says what happens. */
  readonly say: (line: string) => void;
}

/** Of so many faults one of each kind that is to happen alone does. */
const FAULTS_PER_ROUND = 20;

/** Kinds that happen alone: {@link Campaign.run}. */
export const KINDS_ALONE = 4;

/** Faults at a time. */
const AT_ONCE = 4;

/** Between the beginnings of two of them. */
const LONGEST_GAP_MILLIS = 4000;

/** An agent stays away for longer than a lease, so that its clips have to go elsewhere. */
const AWAY_MILLIS = 9000;

/** Lets faults happen: first a few kinds one by one, then everything at once. */
export class Campaign {
  readonly incidents: Incident[] = [];
  /** Processes that ended although nobody asked them to. */
  readonly crashes: string[] = [];
  /** Kinds that this machine can't have. */
  readonly impossible = new Set<FaultName>();
  readonly #arena: Arena;
  readonly #customers: Customers;
  readonly #options: CampaignOptions;
  readonly #random: () => number;
  readonly #locked = new Set<string>();

  constructor(arena: Arena, customers: Customers, options: CampaignOptions) {
    this.#arena = arena;
    this.#customers = customers;
    this.#options = options;
    this.#random = seeded(options.seed);
  }

  async run(): Promise<void> {
    const rounds = Math.ceil(this.#options.faults / FAULTS_PER_ROUND);
    // With one job the agents soon have nothing else to do, so that times don't count the wait for a free one.
    this.#customers.jobsAtATime = 1;
    for (let n = 0; n < rounds; n++) {
      await this.#killLeaderAlone();
      await this.#killAgentAlone();
      await this.#cutAgentAlone();
      await this.#deposeLeaderAlone();
    }
    this.#customers.jobsAtATime = 3;
    await this.#allAtOnce(this.#deck(this.#options.faults - KINDS_ALONE * rounds));
    await this.#heal();
  }

  /** Kinds as often as their weights say, in random order. */
  #deck(size: number): FaultName[] {
    const possible = faultNames.filter((name) => !this.impossible.has(name));
    const total = possible.reduce((sum, name) => sum + faultKinds[name].weight, 0);
    const deck = possible.flatMap((name): FaultName[] => {
      return new Array(Math.max(1, Math.round((faultKinds[name].weight * size) / total))).fill(name);
    });
    while (deck.length < size) deck.push(pick(this.#random, possible));
    for (let n = deck.length - 1; n > 0; n--) {
      const other = Math.floor(this.#random() * (n + 1));
      [deck[n], deck[other]] = [deck[other] as FaultName, deck[n] as FaultName];
    }
    return deck.slice(0, size);
  }

  async #killLeaderAlone(): Promise<void> {
    const { farm } = this.#arena;
    await this.#someJob();
    const index = await farm.findLeader(60);
    await this.#record('leaderKill', `coordinator ${index}`, true, async () => {
      await farm.coordinators[index]?.process.kill();
      await farm.findLeader(60);
      await farm.startCoordinator(index);
    });
    await farm.waitForNodes(agentNames.length);
  }

  /** It goes on where it was, with its agents linked to it, when another has taken over. */
  async #deposeLeaderAlone(): Promise<void> {
    const { farm } = this.#arena;
    await this.#someJob();
    const index = await farm.findLeader(60);
    await this.#record('leaderDeposed', `coordinator ${index}`, true, async () => {
      const { process: child } = farm.coordinators[index] ?? assert.fail('no leader');
      child.signal('SIGSTOP');
      await farm.findLeader(60);
      child.signal('SIGCONT');
    });
    await farm.waitForNodes(agentNames.length);
  }

  async #killAgentAlone(): Promise<void> {
    const { farm, startAgent } = this.#arena;
    const name = await this.#someWorker();
    await this.#handedIn(name);
    await this.#record('agentKill', name, true, async () => {
      await farm.agent(name).kill();
      await sleep(AWAY_MILLIS);
      await startAgent(name);
    });
    await farm.waitForNodes(agentNames.length);
  }

  /** It renders on, and what it hands in afterwards was rendered by others meanwhile. */
  async #cutAgentAlone(): Promise<void> {
    const { farm, network } = this.#arena;
    const name = await this.#someWorker();
    const cut = async (trouble: Trouble | null) => {
      const host = farm.agentHost(name);
      await Promise.all(farm.coordinators.map((coordinator) => disturbBoth(network, host, coordinator.host, trouble)));
    };
    await this.#record('agentCut', name, true, async () => {
      await cut({ kind: 'cut' });
      await sleep(AWAY_MILLIS);
      await cut(null);
    });
    await farm.waitForNodes(agentNames.length);
  }

  /** Waits until an agent has handed in what it kept while nobody led: what it costs to kill it is another matter. */
  async #handedIn(name: string): Promise<void> {
    const spool = this.#arena.spoolOf(name);
    await until(
      async () => !(await readdir(spool)).some((file) => file.endsWith('.json')),
      `${name} hands its spool in`,
    );
  }

  /** Waits until a job is rendered. @returns its identity */
  async #someJob(): Promise<string> {
    for (;;) {
      for (const { jobId } of this.#customers.underWay) {
        const job = await this.#arena.farm.job(jobId).catch(() => null);
        if (job && job.leases.length > 0) return jobId;
      }
      await sleep(100);
    }
  }

  /** An agent that has a lease. */
  async #someWorker(): Promise<string> {
    for (;;) {
      const job = await this.#arena.farm.job(await this.#someJob()).catch(() => null);
      const nodes = await this.#arena.farm.nodes().catch(() => []);
      const busy = nodes.filter(({ nodeId }) => job?.leases.some((lease) => lease.nodeId === nodeId));
      if (busy.length > 0) return pick(this.#random, busy).name;
    }
  }

  async #allAtOnce(deck: FaultName[]): Promise<void> {
    const running = new Set<Promise<void>>();
    while (deck.length > 0) {
      this.#lookForCrashes();
      await sleep(this.#random() * LONGEST_GAP_MILLIS);
      const kind = deck.shift() as FaultName;
      const fault = await faultKinds[kind].prepare({ arena: this.#arena, random: this.#random });
      if (fault === null) {
        this.#leaveOut(kind, deck);
        continue;
      }
      if (fault.locks.some((lock) => this.#locked.has(lock))) {
        // Its turn comes when what it is about is well again.
        deck.splice(Math.min(deck.length, 3), 0, kind);
        continue;
      }
      const striking = this.#strike(kind, fault);
      running.add(striking);
      void striking.finally(() => running.delete(striking));
      if (running.size >= AT_ONCE) await Promise.race(running);
    }
    await Promise.all(running);
  }

  /** Something else happens in place of what this machine can't have. */
  #leaveOut(kind: FaultName, deck: FaultName[]): void {
    this.impossible.add(kind);
    const { length } = deck;
    const rest = deck.filter((other) => other !== kind);
    const possible = faultNames.filter((name) => !this.impossible.has(name));
    deck.splice(0, length, ...rest);
    while (deck.length <= length) deck.push(pick(this.#random, possible));
  }

  async #strike(kind: FaultName, fault: Fault): Promise<void> {
    for (const lock of fault.locks) this.#locked.add(lock);
    await this.#record(kind, fault.target, false, fault.strike).catch((error: unknown) => {
      this.crashes.push(`${kind} of ${fault.target}: ${error instanceof Error ? error.message : String(error)}`);
    });
    for (const lock of fault.locks) this.#locked.delete(lock);
  }

  async #record(kind: FaultName, target: string, alone: boolean, strike: () => Promise<void>): Promise<void> {
    const incident: Incident = { kind, target, at: Date.now(), until: Number.POSITIVE_INFINITY, alone, stalled: 0 };
    this.incidents.push(incident);
    const loop = monitorEventLoopDelay({ resolution: 20 });
    loop.enable();
    await strike();
    loop.disable();
    incident.stalled = Math.round(loop.max / 1e6);
    incident.until = Date.now();
    const seconds = ((incident.until - incident.at) / 1000).toFixed(1);
    const { length } = this.#customers.orders;
    this.#options.say(
      `${this.incidents.length}/${this.#options.faults} ${kind}: ${target}, ${seconds} s; ${length} jobs`,
    );
  }

  #lookForCrashes(): void {
    const { agents, coordinators } = this.#arena.farm;
    const all: readonly TestProcess[] = [...agents.values(), ...coordinators.map(({ process: child }) => child)];
    for (const child of all) {
      if (child.running || child.expected) continue;
      child.expected = true;
      this.crashes.push(`${child.logPath}: ${child.output().slice(-500)}`);
    }
  }

  async #heal(): Promise<void> {
    const { network, farm, nats } = this.#arena;
    this.#lookForCrashes();
    await network.heal();
    await farm.findLeader(120);
    const deadline = Date.now() + 120_000;
    while (!(await healthy(nats.servers.map(({ monitor }) => monitor))) && Date.now() < deadline) await sleep(200);
  }
}

async function healthy(monitors: readonly string[]): Promise<boolean> {
  const answers = monitors.map(async (monitor) => {
    const answer = await fetch(`${monitor}/healthz`, { signal: AbortSignal.timeout(1000) }).catch(() => null);
    return answer?.ok ?? false;
  });
  return (await Promise.all(answers)).every(Boolean);
}
