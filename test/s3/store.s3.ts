import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { after, before, beforeEach, type TestContext, test } from 'node:test';
import { inspect } from 'node:util';
import { ManualClock } from '@clipfarm/shared/clock';
import { createLogger } from '@clipfarm/shared/log';
import { Secret } from '@clipfarm/shared/secret';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { artifactStoreContract, putBytes } from '../../coordinator/src/artifacts/artifact-store-contract.ts';
import { openS3Store, type S3StoreOptions } from '../../coordinator/src/artifacts/s3-store.ts';
import { putPresigned } from '../../node-agent/src/presigned-put.ts';
import type { ProxiedRequest } from '../harness/fault-proxy.ts';
import { S3Server } from '../harness/s3.ts';

let server: S3Server;
before(async () => {
  server = await S3Server.start();
});
after(() => server[Symbol.asyncDispose]());
beforeEach(() => server.proxy.reset());

/** Options for a bucket, and a cache directory, of their own. */
function options(t: TestContext, fields: Partial<S3StoreOptions> = {}): S3StoreOptions {
  const { endpoint, region, accessKeyId } = server;
  const credentials = { accessKeyId, secretAccessKey: new Secret(server.secretAccessKey) };
  const cacheDir = join(temporaryDirectory(t), 'cache');
  return { endpoint, region, bucket: server.createBucket(), credentials, cacheDir, cacheMaxBytes: 1e9, ...fields };
}

const contentOf = (data: Uint8Array) => ({
  sha256: createHash('sha256').update(data).digest('hex'),
  bytes: data.length,
});

/** Requests for an object; those that list a bucket are GETs too. */
const gets = () => server.proxy.requests.filter(({ method, path }) => method === 'GET' && !path.endsWith('/'));

/** A fault for the first `times` requests of a method. */
function strike<F>(method: string, times: number, fault: F): (request: ProxiedRequest) => F | null {
  let left = times;
  return (request) => (request.method === method && left-- > 0 ? fault : null);
}

artifactStoreContract('A bucket', async (t) => {
  const opened = options(t, { prefix: 'farm/a' });
  return { open: () => openS3Store(opened) };
});

test('a prefix keeps a store apart from whatever else is in the bucket', async (t) => {
  const mine = options(t, { prefix: 'farm' });
  const store = await openS3Store(mine);
  const { prefix: _, ...whole } = mine;
  const all = await openS3Store({ ...whole, cacheDir: `${mine.cacheDir}-2` });
  await putBytes(store, 'jobs/a', Buffer.from('mine'));
  await putBytes(all, 'farmer/b', Buffer.from('theirs'));
  assert.deepEqual(
    (await store.list('')).map(({ key, bytes }) => [key, bytes]),
    [['jobs/a', 4]],
  );
  assert.deepEqual(
    (await all.list('')).map(({ key }) => key),
    ['farm/jobs/a', 'farmer/b'],
  );
});

test('a file that was put needs no download, one of another coordinator needs one, also for many that ask at once', async (t) => {
  const mine = options(t);
  const store = await openS3Store(mine);
  const data = randomBytes(3_000_000);
  await putBytes(store, 'jobs/a', data);
  assert.ok(readFileSync(await store.localFile('jobs/a')).equals(data));
  assert.deepEqual(gets(), []);
  const other = await openS3Store({ ...mine, cacheDir: `${mine.cacheDir}-2` });
  const paths = await Promise.all(Array.from({ length: 8 }, () => other.localFile('jobs/a')));
  assert.equal(new Set(paths).size, 1);
  assert.ok(readFileSync(paths[0] ?? '').equals(data));
  assert.equal(gets().length, 1);
  const restarted = await openS3Store({ ...mine, cacheDir: `${mine.cacheDir}-2` });
  assert.equal(await restarted.localFile('jobs/a'), paths[0]);
  assert.equal(gets().length, 1, 'the copy outlives the process');
  await restarted.remove('jobs/a');
  await assert.rejects(restarted.localFile('jobs/a'), { code: 'not_found' });
});

