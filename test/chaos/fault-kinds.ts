import { setTimeout as sleep } from 'node:timers/promises';
import type { Host } from '../harness/host.ts';
import { disturbBoth, type Trouble } from '../harness/network.ts';
import { killOneRunner } from '../harness/os.ts';
import type { TestProcess } from '../harness/process.ts';
import { type Arena, agentNames, agentWithDisk } from './arena.ts';

/** A fault that is about to happen. */
export interface Fault {
  /** What it happens to. */
  readonly target: string;
  /** Things that no other fault may touch at the same time. */
  readonly locks: readonly string[];
  /** Does it, lasts, and makes good again. */
  readonly strike: () => Promise<void>;
}

/** What faults are made of. */
export interface FaultParts {
  readonly arena: Arena;
  /** 0 to 1. */
  readonly random: () => number;
}

/** What can go wrong, how often compared with the others, and how it is brought about; null when it can't be now. */
interface FaultKind {
  readonly what: string;
  readonly weight: number;
  readonly prepare: (parts: FaultParts) => Promise<Fault | null>;
}

/** Longest freeze and cut, in milliseconds. */
const LONGEST_MILLIS = 30_000;

/** A start in the middle of other faults may take until NATS has elected again. */
const START_SECONDS = 180;

export const faultKinds = {
  leaderKill: {
    what: 'leader killed (kill -9), started again',
    weight: 30,
    prepare: async (parts) => killCoordinator(parts, await leader(parts)),
  },
  leaderStop: {
    what: 'leader stopped (SIGTERM), started again',
    weight: 10,
    prepare: async (parts) => {
      const index = await leader(parts);
      return coordinatorFault(parts, index, async (child) => {
        await child.stop();
        await parts.arena.farm.startCoordinator(index, START_SECONDS);
      });
    },
  },
  leaderFreeze: {
    what: 'leader frozen (SIGSTOP) for up to 30 s',
    weight: 16,
    prepare: async (parts) => freezeCoordinator(parts, await leader(parts)),
  },
  leaderDeposed: {
    what: 'leader frozen until another leads, then continued',
    weight: 12,
    prepare: async (parts) => {
      const index = await leader(parts);
      return coordinatorFault(parts, index, async (child) => {
        child.signal('SIGSTOP');
        // While most of NATS is away as well nobody leads, and it is continued all the same.
        await parts.arena.farm.findLeader(LONGEST_MILLIS / 1000).catch(() => undefined);
        await sleep(pick(parts.random, [0, 0, 1000, 4000]));
        child.signal('SIGCONT');
      });
    },
  },
  leaderCut: {
    what: 'leader cut from NATS, both ways or one',
    weight: 18,
    prepare: async (parts) => disturbCoordinator(parts, await leader(parts), { kind: 'cut' }),
  },
  followerKill: {
    what: 'follower killed, started again',
    weight: 20,
    prepare: async (parts) => killCoordinator(parts, await follower(parts)),
  },
  followerFreeze: {
    what: 'follower frozen for up to 30 s',
    weight: 8,
    prepare: async (parts) => freezeCoordinator(parts, await follower(parts)),
  },
  followerCut: {
    what: 'follower cut from NATS, both ways or one',
    weight: 10,
    prepare: async (parts) => disturbCoordinator(parts, await follower(parts), { kind: 'cut' }),
  },
  agentKill: {
    what: 'agent killed, started again',
    weight: 52,
    prepare: async ({ arena, random }) => {
      const name = pick(random, agentNames);
      const strike = async () => {
        await arena.farm.agent(name).kill();
        await sleep(random() * 8000);
        await arena.startAgent(name);
      };
      return { target: name, locks: [`agent ${name}`], strike };
    },
  },
  agentFreeze: {
    what: 'agent frozen for up to 30 s, with its runner or alone',
    weight: 24,
    prepare: async ({ arena, random }) => {
      const name = pick(random, agentNames);
      const strike = () => freeze(arena.farm.agent(name), random);
      return { target: name, locks: [`agent ${name}`], strike };
    },
  },
  agentCut: {
    what: 'agent cut from the coordinators, both ways or one',
    weight: 36,
    prepare: async (parts) => {
      const name = pick(parts.random, agentNames);
      const ends = parts.arena.farm.coordinators.map(({ host }) => [parts.arena.farm.agentHost(name), host] as const);
      return linkFault(parts, name, ends, { kind: 'cut' });
    },
  },
  agentLoss: {
    what: 'agent whose link loses 10 to 50 % of the packets',
    weight: 10,
    prepare: async (parts) => {
      const name = pick(parts.random, agentNames);
      const percent = 10 + Math.round(parts.random() * 40);
      const ends = parts.arena.farm.coordinators.map(({ host }) => [parts.arena.farm.agentHost(name), host] as const);
      return linkFault(parts, name, ends, { kind: 'loss', percent });
    },
  },
  agentDelay: {
    what: 'agent whose link to the coordinators is 50 to 800 ms late, each way or one',
    weight: 16,
    prepare: async (parts) => {
      const name = pick(parts.random, agentNames);
      const ends = parts.arena.farm.coordinators.map(({ host }) => [parts.arena.farm.agentHost(name), host] as const);
      return linkFault(parts, name, ends, delay(parts));
    },
  },
  leaderDelay: {
    what: 'leader whose link to NATS is 50 to 800 ms late, each way or one',
    weight: 10,
    prepare: async (parts) => disturbCoordinator(parts, await leader(parts), delay(parts)),
  },
  followerDelay: {
    what: 'follower whose link to NATS is 50 to 800 ms late, each way or one',
    weight: 5,
    prepare: async (parts) => disturbCoordinator(parts, await follower(parts), delay(parts)),
  },
  runnerKill: {
    what: 'runner killed',
    weight: 26,
    prepare: async ({ arena, random }) => {
      const name = pick(random, agentNames);
      const strike = async () => void killOneRunner(arena.farm.agent(name).child.pid);
      return { target: name, locks: [`agent ${name}`], strike };
    },
  },
  natsKill: {
    what: 'NATS server killed, started again',
    weight: 20,
    prepare: async ({ arena, random }) => {
      const index = Math.floor(random() * arena.nats.servers.length);
      const strike = async () => {
        await arena.nats.servers[index]?.kill();
        await sleep(random() * 5000);
        arena.nats.servers[index]?.launch();
      };
      return { target: `NATS ${index}`, locks: [`NATS ${index}`], strike };
    },
  },
  natsRestart: {
    what: 'all NATS servers killed, started again',
    weight: 8,
    prepare: async ({ arena, random }) => {
      const { servers } = arena.nats;
      const strike = async () => {
        await Promise.all(servers.map((server) => server.kill()));
        await sleep(random() * 5000);
        for (const server of servers) server.launch();
      };
      return { target: 'NATS', locks: servers.map((_, index) => `NATS ${index}`), strike };
    },
  },
  natsFreeze: {
    what: 'NATS server frozen for up to 30 s',
    weight: 8,
    prepare: async ({ arena, random }) => {
      const index = Math.floor(random() * arena.nats.servers.length);
      const strike = async () => {
        await arena.nats.servers[index]?.pause();
        await sleep(lasting(random));
        arena.nats.servers[index]?.resume();
      };
      return { target: `NATS ${index}`, locks: [`NATS ${index}`], strike };
    },
  },
  natsCut: {
    what: 'NATS server cut from one or both others, both ways or one',
    weight: 16,
    prepare: async (parts) => disturbNats(parts, { kind: 'cut' }),
  },
  natsDelay: {
    what: 'NATS server whose link to one or both others is 50 to 800 ms late, each way or one',
    weight: 10,
    prepare: async (parts) => disturbNats(parts, delay(parts)),
  },
  storeFull: {
    what: 'disk of the artifacts full',
    weight: 6,
    prepare: async ({ arena, random }) => {
      const { store } = arena.disks;
      return store && { target: 'artifacts', locks: ['artifacts'], strike: () => fillUp(store, random) };
    },
  },
  agentDiskFull: {
    what: "agent's disk full",
    weight: 6,
    prepare: async ({ arena, random }) => {
      const { agent } = arena.disks;
      return agent && { target: agentWithDisk, locks: ['disk of the agent'], strike: () => fillUp(agent, random) };
    },
  },
} as const satisfies Readonly<Record<string, FaultKind>>;

