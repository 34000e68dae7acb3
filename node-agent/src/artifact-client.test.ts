import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { AgentServiceClient } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { createLogger } from '@clipfarm/shared/log';
import { clientChannel } from '@clipfarm/shared/rpc/credentials';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { uploadArtifact } from './artifact-client.ts';
import { FakeCoordinator } from './testing/fake-coordinator.ts';

const SIGNATURE = 'X-Amz-Signature=5160a7ure';

/** A store that answers a PUT as told, after it has read it. */
interface FakeStore {
  readonly server: Server;
  readonly puts: { readonly headers: IncomingHttpHeaders; readonly content: Buffer }[];
  answer: { readonly status: number; readonly body: string };
}

/** A coordinator, a store that it sends agents to, and a spooled chunk of 100 kB. */
async function scene(t: TestContext) {
  const puts: FakeStore['puts'] = [];
  const store: FakeStore = {
    puts,
    answer: { status: 200, body: '' },
    server: createServer(async (request, response) => {
      const content = await buffer(request).catch(() => null);
      if (content === null) return;
      puts.push({ headers: request.headers, content });
      response.writeHead(store.answer.status, { location: '/elsewhere' }).end(store.answer.body);
    }),
  };
  await once(store.server.listen(0, '127.0.0.1'), 'listening');
  t.after(() => store.server.close().closeAllConnections());
  const address = store.server.address();
  assert.ok(typeof address === 'object' && address !== null);
  const coordinator = await FakeCoordinator.start();
  t.after(() => coordinator[Symbol.asyncDispose]());
  const { address: target, credentials, options } = clientChannel({ address: coordinator.address });
  const client = new AgentServiceClient(target, credentials, options);
  t.after(() => client.close());

  const content = randomBytes(100_000);
  const sha256 = createHash('sha256').update(content).digest('hex');
  const path = join(temporaryDirectory(t), '00000001.mp4');
  writeFileSync(path, content);
  const figures = { renderSeconds: 1, peakMemoryBytes: 0, reservedMemoryBytes: 0, hostBytes: 0 };
  const chunk = { jobId: 'job-1', leaseId: 'lease-1', clip: 3, frames: 48, ...figures, sha256 };
  const entry = {
    sequence: 1,
    path,
    manifest: { kind: 'chunk' as const, farmId: '', ...chunk, bytes: content.length },
  };
  coordinator.presign = (header) => ({
    url: `http://127.0.0.1:${address.port}/clips/${header.clip}?${SIGNATURE}`,
    headers: { 'content-length': String(header.bytes), 'x-amz-checksum-sha256': header.sha256 },
    validSeconds: 900,
  });
  const lines: string[] = [];
  const log = createLogger({ name: 'test', destination: { write: (line) => void lines.push(line) } });
  const upload = (signal = new AbortController().signal) => uploadArtifact(client, entry, signal, log);
  return { store, coordinator, upload, content, sha256, path, lines };
}

test('a file goes through the coordinator when that has no other way', async (t) => {
  const { coordinator, store, upload, content, sha256, lines } = await scene(t);
  coordinator.presign = () => null;
  await upload();
  assert.deepEqual(coordinator.uploads.get(sha256), content);
  assert.equal(store.puts.length, 0);
  assert.deepEqual(lines, []);
});

test('a file goes straight to the store when the coordinator signs it', async (t) => {
  const { coordinator, store, upload, content, sha256 } = await scene(t);
  await upload();
  const [put] = store.puts;
  assert.ok(put);
  assert.deepEqual(put.content, content);
  assert.equal(put.headers['content-length'], '100000');
  assert.equal(put.headers['x-amz-checksum-sha256'], sha256);
  assert.equal(put.headers['transfer-encoding'], undefined);
  assert.equal(coordinator.uploads.size, 0);
});

test('when the store refuses or can’t be reached, the coordinator takes the file, and no log line has the URL', async (t) => {
  const { coordinator, store, upload, content, sha256, lines } = await scene(t);
  const echo = `<Error><Code>SignatureDoesNotMatch</Code><StringToSign>${SIGNATURE}</StringToSign></Error>`;
  for (const [answer, reason] of [
    [{ status: 403, body: echo }, /refused the upload: 403 SignatureDoesNotMatch/],
    [{ status: 503, body: 'x'.repeat(100_000) }, /refused the upload: 503 no reason given/],
    [{ status: 307, body: '' }, /could not be reached/],
  ] as const) {
    store.answer = answer;
    coordinator.uploads.clear();
    await upload();
    assert.deepEqual(coordinator.uploads.get(sha256), content);
    assert.match(lines.pop() ?? '', reason);
  }
  store.server.close().closeAllConnections();
  coordinator.uploads.clear();
  await upload();
  assert.deepEqual(coordinator.uploads.get(sha256), content);
  assert.match(lines[0] ?? '', /"clip":3,.*could not be reached: ECONNREFUSED/);
  assert.doesNotMatch(lines.join(), new RegExp(SIGNATURE));
});

test('a store that hangs up, or is too busy for a moment, is asked again', async (t) => {
  const { coordinator, store, upload, content, lines } = await scene(t);
  const [accept] = store.server.listeners('request');
  assert.ok(accept);
  const troubles = [
    (request: IncomingMessage) => void request.socket.destroy(),
    (request: IncomingMessage, response: ServerResponse) =>
      void request.resume().on('end', () => response.writeHead(503).end()),
  ];
  for (const trouble of troubles) {
    store.server.removeAllListeners('request').once('request', (request, response) => {
      store.server.on('request', accept as RequestListener);
      trouble(request, response);
    });
    await upload();
    assert.ok(store.puts.pop()?.content.equals(content), 'the store has it');
  }
  assert.equal(coordinator.uploads.size, 0);
  assert.deepEqual(lines, []);
});

test('content that the store finds wrong is not sent another way', async (t) => {
  const { coordinator, store, upload } = await scene(t);
  store.answer = { status: 400, body: '<Error><Code>BadDigest</Code></Error>' };
  await assert.rejects(upload(), { code: 'invalid_argument', field: 'sha256' });
  assert.equal(coordinator.uploads.size, 0);
});

test('a file that is gone is not found', async (t) => {
  const { upload, path } = await scene(t);
  rmSync(path);
  await assert.rejects(upload(), { code: 'not_found' });
});

test('an aborted upload ends with the reason and takes no other way', async (t) => {
  const { coordinator, store, upload } = await scene(t);
  const abort = new AbortController();
  const reason = new Error('the link is down');
  store.server.prependListener('request', () => abort.abort(reason));
  await assert.rejects(upload(abort.signal), (error) => error === reason);
  assert.equal(coordinator.uploads.size, 0);
});
