import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import {
  type ListJobEventsResponse,
  ListJobsResponse,
  ListNodesResponse,
} from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
import { createLogger } from '@clipfarm/shared/log';
import type { RpcHandlers } from '@clipfarm/shared/rpc/handlers';
import { attach, type MemoryFarm, memoryFarm, submit } from '../farm/farm-fixture.ts';
import { HistoryReader } from '../farm/job-history.ts';
import { Speedometer } from '../farm/speedometer.ts';
import { StorageHealth } from '../farm/storage-health.ts';
import { type FarmServiceParts, farmService } from './farm-service.ts';
import { MAX_PAGE_BYTES } from './page-bytes.ts';
import { Views } from './views.ts';

type Command = (request: object, context: { readonly peer: string }) => Promise<unknown>;

const rpc = { unary: (handler: Command) => handler, clientStream: () => {}, serverStream: () => {} };

/** The service of a farm, with what it really shows. */
function serviceOf(farm: MemoryFarm) {
  const log = createLogger({ name: 'test', level: 'silent' });
  const speed = new Speedometer(() => farm.clock.monotonic());
  const views = new Views(farm.fleet, farm.nodes, speed, new StorageHealth(log), null, () => true);
  const parts = {
    ...farm,
    views,
    history: new HistoryReader(farm),
    wake: () => {},
    log,
  } as unknown as FarmServiceParts;
  const service = farmService(rpc as unknown as RpcHandlers, parts);
  return <T>(name: keyof typeof service, request: object) =>
    (service[name] as unknown as Command)(request, { peer: 'ipv4:1' }) as Promise<T>;
}

/** Every page of the list of jobs, encoded as it is sent. */
async function pagesOfJobs(call: ReturnType<typeof serviceOf>) {
  const pages: { ids: readonly string[]; bytes: number }[] = [];
  for (let pageToken = '', more = true; more; more = pageToken !== '') {
    const page = await call<ListJobsResponse>('listJobs', { pageSize: 500, pageToken, states: [] });
    const bytes = ListJobsResponse.encode(page).finish().length;
    pages.push({ ids: page.jobs.map(({ jobId }) => jobId), bytes });
    pageToken = page.nextPageToken;
  }
  return pages;
}

