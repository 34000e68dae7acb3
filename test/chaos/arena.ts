import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Farm } from '../harness/farm.ts';
import type { Host } from '../harness/host.ts';
import { type NatsCluster, startNatsCluster } from '../harness/nats.ts';
import { type Network, openNetwork } from '../harness/network.ts';
import { OwnDirectory } from '../harness/owner.ts';
import { SmallDisk } from '../harness/small-disk.ts';

/** Names of the agents. */
export const agentNames = ['one', 'two', 'three', 'four'] as const;

/** Seconds per clip. */
const PACE = 0.6;

/** Everything that a campaign breaks: three NATS servers, three coordinators, four agents, their links and disks. */
export interface Arena extends AsyncDisposable {
  readonly network: Network;
  readonly nats: NatsCluster;
  readonly natsHosts: readonly Host[];
  readonly farm: Farm;
  /** File systems that can be filled; none where this user may not mount one. */
  readonly disks: { readonly store: SmallDisk | null; readonly agent: SmallDisk | null };
  /** Starts an agent again, with the same state. */
  startAgent(name: string): Promise<void>;
  /** Folder in which an agent keeps what it has not handed in. */
  spoolOf(name: string): string;
}

/** Name of the agent whose state is on a disk of its own. */
export const agentWithDisk = agentNames[0];

/** Starts everything with the timings that the product has by default. */
export async function openArena(): Promise<Arena> {
  const stack = new AsyncDisposableStack();
  try {
    const dir = stack.use(new OwnDirectory()).path;
    const network = stack.use(await openNetwork());
    const natsHosts = await Promise.all([1, 2, 3].map((n) => network.host(`nats-${n}`, 'nats')));
    mkdirSync(join(dir, 'nats'));
    const nats = stack.use(
      await startNatsCluster({
        size: 3,
        dir: join(dir, 'nats'),
        hosts: natsHosts,
        reach: (from, to, port) => network.reach(from, to, port),
        advertise: false,
      }),
    );
    const disks = {
      store: SmallDisk.mount(join(dir, 'artifacts'), 4096),
      agent: SmallDisk.mount(join(dir, 'agent-disk'), 512),
    };
    for (const disk of [disks.store, disks.agent]) if (disk) stack.use(disk);
    const optionsOf = (name: string) => {
      const args = name === agentWithDisk ? ['--state-dir', join(dir, 'agent-disk', 'state')] : [];
      return { name, pace: PACE, args };
    };
    const args = async (host: Host) => {
      const urls = nats.servers.map((server) => network.reach(host, server.host, server.port));
      return ['--journal', `nats://${(await Promise.all(urls)).join(',')}`, '--artifacts', join(dir, 'artifacts')];
    };
    const farm = stack.use(await Farm.start(agentNames.map(optionsOf), { coordinators: 3, args, network }));
    const startAgent = async (name: string) => void (await farm.startAgent(optionsOf(name)));
    const spoolOf = (name: string) => {
      const state = name === agentWithDisk ? join(dir, 'agent-disk', 'state') : join(farm.dir, `agent-${name}`);
      return join(state, 'spool');
    };
    const owned = stack.move();
    return {
      network,
      nats,
      natsHosts,
      farm,
      disks,
      startAgent,
      spoolOf,
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}
