import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '@clipfarm/shared/clock';
import { type Node, NodeState } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { allNodes } from './all-nodes.ts';
import type { Connection } from './connection.ts';

/** Nodes that take work. */
export function onlineNodes(nodes: readonly Node[]): readonly Node[] {
  return nodes.filter((node) => node.state === NodeState.NODE_STATE_ONLINE);
}

/**
 * Waits until so many nodes are online.
 *
 * @param timeoutMs milliseconds to wait at most.
 * @returns how many there are in the end; fewer than wanted when time ran out or the signal came.
 */
export async function waitForNodes(farm: Connection, wanted: number, timeoutMs: number, clock: Clock): Promise<number> {
  const deadline = clock.monotonic() + timeoutMs;
  for (;;) {
    const nodes = await allNodes((request) => farm.call(farm.client.listNodes, request)).catch(() => []);
    const online = onlineNodes(nodes).length;
    if (online >= wanted || clock.monotonic() >= deadline || farm.signal.aborted) return online;
    await sleep(100, undefined, { signal: farm.signal }).catch(() => undefined);
  }
}
