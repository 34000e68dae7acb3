import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NodeState } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { startFakeFarm } from './testing/fake-farm.ts';
import { node } from './testing/farm-fixtures.ts';
import { cli } from './testing/run-cli.ts';

const left = { state: NodeState.NODE_STATE_LEFT, stateReason: 'the agent got SIGTERM' };
const lost = { state: NodeState.NODE_STATE_LOST, stateReason: 'no sign of life' };

test('nodes tells those that left from those that are lost', async (t) => {
  const farm = await startFakeFarm(t);
  farm.state.nodes = [
    { ...node('node-a', 'fast'), ...left },
    { ...node('node-b', 'slow'), ...lost },
  ];
  const { code, out } = await cli(farm, 'nodes');
  assert.equal(code, 0);
  assert.match(
    out,
    /^fast +left +default +gpu0 +synthetic +\S+ +- .* the agent got SIGTERM\nslow +lost .* no sign of life$/m,
  );
  const told = await cli(farm, 'nodes', '-o', 'json');
  assert.deepEqual(
    (JSON.parse(told.out) as { nodes: { state: string }[] }).nodes.map(({ state }) => state),
    ['NODE_STATE_LEFT', 'NODE_STATE_LOST'],
  );
});

test('draining a node that is away says that it is drained, and that it is away', async (t) => {
  const farm = await startFakeFarm(t);
  farm.state.nodes = [
    { ...node('node-a', 'fast'), ...left },
    { ...node('node-b', 'slow'), ...lost },
    node('node-c', 'there'),
  ];
  const said = async (...argv: string[]) => (await cli(farm, 'node', ...argv)).err;
  assert.equal(await said('drain', 'fast'), 'node fast is drained; its agent has left\n');
  assert.equal(await said('undrain', 'slow'), 'node slow is undrained; it is lost\n');
  assert.equal(await said('drain', 'there'), 'node there is draining\n');
});
