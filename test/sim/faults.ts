import type { Random } from './random.ts';
import type { SimWorld } from './world.ts';

/** Everything that may go wrong, or that an operator may do. */
export const faultKinds = [
  'kill',
  'partition',
  'lag',
  'crash',
  'out_of_memory',
  'hang',
  'device',
  'bad_chunk',
  'lose_clip',
  'restart',
  'pause',
  'cancel',
  'priority',
] as const;

/** One of {@link faultKinds}. */
export type FaultKind = (typeof faultKinds)[number];

/** How often each kind happens, compared with the others. */
const weights: { readonly [K in FaultKind]: number } = {
  kill: 6,
  partition: 4,
  lag: 3,
  crash: 4,
  out_of_memory: 1,
  hang: 2,
  device: 1,
  bad_chunk: 1,
  lose_clip: 1,
  restart: 2,
  pause: 2,
  cancel: 1,
  priority: 2,
};

/**
 * What happens to the coordinator or to a whole job does not happen more often because there are more nodes. In farms of
 * up to so many nodes these kinds are as frequent as their weights say, in larger ones that much less.
 */
const fewNodes: { readonly [K in FaultKind]?: number } = { restart: 6, pause: 60, cancel: 60, priority: 60 };

/** Draws a fault of one of the kinds given. */
export function drawFault(random: Random, kinds: readonly FaultKind[], nodes: number): FaultKind {
  const weightOf = (kind: FaultKind) => weights[kind] * Math.min(1, (fewNodes[kind] ?? nodes) / nodes);
  const total = kinds.reduce((sum, kind) => sum + weightOf(kind), 0);
  let at = random.between(0, total);
  for (const kind of kinds) {
    at -= weightOf(kind);
    if (at < 0) return kind;
  }
  return kinds[0] ?? 'kill';
}

/** Lets a fault happen to something. @returns false when there was nothing that it could happen to */
export function strike(world: SimWorld, random: Random, kind: FaultKind): boolean {
  const agent = random.pick(world.agents);
  const jobId = random.pick(world.jobIds());
  if (!agent) return false;
  const slot = random.whole(0, agent.slots.length - 1);
  switch (kind) {
    case 'kill':
      return world.kill(agent, random.between(500, 20_000));
    case 'partition':
      return agent.partition(random.between(300, 30_000), random.chance(0.5));
    case 'lag':
      return agent.lag(random.between(100, 3000), random.between(1000, 20_000));
    case 'crash':
    case 'out_of_memory':
    case 'device':
      return agent.failSlot(slot, kind);
    case 'hang':
      return agent.hangSlot(slot);
    case 'bad_chunk':
      return agent.damageNextChunk(slot);
    case 'lose_clip':
      return jobId !== undefined && world.loseClip(jobId);
    case 'restart':
      return world.restartCoordinator(random.between(100, 8000));
    case 'pause':
      return jobId !== undefined && world.pause(jobId, random.between(500, 15_000));
    case 'cancel':
      return jobId !== undefined && world.cancel(jobId, random.between(500, 10_000));
    case 'priority':
      return jobId !== undefined && world.setPriority(jobId, random.whole(-1, 2));
  }
}