/** One of {@link faultKinds}. */
export type FaultName = keyof typeof faultKinds;

/** All of them. */
export const faultNames = Object.keys(faultKinds) as readonly FaultName[];

/** One of the items. */
export function pick<T>(random: () => number, items: readonly T[]): T {
  return items[Math.floor(random() * items.length)] as T;
}

/** How long something lasts: mostly seconds, now and then the longest. */
function lasting(random: () => number): number {
  return random() < 0.1 ? LONGEST_MILLIS : 500 + (LONGEST_MILLIS / 2 - 500) * random() ** 2;
}

function leader({ arena }: FaultParts): Promise<number> {
  return arena.farm.findLeader(180);
}

async function follower(parts: FaultParts): Promise<number> {
  const { length } = parts.arena.farm.coordinators;
  return ((await leader(parts)) + 1 + Math.floor(parts.random() * (length - 1))) % length;
}

function coordinatorFault(
  { arena }: FaultParts,
  index: number,
  act: (child: TestProcess) => Promise<void>,
): Fault | null {
  const child = arena.farm.coordinators[index]?.process;
  const target = `coordinator ${index}`;
  return child ? { target, locks: [target], strike: () => act(child) } : null;
}

function killCoordinator(parts: FaultParts, index: number): Fault | null {
  return coordinatorFault(parts, index, async (child) => {
    await child.kill();
    await sleep(parts.random() * 6000);
    await parts.arena.farm.startCoordinator(index, START_SECONDS);
  });
}

