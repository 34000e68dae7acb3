import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { FarmError } from '../errors.ts';
import type { DownloadResultResponse, InputHeader, UploadInputRequest } from '../gen/clipfarm/v1/farm_service.ts';
import { smallDisk, temporaryDirectory } from '../testing/temporary.ts';
import { callUpload, responsesOf } from './client-call.ts';
import { startServer } from './rpc-harness.ts';
import type { MessageSink } from './sink.ts';
import { pipeFileToCall, readUpload, receiveToFile } from './stream.ts';

const sha256Of = (data: Uint8Array) => createHash('sha256').update(data).digest('hex');
const dataMessage = (data: Buffer): UploadInputRequest => ({ part: { $case: 'data', value: data } });
const headerMessage = (header: Omit<InputHeader, 'kind'>): UploadInputRequest => ({
  part: { $case: 'header', value: { kind: 'INPUT_KIND_AUDIO', ...header } },
});

async function* piecesOf(...pieces: Uint8Array[]) {
  yield* pieces;
}

/** A server that stores uploads in `dir` and sends back `download`. */
const storing = (t: Parameters<typeof startServer>[0], dir: string, download = '') =>
  startServer(t, (wrap) => ({
    uploadInput: wrap.clientStream(async (requests: AsyncIterable<UploadInputRequest>) => {
      const { header, pieces } = await readUpload(requests);
      await receiveToFile({ pieces, dir, sha256: header.sha256, bytes: header.bytes, limit: 100_000_000 });
      return { sha256: header.sha256 };
    }),
    downloadResult: wrap.serverStream(
      async (request: { offset: number }, sink: MessageSink<DownloadResultResponse>, { signal }) => {
        await pipeFileToCall({ path: download, sink, start: request.offset, toMessage: (data) => ({ data }), signal });
      },
    ),
  }));

test('a file goes up and comes down byte for byte, also from the middle', async (t) => {
  const dir = temporaryDirectory(t);
  const content = randomBytes(9 * 1024 * 1024 + 7);
  const path = join(temporaryDirectory(t), 'file');
  writeFileSync(path, content);
  const client = (await storing(t, dir, path)).farm();
  const sha256 = sha256Of(content);
  const answer = await callUpload(client, client.uploadInput, async (sink) => {
    await sink.send(headerMessage({ sha256, bytes: content.length }));
    const sent = await pipeFileToCall({ path, sink, toMessage: dataMessage, pieceBytes: 1024 * 1024 });
    assert.equal(sent, content.length);
  });
  assert.equal(answer.sha256, sha256);
  const [stored] = readdirSync(dir);
  assert.ok(stored !== undefined && readFileSync(join(dir, stored)).equals(content));
  for (const offset of [0, 1, 5_000_000, content.length]) {
    const parts: Buffer[] = [];
    for await (const { data } of responsesOf(client.downloadResult({ jobId: 'x', offset }))) parts.push(data);
    assert.ok(Buffer.concat(parts).equals(content.subarray(offset)), `from ${offset}`);
  }
});

test('a sender waits for a reader that does not read', async (t) => {
  const path = join(temporaryDirectory(t), 'file');
  writeFileSync(path, Buffer.alloc(64 * 1024 * 1024));
  let sent = 0;
  const ended = Promise.withResolvers<unknown>();
  const server = await startServer(t, (wrap) => ({
    downloadResult: wrap.serverStream(async (_request, sink: MessageSink<DownloadResultResponse>, { signal }) => {
      const toMessage = (data: Buffer) => {
        sent += data.length;
        return { data };
      };
      await pipeFileToCall({ path, sink, toMessage, signal }).catch(ended.resolve);
    }),
  }));
  const call = server.farm().downloadResult({ jobId: 'x', offset: 0 });
  const responses = responsesOf(call)[Symbol.asyncIterator]();
  await responses.next();
  // Waits until the sender has stood still for a while, however long it takes to get there.
  for (let before = -1; before !== sent; ) {
    before = sent;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  assert.ok(sent < 32 * 1024 * 1024, `${sent} bytes were sent ahead`);
  await responses.return?.();
  assert.equal(FarmError.from(await ended.promise).code, 'unavailable');
});

test('what was received has the promised size and hash, or nothing remains', async (t) => {
  const dir = temporaryDirectory(t);
  const content = Buffer.from('a chunk');
  const good = { dir, sha256: sha256Of(content), bytes: content.length, limit: 1000 };
  const path = await receiveToFile({ ...good, pieces: piecesOf(content.subarray(0, 3), content.subarray(3)) });
  assert.ok(readFileSync(path).equals(content));
  const before = readdirSync(dir).length;
  const refuse = (change: object, expected: object) =>
    assert.rejects(receiveToFile({ ...good, pieces: piecesOf(content), ...change }), expected);
  await refuse({ bytes: 8 }, { code: 'invalid_argument', field: 'bytes', message: /7 arrived, 8 were announced/ });
  await refuse({ bytes: 6 }, { code: 'invalid_argument', field: 'bytes', message: /more than the 6/ });
  await refuse({ bytes: 0 }, { code: 'invalid_argument', field: 'bytes' });
  await refuse({ bytes: 1.5 }, { code: 'invalid_argument', field: 'bytes' });
  await refuse({ limit: 6 }, { code: 'resource_exhausted', field: 'bytes', message: /7; accepted are at most 6/ });
  await refuse({ sha256: sha256Of(Buffer.from('other')) }, { code: 'invalid_argument', field: 'sha256' });
  await refuse({ sha256: '../../etc' }, { code: 'invalid_argument', field: 'sha256' });
  await refuse({ dir: join(dir, 'missing') }, { code: 'internal', message: /ENOENT/ });
  const broken = async function* () {
    yield content;
    throw new FarmError('unavailable', 'gone');
  };
  await refuse({ pieces: broken() }, { code: 'unavailable' });
  assert.equal(readdirSync(dir).length, before);
});

test('any cut into pieces gives the same file', async (t) => {
  const dir = temporaryDirectory(t);
  await fc.assert(
    fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 50 })), async (pieces) => {
      const whole = Buffer.concat([Buffer.of(1), ...pieces]);
      const promise = { dir, sha256: sha256Of(whole), bytes: whole.length, limit: 10_000 };
      const path = await receiveToFile({ ...promise, pieces: piecesOf(Buffer.of(1), ...pieces) });
      assert.ok(readFileSync(path).equals(whole));
    }),
    { numRuns: 40 },
  );
});

