import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2';
import { test } from 'node:test';
import { Client, credentials, Metadata, Server, ServerCredentials } from '@grpc/grpc-js';
import { FarmError, type FarmErrorCode, grpcStatusOf } from '../errors.ts';
import type { AttachRequest, AttachResponse } from '../gen/clipfarm/v1/agent_service.ts';
import { AgentServiceService } from '../gen/clipfarm/v1/agent_service.ts';
import type {
  DownloadResultResponse,
  UploadInputRequest,
  UploadInputResponse,
  WatchJobResponse,
} from '../gen/clipfarm/v1/farm_service.ts';
import { FarmServiceService } from '../gen/clipfarm/v1/farm_service.ts';
import { createLogger } from '../log.ts';
import { Secret } from '../secret.ts';
import { bearerAuth } from './auth.ts';
import { callUnary, callUpload, responsesOf } from './client-call.ts';
import { rpcHandlers } from './handlers.ts';
import { startServer } from './rpc-harness.ts';
import { createSink, MAX_POSTED, type MessageSink } from './sink.ts';

const data = (text: string): UploadInputRequest => ({ part: { $case: 'data', value: Buffer.from(text) } });
const revoke = (reason: string): AttachResponse => ({
  message: { $case: 'revoke', value: { term: 1, leaseId: 'lease', reason } },
});
const beat: AttachRequest = {
  message: { $case: 'heartbeat', value: { slots: [], spooledChunks: 0, spoolFreeBytes: 0, gpus: [] } },
};

const codes: readonly FarmErrorCode[] = [
  'invalid_argument',
  'not_found',
  'conflict',
  'failed_precondition',
  'unavailable',
  'timeout',
  'unauthenticated',
  'permission_denied',
  'resource_exhausted',
  'job_failed',
];

test('a thrown FarmError arrives with its code, message, field and hint', async (t) => {
  let thrown = new FarmError('not_found', '');
  const server = await startServer(t, (wrap) => ({
    getJob: wrap.unary(() => {
      throw thrown;
    }),
  }));
  const client = server.farm();
  for (const code of codes) {
    const message = `${code}: größe "704*384" 100% \n 你好`;
    thrown = new FarmError(code, message, { field: 'größe', hint: 'try 5% less — “704*384”' });
    const expected = { code, message, field: 'größe', hint: 'try 5% less — “704*384”' };
    await assert.rejects(callUnary(client, client.getJob, { jobId: 'x' }), expected);
  }
  thrown = new FarmError('conflict', 'plain');
  await assert.rejects(callUnary(client, client.getJob, { jobId: 'x' }), { field: undefined, hint: undefined });
  thrown = new FarmError('conflict', `\ud800${'ä'.repeat(100_000)}`, { hint: 'ö'.repeat(100_000) });
  await assert.rejects(callUnary(client, client.getJob, { jobId: 'x' }), { code: 'conflict' }, 'long and ill-formed');
});

test('an unexpected error is logged in full and told only by its correlation id', async (t) => {
  const server = await startServer(t, (wrap) => ({
    getJob: wrap.unary(() => {
      throw new TypeError('secret detail of /etc/passwd');
    }),
  }));
  const client = server.farm();
  const error = await callUnary(client, client.getJob, { jobId: 'x' }).catch((e: unknown) => FarmError.from(e));
  assert.ok(error instanceof FarmError);
  assert.equal(error.code, 'internal');
  assert.doesNotMatch(error.message, /passwd/);
  const id = /correlation id ([0-9a-f-]{36})/.exec(error.message)?.[1];
  const line = server.logged.find((entry) => entry.correlation_id === id);
  assert.match(JSON.stringify(line), /TypeError.*secret detail/);
});

test('a method with a deadline aborts its signal and the client gets a timeout', async (t) => {
  const aborted = Promise.withResolvers<void>();
  let reached = false;
  const server = await startServer(t, (wrap) => ({
    getJob: wrap.unary(async (_request, { signal }) => {
      reached = true;
      await once(signal, 'abort');
      aborted.resolve();
      throw signal.reason;
    }),
  }));
  const client = server.farm();
  // A call whose deadline passes before it has reached the server says nothing of the server; a longer one does.
  for (let timeoutMs = 50; !reached; timeoutMs *= 2) {
    await assert.rejects(callUnary(client, client.getJob, { jobId: 'x' }, { timeoutMs }), { code: 'timeout' });
  }
  await aborted.promise;
});