function freezeCoordinator(parts: FaultParts, index: number): Fault | null {
  return coordinatorFault(parts, index, (child) => freeze(child, parts.random));
}

async function freeze(child: TestProcess, random: () => number): Promise<void> {
  // A virtual machine that is suspended takes everything along; a debugger takes one process.
  const whole = random() < 0.5;
  child.signal('SIGSTOP', whole);
  await sleep(lasting(random));
  child.signal('SIGCONT', whole);
}

/** Late by 50 to 800 ms, and by up to half of that more. */
function delay({ random }: FaultParts): Trouble {
  const millis = 50 + Math.round(random() * 750);
  return { kind: 'delay', millis, jitterMillis: Math.round(millis / 2) };
}

function disturbNats(parts: FaultParts, trouble: Trouble): Fault | null {
  const { natsHosts } = parts.arena;
  const index = Math.floor(parts.random() * natsHosts.length);
  const host = natsHosts[index];
  const others = natsHosts.filter((other) => other !== host);
  const from = parts.random() < 0.5 ? others : others.slice(0, 1);
  const ends = host ? from.map((other) => [host, other] as const) : [];
  return linkFault(parts, `NATS ${index}`, ends, trouble, 'links of NATS');
}

function disturbCoordinator(parts: FaultParts, index: number, trouble: Trouble): Fault | null {
  const host = parts.arena.farm.coordinators[index]?.host;
  if (!host) return null;
  const ends = parts.arena.natsHosts.map((server) => [host, server] as const);
  return linkFault(parts, `coordinator ${index}`, ends, trouble);
}

/** Trouble on links, in both directions or in one; null where the network can't have it. */
function linkFault(
  { arena: { network }, random }: FaultParts,
  target: string,
  ends: readonly (readonly [Host, Host])[],
  trouble: Trouble,
  lock = `links of ${target}`,
): Fault | null {
  if (!ends.every(([one, other]) => network.supports(trouble.kind, one, other))) return null;
  const direction = pick(random, ['both', 'both', 'out', 'in'] as const);
  const set = async (what: Trouble | null) => {
    for (const [one, other] of ends) {
      if (direction === 'both') await disturbBoth(network, one, other, what);
      else if (direction === 'out') await network.disturb(one, other, what);
      else await network.disturb(other, one, what);
    }
  };
  const strike = async () => {
    await set(trouble);
    await sleep(trouble.kind === 'delay' ? 5000 + 15_000 * random() : lasting(random));
    await set(null);
  };
  return { target: direction === 'both' ? target : `${target} (${direction})`, locks: [lock], strike };
}

async function fillUp(disk: { fill(): void; free(): void }, random: () => number): Promise<void> {
  disk.fill();
  await sleep(1000 + random() * 6000);
  disk.free();
}