test('a full disk refuses the upload with resource_exhausted and leaves nothing', async (t) => {
  const dir = smallDisk(t, 256);
  if (dir === undefined) return;
  const content = randomBytes(1024 * 1024);
  const promise = { dir, sha256: sha256Of(content), bytes: content.length, limit: 10_000_000 };
  await assert.rejects(receiveToFile({ ...promise, pieces: piecesOf(content) }), {
    code: 'resource_exhausted',
    message: /ENOSPC/,
  });
  assert.deepEqual(readdirSync(dir), []);
});

test('an upload must begin with its header and go on with data of bounded size', async (t) => {
  const dir = temporaryDirectory(t);
  const server = await storing(t, dir);
  const client = server.farm();
  const upload = (...messages: UploadInputRequest[]) =>
    callUpload(client, client.uploadInput, async (sink) => {
      for (const message of messages) await sink.send(message);
    });
  const header = headerMessage({ sha256: sha256Of(Buffer.of(1)), bytes: 1 });
  await assert.rejects(upload(), { code: 'invalid_argument', field: 'header' });
  await assert.rejects(upload(dataMessage(Buffer.of(1))), { code: 'invalid_argument', field: 'header' });
  await assert.rejects(upload({}), { code: 'invalid_argument', field: 'header' });
  await assert.rejects(upload(header, header), { code: 'invalid_argument', field: 'data' });
  const large = dataMessage(Buffer.alloc(1024 * 1024 + 1));
  await assert.rejects(upload(header, large), { code: 'invalid_argument', field: 'data', message: /1048577 bytes/ });
  await assert.rejects(upload(header, dataMessage(Buffer.alloc(9 * 1024 * 1024))), { code: 'resource_exhausted' });
  assert.deepEqual(await upload(header, dataMessage(Buffer.of(1))), { sha256: sha256Of(Buffer.of(1)) });
  assert.equal(readdirSync(dir).length, 1);
});

test('an upload that is cancelled half-way leaves nothing', async (t) => {
  const dir = temporaryDirectory(t);
  const server = await storing(t, dir);
  const client = server.farm();
  const abort = new AbortController();
  const feed = async (sink: MessageSink<UploadInputRequest>) => {
    await sink.send(headerMessage({ sha256: 'a'.repeat(64), bytes: 10 }));
    await sink.send(dataMessage(Buffer.from('half')));
    while (readdirSync(dir).length === 0) await new Promise(setImmediate);
    abort.abort();
  };
  await assert.rejects(callUpload(client, client.uploadInput, feed, { signal: abort.signal }), { code: 'unavailable' });
  while (readdirSync(dir).length > 0) await new Promise(setImmediate);
});

test('a missing file is reported before anything is sent', async (t) => {
  const server = await storing(t, temporaryDirectory(t), '/nowhere/at-all');
  const call = server.farm().downloadResult({ jobId: 'x', offset: 0 });
  const [error] = await once(call, 'error').catch((e: unknown) => [e]);
  assert.equal(FarmError.from(error).code, 'not_found');
});