/** Sends one request of a client stream and then tears the connection down, or cancels the call. */
async function breakOff(
  port: number,
  received: Promise<void>,
  how: (session: ClientHttp2Session, call: ClientHttp2Stream) => void,
) {
  const session = connect(`http://127.0.0.1:${port}`);
  const call = session.request({
    ':method': 'POST',
    ':path': FarmServiceService.uploadInput.path,
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  call.on('error', () => {});
  const body = FarmServiceService.uploadInput.requestSerialize(data('one'));
  const frame = Buffer.alloc(5);
  frame.writeUInt32BE(body.length, 1);
  call.write(Buffer.concat([frame, body]));
  await received;
  how(session, call);
  session.destroy();
}

test('a client that is gone in the middle of an upload makes the handler’s iteration throw, and nothing else', async (t) => {
  const first = Promise.withResolvers<void>();
  const outcome = Promise.withResolvers<unknown>();
  const server = await startServer(t, (wrap) => ({
    uploadInput: wrap.clientStream<UploadInputRequest, UploadInputResponse>(async (requests) => {
      try {
        for await (const _ of requests) first.resolve();
      } catch (error) {
        outcome.resolve(error);
        throw error;
      }
      outcome.resolve('ended');
      return { sha256: '' };
    }),
  }));
  await breakOff(server.port, first.promise, (session) => session.socket.resetAndDestroy());
  const error = await outcome.promise;
  assert.ok(error instanceof FarmError && error.code === 'unavailable', String(error));
});

test('a client that cancels an upload gets told so, and the handler’s signal is aborted', async (t) => {
  const first = Promise.withResolvers<void>();
  const aborted = Promise.withResolvers<void>();
  const server = await startServer(t, (wrap) => ({
    uploadInput: wrap.clientStream<UploadInputRequest, UploadInputResponse>(async (requests, { signal }) => {
      signal.addEventListener('abort', () => aborted.resolve());
      for await (const _ of requests) first.resolve();
      return { sha256: '' };
    }),
  }));
  const client = server.farm();
  const abort = new AbortController();
  const feed = async (sink: MessageSink<UploadInputRequest>) => {
    await sink.send(data('one'));
    await first.promise;
    abort.abort();
  };
  const uploading = callUpload(client, client.uploadInput, feed, { signal: abort.signal });
  await assert.rejects(uploading, { code: 'unavailable', message: /cancelled/ });
  await aborted.promise;
});

test('a handler that refuses an upload early is heard although the client still sends', async (t) => {
  const server = await startServer(t, (wrap) => ({
    uploadInput: wrap.clientStream<UploadInputRequest, UploadInputResponse>(async (requests) => {
      for await (const _ of requests) throw new FarmError('resource_exhausted', 'disk full', { field: 'bytes' });
      return { sha256: '' };
    }),
  }));
  const client = server.farm();
  const big = Buffer.alloc(1024 * 1024);
  const endless = async (sink: MessageSink<UploadInputRequest>) => {
    for (;;) await sink.send({ part: { $case: 'data', value: big } });
  };
  const refusal = { code: 'resource_exhausted', message: 'disk full', field: 'bytes' };
  await assert.rejects(callUpload(client, client.uploadInput, endless), refusal);
});

test('an error of the feeding side cancels the upload and is the one that is thrown', async (t) => {
  const server = await startServer(t, (wrap) => ({
    uploadInput: wrap.clientStream<UploadInputRequest, UploadInputResponse>(async (requests) => {
      for await (const _ of requests);
      return { sha256: 'whole' };
    }),
  }));
  const client = server.farm();
  const feed = async (sink: MessageSink<UploadInputRequest>) => {
    await sink.send(data('one'));
    throw new RangeError('file is gone');
  };
  await assert.rejects(callUpload(client, client.uploadInput, feed), RangeError);
});

test('a response stream arrives in order', async (t) => {
  const server = await startServer(t, (wrap) => ({
    downloadResult: wrap.serverStream<unknown, DownloadResultResponse>(async (_request, responses) => {
      for (let i = 0; i < 100; i++) await responses.send({ data: Buffer.of(i) });
    }),
  }));
  const received: (number | undefined)[] = [];
  const call = server.farm().downloadResult({ jobId: 'x', offset: 0 });
  for await (const { data } of responsesOf(call)) received.push(data[0]);
  assert.deepEqual(
    received,
    Array.from({ length: 100 }, (_, i) => i),
  );
});

test('an error that ends a response stream before it is read is not taken for its end', async (t) => {
  const server = await startServer(t, (wrap) => ({
    watchJob: wrap.serverStream<unknown, WatchJobResponse>(async () => {
      throw new FarmError('failed_precondition', 'shutting down', { hint: 'come back' });
    }),
  }));
  const call = server.farm().watchJob({ jobId: 'x' });
  const responses = responsesOf(call);
  await new Promise((resolve) => call.on('status', resolve));
  const reading = async () => {
    for await (const _ of responses);
  };
  await assert.rejects(reading, { code: 'failed_precondition', message: 'shutting down', hint: 'come back' });
});

test('leaving the iteration cancels the call, and the server’s send rejects', async (t) => {
  const ended = Promise.withResolvers<unknown>();
  const server = await startServer(t, (wrap) => ({
    watchJob: wrap.serverStream<unknown, WatchJobResponse>(async (_request, responses) => {
      try {
        for (;;) await responses.send({ staleReason: '' });
      } catch (error) {
        ended.resolve(error);
        throw error;
      }
    }),
  }));
  for await (const _ of responsesOf(server.farm().watchJob({ jobId: 'x' }))) break;
  assert.equal(FarmError.from(await ended.promise).code, 'unavailable');
});

test('a bidirectional stream carries both ways and ends when the client closes its side', async (t) => {
  const server = await startServer(t, (wrap) => ({
    attach: wrap.bidi<AttachRequest, AttachResponse>(async (requests, responses) => {
      let count = 0;
      for await (const _ of requests) responses.post(revoke(`number ${++count}`));
    }),
  }));
  const call = server.agent().attach();
  const sink = createSink<AttachRequest>(call, () => call.cancel());
  await sink.send(beat);
  await sink.send(beat);
  call.end();
  const reasons: string[] = [];
  for await (const { message } of responsesOf(call)) {
    if (message?.$case === 'revoke') reasons.push(message.value.reason);
  }
  assert.deepEqual(reasons, ['number 1', 'number 2']);
});

test('a client that does not read is cut off after a bounded number of messages', async (t) => {
  const outcome = Promise.withResolvers<{ posted: number; error: unknown }>();
  const server = await startServer(t, (wrap) => ({
    attach: wrap.bidi<AttachRequest, AttachResponse>(async (requests, responses) => {
      let posted = 0;
      // 64 KiB each: HTTP/2's window fills long before the queue does.
      while (responses.post(revoke('x'.repeat(65_536)))) posted++;
      try {
        for await (const _ of requests);
      } catch (error) {
        outcome.resolve({ posted, error });
        throw error;
      }
    }),
  }));
  const call = server.agent().attach();
  call.on('error', () => {});
  const { posted, error } = await outcome.promise;
  assert.ok(posted >= MAX_POSTED && posted < 4 * MAX_POSTED, `${posted} were queued`);
  assert.match(String(error), /wait unread/);
  call.cancel();
});

test('every method of both services asks for the token, whatever kind it is', async (t) => {
  const server = new Server({ interceptors: [bearerAuth(new Secret('right'))] });
  let reached = 0;
  const wrap = rpcHandlers(createLogger({ name: 'test', level: 'silent' }));
  const kinds = {
    unary: wrap.unary(() => void reached++),
    clientStream: wrap.clientStream(async () => void reached++),
    serverStream: wrap.serverStream(async () => void reached++),
    bidi: wrap.bidi(async () => void reached++),
  };
  const all = [...Object.entries(FarmServiceService), ...Object.entries(AgentServiceService)];
  for (const service of [FarmServiceService, AgentServiceService]) {
    const kindOf = (method: { requestStream: boolean; responseStream: boolean }) =>
      method.requestStream
        ? method.responseStream
          ? kinds.bidi
          : kinds.clientStream
        : method.responseStream
          ? kinds.serverStream
          : kinds.unary;
    server.addService(service, Object.fromEntries(Object.entries(service).map(([name, m]) => [name, kindOf(m)])));
  }
  const insecure = ServerCredentials.createInsecure();
  const port = await new Promise<number>((resolve) => server.bindAsync('127.0.0.1:0', insecure, (_e, p) => resolve(p)));
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  t.after(() => {
    client.close();
    server.forceShutdown();
  });
  const identity = (value: Buffer) => value;
  for (const [name, method] of all) {
    for (const header of [undefined, 'Bearer wrong', 'Bearer ', 'right', 'bearer right', 'Basic right']) {
      const metadata = new Metadata();
      if (header !== undefined) metadata.set('authorization', header);
      const code = await new Promise((resolve) => {
        const call = client.makeBidiStreamRequest(method.path, identity, identity, metadata);
        call.on('error', () => {});
        call.on('status', (status) => resolve(status.code));
        call.resume();
        call.end(Buffer.alloc(0));
      });
      assert.equal(code, grpcStatusOf('unauthenticated'), `${name} with ${header}`);
    }
  }
  assert.equal(reached, 0);
  assert.ok(all.length >= 19);
});
