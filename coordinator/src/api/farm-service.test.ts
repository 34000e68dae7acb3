import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import { createLogger } from '@clipfarm/shared/log';
import type { RpcHandlers } from '@clipfarm/shared/rpc/handlers';
import { attach, memoryFarm } from '../farm/farm-fixture.ts';
import { type FarmServiceParts, farmService } from './farm-service.ts';

type Command = (request: object, context: { readonly peer: string }) => Promise<unknown>;

/** The commands on nodes of a farm with the node `n`, and what is logged of them. */
async function operated() {
  const farm = await memoryFarm(new ManualClock());
  await farm.nodes.takeOver();
  await attach(farm, 'n');
  const lines: string[] = [];
  const log = createLogger({ name: 'test', level: 'info', destination: { write: (line) => lines.push(line) } });
  const rpc = { unary: (handler: Command) => handler, clientStream: () => {}, serverStream: () => {} };
  const views = { node: () => ({}) };
  const parts = { ...farm, views, wake: () => {}, log } as unknown as FarmServiceParts;
  const service = farmService(rpc as unknown as RpcHandlers, parts);
  const run = async (command: 'drainNode' | 'undrainNode', request: object) => {
    await (service[command] as unknown as Command)({ knowsLeft: true, ...request }, { peer: 'ipv4:1' });
    return lines.splice(0).map((line): unknown => JSON.parse(line));
  };
  return { farm, run };
}

test('what operators do to nodes is in the log: who, to which node, why, and what it undid', async () => {
  const { run } = await operated();
  const about = { node_id: 'n', node: 'n', peer: 'ipv4:1' };
  const drained = await run('drainNode', { nodeId: 'n', reason: 'a new card' });
  assert.partialDeepStrictEqual(drained, [{ ...about, reason: 'a new card', msg: 'node drained' }]);
  const undrained = await run('undrainNode', { nodeId: 'n' });
  const undone = { was: 'draining', drained_for: 'a new card', msg: 'node undrained' };
  assert.partialDeepStrictEqual(undrained, [{ ...about, ...undone }]);
  assert.partialDeepStrictEqual(await run('drainNode', { nodeId: 'n', reason: '' }), [{ reason: 'by the operator' }]);
});

test('draining a drained node changes nothing, and is not logged as if it did', async () => {
  const { farm, run } = await operated();
  await run('drainNode', { nodeId: 'n', reason: 'a new card' });
  assert.deepEqual(await run('drainNode', { nodeId: 'n', reason: 'another one' }), []);
  assert.equal(farm.nodes.get('n')?.drainReason, 'a new card');
});
