import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import {
  type AttachRequest,
  type AttachResponse,
  Heartbeat,
  Hello,
} from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
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

type Message = NonNullable<AttachRequest['message']>;

/** The handler of `attach` with a farm behind it, what it counts and what it logs. */
function service(farm: MemoryFarm) {
  const metrics = createMetrics();
  const lines: string[] = [];
  const log = createLogger({ name: 'test', level: 'info', destination: { write: (line) => lines.push(line) } });
  let attach: Attach | undefined;
  // Only `attach` is called, with the handler itself instead of a server around it.
  const rpc = {
    ...{ unary: () => {}, clientStream: () => {}, serverStream: () => {} },
    bidi: (handler: Attach) => {
      attach = handler;
    },
  } as unknown as RpcHandlers;
  const timings = { heartbeatMillis: 1000, leaseMillis: 5000, graceMillis: 60_000, hangFloorSeconds: 20 };
  const parts = { ...farm, links: new Links(), metrics, timings, wake: () => {}, log };
  agentService(rpc, parts as unknown as ServiceParts);
  return { attach: attach ?? assert.fail('no handler'), metrics, lines };
}

/** Has an agent say hello to a farm that refuses it, and collects what is said and counted of it. */
async function greet(farm: MemoryFarm, hello: Parameters<typeof Hello.fromPartial>[0]) {
  const { attach, metrics, lines } = service(farm);
  const requests = (async function* () {
    yield { message: { $case: 'hello' as const, value: Hello.fromPartial({ farmId: farm.nodes.farmId, ...hello }) } };
  })();
  const answered = attach(requests, { post: () => assert.fail('answered') }, { peer: 'ipv4:1', abort: () => {} });
  const error: unknown = await answered.catch((thrown: unknown) => thrown);
  assert.ok(error instanceof FarmError, String(error));
  const { values } = await metrics.agentsRefused.get();
  const counted = values.filter(({ value }) => value > 0).map(({ labels, value }) => [labels.reason, value]);
  return { error, counted, lines };
}

/** Lets an agent attach, say these things, and then end its link in some way; collects what the log has of its end. */
async function visit(says: readonly Message[], end: (clock: ManualClock) => void) {
  const clock = new ManualClock();
  const farm = await memoryFarm(clock);
  await farm.nodes.takeOver();
  const { attach, lines } = service(farm);
  const requests = (async function* () {
    const hello = Hello.fromPartial({ farmId: farm.nodes.farmId, ...welcome, name: 'host-3' });
    yield { message: { $case: 'hello' as const, value: hello } };
    for (const message of says) yield { message };
    clock.advance(900);
    end(clock);
  })();
  await attach(requests, { post: () => true }, { peer: 'ipv4:1', abort: () => {} }).catch((error: unknown) => {
    assert.ok(error instanceof FarmError, String(error));
  });
  const node = farm.nodes.get('n') ?? assert.fail('no node');
  const ends = lines.map((line) => JSON.parse(line) as Record<string, unknown>).filter(({ end: how }) => how);
  return { status: farm.nodes.status(node), ends, lines };
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

const broken = () => {
  throw new FarmError('unavailable', 'the client cancelled the call');
};

/** More GPUs than a host can have. */
const gpus = Array.from({ length: 65 }, (_, index) => ({ index }));
const impossible: Message = { $case: 'heartbeat', value: Heartbeat.fromPartial({ gpus }) };

for (const [how, says, end, word, status] of [
  ['breaks', [], broken, 'broken', 'lost'],
  ['is ended by an agent that says nothing', [], () => {}, 'broken', 'lost'],
  ['is ended after a goodbye', [{ $case: 'goodbye', value: { reason: 'SIGTERM' } }], () => {}, 'left', 'left'],
  ['is closed here', [impossible], broken, 'closed', 'lost'],
] as const) {
  test(`a link that ${how} is said to have ended like that, of a node that is named`, async () => {
    const visited = await visit(says, end);
    const [line, ...more] = visited.ends;
    assert.partialDeepStrictEqual(line, {
      node_id: 'n',
      node: 'host-3',
      peer: 'ipv4:1',
      end: word,
      msg: 'node detached',
    });
    assert.deepEqual([more, visited.status], [[], status]);
  });
}

test('a link that is given up because its agent fell silent is said to be silent, and since when', async () => {
  const { ends } = await visit([], (clock) => {
    clock.advance(5100);
    broken();
  });
  assert.partialDeepStrictEqual(ends, [{ end: 'silent', reason: 'it was silent for 6.0 s' }]);
});

test('an agent that is refused was never attached, so it is not said to be detached', async () => {
  const { lines } = await greet(await memoryFarm(new ManualClock()), { ...welcome, term: 99 });
  assert.equal(lines.length, 1);
  assert.match(lines.join(), /agent refused/);
});
