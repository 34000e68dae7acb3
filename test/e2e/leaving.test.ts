import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Farm, until } from '../harness/farm.ts';

it('an agent that is stopped has left, also for a coordinator that starts then; one that is killed is lost', async () => {
  await using farm = await Farm.start([{ name: 'stopped' }, { name: 'killed' }, { name: 'frozen' }]);
  const states = async () => Object.fromEntries((await farm.nodes()).map(({ name, state }) => [name, state]));
  assert.equal(await farm.agent('stopped').stop(), 0);
  await farm.agent('killed').kill();
  farm.agent('frozen').signal('SIGSTOP');
  const gone = { stopped: 'NODE_STATE_LEFT', killed: 'NODE_STATE_LOST', frozen: 'NODE_STATE_LOST' };
  const lines = () =>
    farm.coordinator
      .output()
      .split('\n')
      .filter((line) => line.includes('node detached'))
      .map((line) => JSON.parse(line) as { readonly node: string; readonly end: string });
  await until(() => lines().length === 3, 'the links of all three are over');
  assert.deepEqual(Object.fromEntries(lines().map(({ node, end }) => [node, end])), {
    stopped: 'left',
    killed: 'broken',
    frozen: 'silent',
  });
  // Each from its last heartbeat on, whoever went first.
  await until(
    async () => ['killed', 'frozen'].every(async (name) => (await states())[name] === 'NODE_STATE_LOST'),
    'both are lost',
  );
  assert.deepEqual(await states(), gone);
  const metrics = await (await fetch(`http://${farm.admin}/metrics`)).text();
  assert.match(metrics, /^clipfarm_nodes\{state="left"\} 1$/m);
  assert.match(metrics, /^clipfarm_nodes\{state="lost"\} 2$/m);

  await farm.coordinator.kill();
  await farm.startCoordinator();
  await farm.findLeader();
  assert.deepEqual(await states(), gone);
  await farm.startAgent({ name: 'stopped' });
  await farm.waitForNodes(1);
  assert.equal((await states()).stopped, 'NODE_STATE_ONLINE');
});