test('local copies beyond the limit make room, the least recently used first', async (t) => {
  const mine = options(t, { cacheMaxBytes: 25_000 });
  const store = await openS3Store(mine);
  for (const key of ['a', 'b', 'c', 'd']) await putBytes(store, key, randomBytes(10_000));
  const restarted = await openS3Store(mine);
  assert.equal(readdirSync(join(mine.cacheDir, 'files')).length, 2);
  await restarted.localFile('d');
  assert.deepEqual(gets(), []);
  await restarted.localFile('a');
  assert.equal(gets().length, 1);
});

test('a file of 40 MB goes up in parts and comes back whole', async (t) => {
  const mine = options(t);
  const store = await openS3Store(mine);
  const data = randomBytes(40_000_000);
  await putBytes(store, 'jobs/a/video.mp4', data);
  const parts = server.proxy.requests.flatMap(({ method, query }) =>
    method === 'PUT' ? [query.get('partNumber')] : [],
  );
  assert.deepEqual(parts.sort(), ['1', '2', '3']);
  const other = await openS3Store({ ...mine, cacheDir: `${mine.cacheDir}-2` });
  assert.ok(readFileSync(await other.localFile('jobs/a/video.mp4')).equals(data));
  assert.deepEqual(await other.stat('jobs/a/video.mp4'), { bytes: 40_000_000 });
  await putBytes(other, 'jobs/a/video.mp4', data);
  await assert.rejects(putBytes(other, 'jobs/a/video.mp4', randomBytes(20_000_000)), { code: 'conflict' });
});

test('a file that is not the announced content is not stored, in one request or in parts', async (t) => {
  const store = await openS3Store(options(t));
  for (const bytes of [1000, 17_000_000]) {
    const path = join(store.tempDir(), 'wrong');
    writeFileSync(path, randomBytes(bytes));
    const announced = contentOf(randomBytes(bytes));
    await assert.rejects(store.putFile('k', path, announced), { code: 'invalid_argument', field: 'sha256' });
    assert.equal(await store.stat('k'), null);
  }
  const aborted = server.proxy.requests.filter(({ method, query }) => method === 'DELETE' && query.has('uploadId'));
  assert.equal(aborted.length, 1, 'the upload in parts was given up');
});

test('content that changed behind the store is noticed and not kept', async (t) => {
  const mine = options(t);
  const store = await openS3Store(mine);
  await putBytes(store, 'jobs/a', Buffer.from('content'));
  const other = await openS3Store({ ...mine, cacheDir: `${mine.cacheDir}-2` });
  writeFileSync(server.objectPath(mine.bucket, 'jobs/a'), 'CONTENT');
  await assert.rejects(other.localFile('jobs/a'), { code: 'invalid_argument', field: 'sha256' });
  assert.deepEqual(readdirSync(join(`${mine.cacheDir}-2`, 'files')), []);
  mkdirSync(server.objectPath(mine.bucket, 'foreign'));
  writeFileSync(server.objectPath(mine.bucket, 'foreign/b'), 'x');
  await assert.rejects(other.localFile('foreign/b'), { code: 'invalid_argument', message: /no SHA-256/ });
});

test('more objects than fit into one answer are all listed and deleted', async (t) => {
  const mine = options(t);
  const store = await openS3Store(mine);
  mkdirSync(server.objectPath(mine.bucket, 'jobs/a'), { recursive: true });
  const keys = Array.from({ length: 1005 }, (_, i) => `jobs/a/${String(i).padStart(6, '0')}`);
  for (const key of keys) writeFileSync(server.objectPath(mine.bucket, key), 'x');
  await putBytes(store, 'jobs/b', Buffer.from('kept'));
  assert.deepEqual(
    (await store.list('jobs/a')).map(({ key }) => key),
    keys,
  );
  await store.removePrefix('jobs/a');
  assert.deepEqual(
    (await store.list('')).map(({ key, bytes }) => [key, bytes]),
    [['jobs/b', 4]],
  );
});

