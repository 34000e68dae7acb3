import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startAdmin } from './admin.ts';
import { type AgentGauges, createAgentMetrics } from './metrics.ts';

test('metrics, liveness and readiness are served, and nothing else', async (t) => {
  const gauges: AgentGauges = {
    connected: true,
    slots: ['idle', 'rendering', 'idle'],
    spooledChunks: 3,
    spoolBytes: 99,
  };
  const metrics = createAgentMetrics(() => gauges);
  metrics.leases.inc({ outcome: 'completed' });
  const obstacles: string[] = [];
  const admin = await startAdmin({ listen: '127.0.0.1:0', metrics, readiness: () => obstacles });
  t.after(() => admin.close());
  const get = async (path: string, method = 'GET') => {
    const response = await fetch(`http://${admin.address}${path}`, { method });
    return [response.status, await response.text()] as const;
  };
  const [status, text] = await get('/metrics');
  assert.equal(status, 200);
  for (const line of [
    'clipfarm_agent_connected 1',
    'clipfarm_agent_slots{state="idle"} 2',
    'clipfarm_agent_slots{state="recovering"} 0',
    'clipfarm_agent_spooled_chunks 3',
    'clipfarm_agent_leases_total{outcome="completed"} 1',
    'clipfarm_agent_attempt_failures_total{class="hang"} 0',
  ]) {
    assert.ok(text.includes(`${line}\n`), line);
  }
  assert.ok(
    text.split('\n').every((line) => line === '' || line.startsWith('#') || line.startsWith('clipfarm_agent_')),
  );
  assert.deepEqual(await get('/livez'), [200, 'alive\n']);
  assert.deepEqual(await get('/readyz'), [200, 'ready\n']);
  obstacles.push('no link to a coordinator');
  assert.deepEqual(await get('/readyz'), [503, 'not ready\n- no link to a coordinator\n']);
  assert.equal((await get('/'))[0], 404);
  assert.equal((await get('/metrics', 'POST'))[0], 405);
});

test('an address in use is named', async (t) => {
  const metrics = createAgentMetrics(() => ({ connected: false, slots: [], spooledChunks: 0, spoolBytes: 0 }));
  const first = await startAdmin({ listen: '127.0.0.1:0', metrics, readiness: () => [] });
  t.after(() => first.close());
  await assert.rejects(startAdmin({ listen: first.address, metrics, readiness: () => [] }), {
    code: 'failed_precondition',
    message: `--admin: cannot listen on ${first.address}: the port is in use`,
  });
});
