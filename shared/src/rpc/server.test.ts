import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { ManualClock, systemClock } from '../clock.ts';
import type { WatchJobResponse } from '../gen/clipfarm/v1/farm_service.ts';
import { FarmServiceClient, FarmServiceService } from '../gen/clipfarm/v1/farm_service.ts';
import { createLogger } from '../log.ts';
import { callUnary, responsesOf } from './client-call.ts';
import { clientChannel, serverCredentials } from './credentials.ts';
import { rpcHandlers } from './handlers.ts';
import { MAX_PIECE_BYTES, MAX_REQUEST_BYTES } from './limits.ts';
import { startServer } from './rpc-harness.ts';
import { closeServer, createFarmServer, listen } from './server.ts';

test('a port in use is reported with the address and what to do', async (t) => {
  const { port } = await startServer(t, () => ({}));
  const access = serverCredentials({ listen: `127.0.0.1:${port}` });
  const second = createFarmServer({ token: undefined });
  await assert.rejects(listen(second, access), {
    code: 'failed_precondition',
    field: '--listen',
    message: `--listen: cannot listen on 127.0.0.1:${port}: the port is in use`,
    hint: /stop it, or choose another port/,
  });
  const foreign = serverCredentials({ listen: '192.0.2.1:0', insecure: true });
  await assert.rejects(listen(second, foreign), { code: 'failed_precondition', message: /192\.0\.2\.1:0/ });
});

test('closing lets a running call end, and cuts off a stream after the grace period', async () => {
  const server = createFarmServer({ token: undefined });
  const wrap = rpcHandlers(createLogger({ name: 'test', level: 'silent' }));
  const started = Promise.withResolvers<void>();
  const proceed = Promise.withResolvers<void>();
  server.addService(FarmServiceService, {
    statInput: wrap.unary(async () => {
      started.resolve();
      await proceed.promise;
      return { stored: true };
    }),
    watchJob: wrap.serverStream<unknown, WatchJobResponse>(async (_request, sink, { signal }) => {
      await sink.send({ staleReason: '' });
      await once(signal, 'abort');
    }),
  });
  const access = serverCredentials({ listen: '127.0.0.1:0' });
  const port = await listen(server, access);
  const channel = clientChannel({ address: `localhost:${port}` });
  const client = new FarmServiceClient(channel.address, channel.credentials, channel.options);
  const watching = responsesOf(client.watchJob({ jobId: 'x' }))[Symbol.asyncIterator]();
  await watching.next();
  const answer = callUnary(client, client.statInput, { sha256: '' });
  await started.promise;
  const clock = new ManualClock();
  let closed = false;
  const closing = closeServer(server, 5000, clock).then(() => {
    closed = true;
  });
  proceed.resolve();
  assert.deepEqual(await answer, { stored: true });
  assert.equal(closed, false);
  clock.advance(5000);
  await closing;
  // Cut off by the server, not given up by keepalive seconds later.
  await assert.rejects(watching.next(), { code: 'unavailable', message: /cancelled/ });
  assert.equal(clock.pending, 0);
  client.close();
});

test('a server without open calls closes at once', async (t) => {
  const server = await startServer(t, () => ({}));
  assert.ok(server.port > 0);
  const empty = createFarmServer({ token: undefined });
  await closeServer(empty, 60_000, systemClock);
});

test('a client to nobody fails with a hint', async (t) => {
  const server = await startServer(t, () => ({}));
  const client = server.farm({ address: '127.0.0.1:1' });
  const call = callUnary(client, client.statInput, { sha256: '' });
  await assert.rejects(call, { code: 'unavailable', message: /ECONNREFUSED/, hint: /coordinator runs/ });
});

test('a server takes messages a little larger than a piece of a file, and sends larger ones', async (t) => {
  const { port } = await startServer(t, (wrap) => ({
    statInput: wrap.unary(() => ({ stored: true })),
    listJobs: wrap.unary(() => ({ jobs: [], nextPageToken: 'x'.repeat(3 * MAX_REQUEST_BYTES), staleReason: '' })),
  }));
  const channel = clientChannel({ address: `localhost:${port}` });
  const client = new FarmServiceClient(channel.address, channel.credentials, channel.options);
  t.after(() => client.close());
  const stat = (bytes: number) => callUnary(client, client.statInput, { sha256: 'x'.repeat(bytes) });
  assert.deepEqual(await stat(MAX_PIECE_BYTES + 65_536), { stored: true });
  await assert.rejects(stat(MAX_REQUEST_BYTES + 1), { code: 'resource_exhausted' });
  const page = await callUnary(client, client.listJobs, { pageSize: 0, pageToken: '', states: [] });
  assert.equal(page.nextPageToken.length, 3 * MAX_REQUEST_BYTES);
});