test('a server that fails, or hangs up, a few times is asked again', async (t) => {
  const mine = options(t);
  const store = await openS3Store(mine);
  const html = '<html><body>Bad gateway</body></html>';
  for (const fault of [
    { kind: 'answer', status: 503 },
    { kind: 'answer', status: 502, body: html },
    { kind: 'drop' },
  ] as const) {
    for (const method of ['PUT', 'GET', 'HEAD', 'DELETE']) {
      server.proxy.fault = strike(method, 2, fault);
      await putBytes(store, 'k', Buffer.from('content'));
      assert.equal(String(await buffer(store.open('k'))), 'content');
      await store.remove('k');
      assert.equal(await store.stat('k'), null);
    }
  }
});

test('a server that keeps failing, or is not there, is unavailable', async (t) => {
  const mine = options(t);
  const store = await openS3Store(mine);
  server.proxy.fault = () => ({ kind: 'answer', status: 503 });
  await assert.rejects(store.stat('k'), { code: 'unavailable', message: /look up k: .*503/ });
  assert.ok(server.proxy.requests.length > 3, 'it was asked several times');
  server.proxy.reset();
  const nowhere = openS3Store({ ...mine, endpoint: 'http://127.0.0.1:1' });
  await assert.rejects(nowhere, { code: 'unavailable', message: /open bucket .*ECONNREFUSED/ });
});

test('a put whose answers are lost counts as stored, however many of them', async (t) => {
  const store = await openS3Store(options(t));
  for (const lost of [1, 100]) {
    for (const [bytes, method] of [
      [1000, 'PUT'],
      // The request that joins the parts.
      [17_000_000, 'POST'],
    ] as const) {
      const data = randomBytes(bytes);
      const lose = strike(method, lost, { kind: 'lose' } as const);
      server.proxy.fault = (request) => (method === 'PUT' || request.query.has('uploadId') ? lose(request) : null);
      const key = `k${bytes}-${lost}`;
      await putBytes(store, key, data);
      assert.deepEqual(await store.stat(key), { bytes });
    }
  }
});

test('an upload whose parts are joined counts as stored where the server has forgotten it since', async (t) => {
  const store = await openS3Store(options(t));
  const lose = strike('POST', 1, { kind: 'lose' } as const);
  const body = '<Error><Code>NoSuchUpload</Code><Message>no</Message></Error>';
  server.proxy.fault = (request) =>
    request.method === 'POST' && request.query.has('uploadId')
      ? (lose(request) ?? { kind: 'answer', status: 404, body })
      : null;
  await putBytes(store, 'k', randomBytes(17_000_000));
  assert.deepEqual(await store.stat('k'), { bytes: 17_000_000 });
});

test('a read that breaks off goes on where it was, and is given up when nothing more comes', async (t) => {
  const mine = options(t);
  const store = await openS3Store(mine);
  const data = randomBytes(2_000_000);
  await putBytes(store, 'k', data);
  server.proxy.fault = strike('GET', 3, { kind: 'cut', afterBytes: 300_000 } as const);
  assert.ok((await buffer(store.open('k', { start: 10, end: 1_900_000 }))).equals(data.subarray(10, 1_900_000)));
  assert.equal(gets().length, 4);
  const other = await openS3Store({ ...mine, cacheDir: `${mine.cacheDir}-2` });
  server.proxy.fault = strike('GET', 3, { kind: 'cut', afterBytes: 300_000 } as const);
  assert.ok(readFileSync(await other.localFile('k')).equals(data));
  server.proxy.fault = strike('GET', 100, { kind: 'cut', afterBytes: 0 } as const);
  await assert.rejects(buffer(store.open('k')), { code: 'unavailable' });
});

test('a missing bucket is named, when the store is opened and when it goes later', async (t) => {
  const missing = openS3Store({ ...options(t), bucket: 'nowhere' });
  await assert.rejects(missing, { code: 'failed_precondition', message: /no bucket nowhere/ });
  const mine = options(t);
  const store = await openS3Store(mine);
  rmSync(server.objectPath(mine.bucket, ''), { recursive: true });
  await assert.rejects(store.localFile('k'), { code: 'failed_precondition', message: /no bucket bucket-/ });
});

