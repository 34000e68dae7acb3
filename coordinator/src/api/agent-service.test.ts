import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import { type AttachRequest, type AttachResponse, Hello } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { createLogger } from '@clipfarm/shared/log';
import type { CallContext, RpcHandlers } from '@clipfarm/shared/rpc/handlers';
import { createMetrics } from '../admin/metrics.ts';
import { type MemoryFarm, memoryFarm } from '../farm/farm-fixture.ts';
import { Links } from '../farm/links.ts';
import { agentService, type ServiceParts } from './agent-service.ts';

type Attach = (
  requests: AsyncIterable<AttachRequest>,
  responses: { post(response: AttachResponse): boolean },
  context: Pick<CallContext, 'peer' | 'abort'>,
) => Promise<void>;

const slots = [{ slotId: '0', profile: 'synthetic' }];
const welcome = { nodeId: 'n', name: 'n', protocol: 1, slots };

/** Has an agent say hello to a farm, and collects what is said and counted of it. */
async function greet(farm: MemoryFarm, hello: Parameters<typeof Hello.fromPartial>[0]) {
  const metrics = createMetrics();
  const lines: string[] = [];
  const log = createLogger({ name: 'test', level: 'warn', destination: { write: (line) => lines.push(line) } });
  let attach: Attach | undefined;
  // Only `attach` is called, with the handler itself instead of a server around it.
  const rpc = {
    ...{ unary: () => {}, clientStream: () => {}, serverStream: () => {} },
    bidi: (handler: Attach) => {
      attach = handler;
    },
  } as unknown as RpcHandlers;
  agentService(rpc, { ...farm, links: new Links(), metrics, log } as unknown as ServiceParts);
  const requests = (async function* () {
    yield { message: { $case: 'hello' as const, value: Hello.fromPartial({ farmId: farm.nodes.farmId, ...hello }) } };
  })();
  const answered = attach?.(requests, { post: () => assert.fail('answered') }, { peer: 'ipv4:1', abort: () => {} });
  const error: unknown = await answered?.catch((thrown: unknown) => thrown);
  assert.ok(error instanceof FarmError, String(error));
  const { values } = await metrics.agentsRefused.get();
  const counted = values.filter(({ value }) => value > 0).map(({ labels, value }) => [labels.reason, value]);
  return { error, counted, lines };
}

for (const [refusal, hello, code] of [
  ['term', { ...welcome, term: 99 }, 'unavailable'],
  ['hello', { ...welcome, nodeId: '/'.repeat(5000) }, 'invalid_argument'],
  ['protocol', { ...welcome, protocol: 7 }, 'failed_precondition'],
] as const) {
  test(`an agent that is refused for its ${refusal} is counted and logged with the same reason`, async () => {
    const { error, counted, lines } = await greet(await memoryFarm(new ManualClock()), hello);
    assert.equal(error.code, code);
    assert.deepEqual(counted, [[refusal, 1]]);
    const line: unknown = JSON.parse(lines.join(''));
    assert.partialDeepStrictEqual(line, { refusal, reason: error.message, peer: 'ipv4:1', msg: 'agent refused' });
    assert.ok(lines.join('').length < 2000, 'however long the names are');
  });
}

test('an agent that comes while the coordinator stops is not said to be refused', async (t) => {
  const farm = await memoryFarm(new ManualClock());
  const closed = new FarmError('failed_precondition', 'the journal is closed');
  t.mock.method(farm.journal, 'append', () => Promise.reject(closed));
  const { error, counted, lines } = await greet(farm, welcome);
  assert.equal(error, closed);
  assert.deepEqual([counted, lines], [[], []]);
});