/** The commands on nodes of a farm with the node `n`, and what is logged of them. */
async function operated() {
  const farm = await memoryFarm(new ManualClock());
  await farm.nodes.takeOver();
  await attach(farm, 'n');
  const lines: string[] = [];
  const log = createLogger({ name: 'test', level: 'info', destination: { write: (line) => lines.push(line) } });
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

test('a reason is one line of at most 500 characters, for jobs and for nodes', async () => {
  const farm = await memoryFarm(new ManualClock());
  await attach(farm, 'n');
  const job = await submit(farm);
  const call = serviceOf(farm);
  const tooMuch = [
    ['x'.repeat(501), 'reason: must have at most 500 characters'],
    ...['two\nlines', 'bell\u0007', 'csi\u009b31m', 'turned \u202eround', 'split\u2028'].map((reason) => [
      reason,
      'reason: must not hold control characters, nor ones that turn the direction of writing',
    ]),
  ];
  for (const [reason, message] of tooMuch) {
    const refused = { code: 'invalid_argument', field: 'reason', message };
    await assert.rejects(async () => call('cancelJob', { jobId: 'job-1', reason }), refused);
    await assert.rejects(async () => call('drainNode', { nodeId: 'n', reason, knowsLeft: true }), refused);
  }
  assert.equal(job.status, 'active');
  assert.equal(farm.nodes.get('n')?.drainReason, null);
  await call('cancelJob', { jobId: 'job-1', reason: 'ü'.repeat(500) });
  assert.equal(job.reason, 'ü'.repeat(500));
});

test('lists stay within what a message may have, whatever reasons a journal holds and however long prompts are', async () => {
  const farm = await memoryFarm(new ManualClock());
  const ids: string[] = [];
  for (let n = 0; n < 320; n += 1) {
    const jobId = `job-${String(n).padStart(3, '0')}`;
    ids.push(jobId);
    await submit(farm, { jobId, prompt: '👩'.repeat(4000) });
  }
  const reason = 'x'.repeat(9 * 1024 * 1024);
  await farm.jobs.execute('job-000', { type: 'cancel', reason });
  const call = serviceOf(farm);
  const pages = await pagesOfJobs(call);
  assert.ok(pages.length > 1, 'a page ends by its bytes');
  for (const { bytes } of pages) assert.ok(bytes <= MAX_PAGE_BYTES + 65_536, `${bytes} bytes`);
  assert.deepEqual(
    pages.flatMap((page) => page.ids),
    ids.toReversed(),
  );
  const history = await call<ListJobEventsResponse>('listJobEvents', { jobId: 'job-000', pageSize: 0, pageToken: '' });
  assert.deepEqual(
    history.events.map((event) => event.reason.length),
    [4003, 0],
  );
});

test('the list of nodes comes in pages that a message can hold, every node on one of them', async () => {
  const farm = await memoryFarm(new ManualClock());
  const versions = Object.fromEntries(Array.from({ length: 32 }, (_, n) => [`part-${n}`, 'x'.repeat(200)]));
  const slots = Array.from({ length: 8 }, () => ({ runnerVersions: versions }));
  const ids = Array.from({ length: 180 }, (_, n) => `node-${String(n).padStart(3, '0')}`);
  for (const id of ids.toReversed()) await attach(farm, id, slots);
  const call = serviceOf(farm);
  const told: string[] = [];
  let pages = 0;
  for (let pageToken = '', more = true; more; more = pageToken !== '') {
    const page = await call<ListNodesResponse>('listNodes', { knowsLeft: true, pageToken });
    const bytes = ListNodesResponse.encode(page).finish().length;
    assert.ok(bytes <= MAX_PAGE_BYTES + 65_536, `${bytes} bytes`);
    told.push(...page.nodes.map(({ nodeId }) => nodeId));
    pageToken = page.nextPageToken;
    pages += 1;
  }
  assert.ok(pages > 1, `${pages} pages`);
  assert.deepEqual(told, ids);
  await assert.rejects(async () => call('listNodes', { knowsLeft: true, pageToken: 'x' }), {
    code: 'invalid_argument',
    field: 'page_token',
  });
});

test('the list of jobs goes on after its last place, also when the job there has expired since', async () => {
  const farm = await memoryFarm(new ManualClock());
  for (const jobId of ['a', 'b', 'c', 'd', 'e']) {
    // Two are submitted at the same time.
    if (jobId !== 'c') farm.clock.advance(1000);
    await submit(farm, { jobId });
  }
  const call = serviceOf(farm);
  const list = async (pageToken: string, pageSize = 2) => {
    const page = await call<ListJobsResponse>('listJobs', { pageSize, pageToken, states: [] });
    return { ids: page.jobs.map(({ jobId }) => jobId).join(''), token: page.nextPageToken };
  };
  const first = await list('');
  assert.equal(first.ids, 'ed');
  const second = await list('', 3);
  assert.equal(second.ids, 'edc');
  for (const jobId of ['c', 'd']) {
    await farm.jobs.execute(jobId, { type: 'cancel', reason: '' });
    await farm.jobs.execute(jobId, { type: 'expire', keepMillis: 0 });
  }
  assert.deepEqual(await list(first.token), { ids: 'ba', token: '' });
  assert.equal((await list(second.token)).ids, 'ba');
  assert.equal((await list('e')).ids, 'ba', 'a token of an earlier version');
  const refusal = { code: 'invalid_argument', field: 'page_token' };
  for (const token of ['d', 'x', '12/']) await assert.rejects(list(token), refusal);
});
