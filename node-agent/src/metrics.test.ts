import { test } from 'node:test';
import { Gpu } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { assertDocumented } from '@clipfarm/shared/testing/metrics-document';
import { createAgentMetrics } from './metrics.ts';

test('docs/metrics.md says what the agent’s metrics are, and nothing else', async () => {
  const none = { connected: false, slots: [], spooledChunks: 0, foreignChunks: 0, spoolBytes: 0 };
  const metrics = createAgentMetrics(() => ({ ...none, gpus: [Gpu.fromPartial({})] }));
  metrics.peakMemory.set({ slot: 'slot-1' }, 0);
  metrics.reservedMemory.set({ slot: 'slot-1' }, 0);
  metrics.hostMemory.set({ slot: 'slot-1' }, 0);
  assertDocumented('Agent', 'clipfarm_agent_', await metrics.render());
});
