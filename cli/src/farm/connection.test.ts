import assert from 'node:assert/strict';
import { createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { FarmError } from '@clipfarm/shared/errors';
import { makeCertificates, startServer } from '@clipfarm/shared/rpc/rpc-harness';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { connect, isSilence } from './connection.ts';

async function ask(t: TestContext, address: string, caPath?: string): Promise<unknown> {
  const signal = new AbortController().signal;
  const none = { tokenPath: undefined, certPath: undefined, keyPath: undefined };
  const farm = connect({ ...none, address, caPath, insecure: true, signal });
  t.after(farm.close);
  return farm.call(farm.client.listNodes, { knowsLeft: true, pageToken: '' });
}

test('a certificate that is not trusted is told as such, with the flag that helps', async (t) => {
  const pem = makeCertificates(temporaryDirectory(t));
  const other = makeCertificates(temporaryDirectory(t));
  const access = { certPath: pem.serverCert, keyPath: pem.serverKey };
  const { port } = await startServer(
    t,
    (wrap) => ({ listNodes: wrap.unary(() => ({ nodes: [], nextPageToken: '' })) }),
    access,
  );
  assert.deepEqual(await ask(t, `127.0.0.1:${port}`, pem.ca), { nodes: [], nextPageToken: '' });
  const untrusted = { code: 'unauthenticated', message: /^no trust between .*certificate/, hint: /--tls-ca/ };
  await assert.rejects(ask(t, `127.0.0.1:${port}`, other.ca), untrusted);
  await assert.rejects(ask(t, `127.0.0.1:${port}`), { code: 'unavailable', hint: /with TLS needs --tls-ca/ });
});

/** Address of a server that speaks HTTP/2, but no gRPC. */
async function webServer(t: TestContext): Promise<string> {
  const server = createServer((_request, response) => {
    response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test('an address where something else answers is told as such', async (t) => {
  await assert.rejects(ask(t, await webServer(t)), {
    code: 'unavailable',
    message: /no coordinator answers at .*: Received HTTP status code 404/,
    hint: /Another service or a proxy/,
  });
});

test('where nobody answers, every address is told with what happened there', async (t) => {
  const [web, closed, unknown] = [await webServer(t), '127.0.0.1:1', 'nowhere.invalid:7400'];
  const error = await ask(t, `${web},${closed},${unknown}`).catch(FarmError.from);
  assert.ok(error instanceof FarmError);
  assert.equal(error.code, 'unavailable');
  const [first, second, third, ...more] = error.message.split('; nor at ');
  assert.equal(first, `no coordinator answers at ${web}: Received HTTP status code 404`);
  assert.equal(second, `${closed}: connect ECONNREFUSED ${closed}`);
  assert.match(third ?? '', /^nowhere\.invalid:7400: Name resolution failed/);
  assert.deepEqual(more, []);
  assert.match(error.hint ?? '', /Another service or a proxy.*clipfarm up.*Check --coordinator/);
  assert.ok(isSilence(error));
});

test('a coordinator is found behind an address where something else answers', async (t) => {
  const { port } = await startServer(t, (wrap) => ({
    listNodes: wrap.unary(() => ({ nodes: [], nextPageToken: '' })),
  }));
  assert.deepEqual(await ask(t, `${await webServer(t)},127.0.0.1:${port}`), { nodes: [], nextPageToken: '' });
});
