import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { hashFile } from '@clipfarm/shared/hash-file';
import { Secret } from '@clipfarm/shared/secret';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { openS3Store } from './s3-store.ts';
import { PART_BYTES } from './s3-write.ts';

type Step = 'look up' | 'send' | 'send a part';

const EMPTY_LIST = '<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>';
const BEGUN =
  '<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>u</UploadId></InitiateMultipartUploadResult>';

function stepOf({ method = '', url = '' }: IncomingMessage): Step | null {
  if (method === 'HEAD') return 'look up';
  if (method === 'PUT') return url.includes('partNumber=') ? 'send a part' : 'send';
  return null;
}

function answer({ method = '', url = '' }: IncomingMessage, response: ServerResponse): void {
  if (method === 'HEAD') response.writeHead(404).end();
  else if (method === 'GET') response.writeHead(200, { 'content-type': 'application/xml' }).end(EMPTY_LIST);
  else if (method === 'POST' && url.includes('uploads')) response.writeHead(200).end(BEGUN);
  else response.writeHead(204).end();
}

/** A store in a bucket whose server leaves requests of one kind without an answer. */
async function deafStore(t: TestContext, deafTo: Step) {
  const count = { unanswered: 0 };
  const asked = Promise.withResolvers<void>();
  const server = createServer((request, response) => {
    request.resume();
    if (stepOf(request) !== deafTo) return answer(request, response);
    count.unanswered += 1;
    asked.resolve();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const dir = temporaryDirectory(t);
  const credentials = { accessKeyId: 'id', secretAccessKey: new Secret('key') };
  const place = { endpoint: `http://127.0.0.1:${port}`, region: 'r', bucket: 'b', credentials };
  const store = await openS3Store({ ...place, cacheDir: dir, cacheMaxBytes: 1024 });
  return { store, dir, asked: asked.promise, count };
}

test('a put that the server does not answer is given up when it is told to', async (t) => {
  const cases = [
    ['look up', 10, 1],
    ['send', 10, 1],
    ['send a part', PART_BYTES + 1, 2],
  ] as const;
  for (const [step, bytes, requests] of cases) {
    const { store, dir, asked, count } = await deafStore(t, step);
    const path = join(dir, 'video');
    await writeFile(path, Buffer.alloc(bytes));
    const abort = new AbortController();
    const put = store.putFile('videos/v', path, { sha256: await hashFile(path), bytes }, abort.signal);
    const refused = assert.rejects(put, step);
    await asked;
    abort.abort();
    await refused;
    assert.ok(count.unanswered <= requests, `${step}: it was asked for again`);
  }
});