test('a signed upload stores exactly what it was signed for', async (t) => {
  const mine = options(t, { prefix: 'farm' });
  const store = await openS3Store(mine);
  const dir = temporaryDirectory(t);
  const data = randomBytes(300_000);
  const key = 'jobs/a/chunks/000001-x.mp4';
  const { signal } = new AbortController();
  const send = async (content: Uint8Array, change: Readonly<Record<string, string>> = {}) => {
    const path = join(dir, 'content');
    writeFileSync(path, content);
    const put = await store.presignPut(key, contentOf(data));
    assert.ok(put);
    assert.equal(put.validSeconds, 900);
    await putPresigned({ url: put.url, headers: { ...put.headers, ...change } }, path, signal);
  };
  const other = randomBytes(300_000);
  const checksum = createHash('sha256').update(other).digest('base64');
  await assert.rejects(send(other), { code: 'invalid_argument', field: 'sha256' });
  await assert.rejects(send(other, { 'x-amz-checksum-sha256': checksum }), { message: /403 SignatureDoesNotMatch/ });
  await assert.rejects(send(randomBytes(400_000), { 'content-length': '400000' }), { code: 'unavailable' });
  await assert.rejects(send(data, { 'x-amz-meta-sha256': '00' }), { message: /403 SignatureDoesNotMatch/ });
  assert.equal(await store.stat(key), null);
  await send(data);
  await send(data);
  assert.deepEqual(await store.stat(key), { bytes: 300_000 });
  assert.ok(readFileSync(await store.localFile(key)).equals(data), 'checked against what was signed');
  const temp = join(store.tempDir(), 'same');
  writeFileSync(temp, data);
  await store.putFile(key, temp, contentOf(data));
});

test('a signed upload stops working when its time is over', async (t) => {
  const anHourAgo = new ManualClock(Date.now() - 3_600_000);
  const store = await openS3Store(options(t, { clock: anHourAgo, directUploadSeconds: 600 }));
  const path = join(store.tempDir(), 'content');
  writeFileSync(path, 'content');
  const put = await store.presignPut('k', contentOf(Buffer.from('content')));
  assert.ok(put);
  await assert.rejects(putPresigned(put, path, new AbortController().signal), { message: /403 AccessDenied/ });
  assert.equal(await store.stat('k'), null);
});

test('no upload is signed when that is switched off', async (t) => {
  const store = await openS3Store(options(t, { directUploads: false }));
  assert.equal(await store.presignPut('k', contentOf(Buffer.from('x'))), null);
});

test('credentials are in no error, no log line and no dump of the store', async (t) => {
  const good = options(t);
  const store = await openS3Store(good);
  const wrong = new Secret(`${server.secretAccessKey}x`);
  const credentials = { accessKeyId: server.accessKeyId, secretAccessKey: wrong, sessionToken: new Secret('t0ken') };
  const errors = [await openS3Store({ ...good, credentials }).catch((error: unknown) => error)];
  server.proxy.fault = () => ({
    kind: 'answer',
    status: 403,
    body: `<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message><AWSAccessKeyId>${server.accessKeyId}</AWSAccessKeyId></Error>`,
  });
  errors.push(await store.localFile('k').catch((error: unknown) => error));
  errors.push(await buffer(store.open('k')).catch((error: unknown) => error));
  errors.push(await putBytes(store, 'k', Buffer.from('x')).catch((error: unknown) => error));
  const lines: string[] = [];
  const log = createLogger({ name: 'test', destination: { write: (line) => void lines.push(line) } });
  for (const error of errors) {
    assert.ok(error instanceof Error && 'code' in error && error.code === 'failed_precondition', inspect(error));
    assert.match(inspect(error), /Check the credentials/);
    log.error({ err: error, options: { ...good, credentials }, store }, 'failed');
  }
  const printed = [...lines, ...errors.map((error) => inspect(error, { depth: 20, showHidden: true })), inspect(store)];
  const text = printed.join('\n').replaceAll(`"accessKeyId":"${server.accessKeyId}"`, '');
  for (const secret of [server.secretAccessKey, server.accessKeyId, 't0ken', 'X-Amz-Signature', 'AWS4']) {
    const at = text.indexOf(secret);
    assert.equal(at, -1, `"${text.slice(at - 100, at + 50)}" holds ${secret}`);
  }
});
