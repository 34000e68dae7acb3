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

/** Draws a fault of one of the kinds given. */
export function drawFault(random: Random, kinds: readonly FaultKind[]): FaultKind {
  const total = kinds.reduce((sum, kind) => sum + weights[kind], 0);
  let at = random.between(0, total);
  for (const kind of kinds) {
    at -= weights[kind];
    if (at < 0) return kind;
  }
  return kinds[0] ?? 'kill';
}

/** Lets a fault happen to something. */
export function strike(world: SimWorld, random: Random, kind: FaultKind): void {
  const agent = random.pick(world.agents);
  const jobId = random.pick(world.jobIds());
  if (!agent) return;
  const slot = random.whole(0, agent.slots.length - 1);
  switch (kind) {
    case 'kill':
      world.kill(agent, random.between(500, 20_000));
      return;
    case 'partition':
      agent.partition(random.between(300, 30_000), random.chance(0.5));
      return;
    case 'lag':
      agent.lag(random.between(100, 3000), random.between(1000, 20_000));
      return;
    case 'crash':
    case 'out_of_memory':
    case 'device':
      agent.failSlot(slot, kind);
      return;
    case 'hang':
      agent.hangSlot(slot);
      return;
    case 'bad_chunk':
      agent.damageNextChunk(slot);
      return;
    case 'lose_clip':
      if (jobId !== undefined) world.loseClip(jobId);
      return;
    case 'restart':
      world.restartCoordinator(random.between(100, 8000));
      return;
    case 'pause':
      if (jobId !== undefined) world.pause(jobId, random.between(500, 15_000));
      return;
    case 'cancel':
      if (jobId !== undefined) world.cancel(jobId, random.between(500, 10_000));
      return;
    case 'priority':
      if (jobId !== undefined) world.setPriority(jobId, random.whole(-1, 2));
      return;
  }
}
