import assert from 'node:assert/strict';
import { createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { makeCertificates, startServer } from '@clipfarm/shared/rpc/rpc-harness';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { connect } from './connection.ts';

async function ask(t: TestContext, address: string, caPath?: string): Promise<unknown> {
  const signal = new AbortController().signal;
  const none = { tokenPath: undefined, certPath: undefined, keyPath: undefined };
  const farm = connect({ ...none, address, caPath, insecure: true, signal });
  t.after(farm.close);
  return farm.call(farm.client.listNodes, {});
}

test('a certificate that is not trusted is told as such, with the flag that helps', async (t) => {
  const pem = makeCertificates(temporaryDirectory(t));
  const other = makeCertificates(temporaryDirectory(t));
  const access = { certPath: pem.serverCert, keyPath: pem.serverKey };
  const { port } = await startServer(t, (wrap) => ({ listNodes: wrap.unary(() => ({ nodes: [] })) }), access);
  assert.deepEqual(await ask(t, `127.0.0.1:${port}`, pem.ca), { nodes: [] });
  const untrusted = { code: 'unauthenticated', message: /^no trust between .*certificate/, hint: /--tls-ca/ };
  await assert.rejects(ask(t, `127.0.0.1:${port}`, other.ca), untrusted);
  await assert.rejects(ask(t, `127.0.0.1:${port}`), { code: 'unavailable', hint: /with TLS needs --tls-ca/ });
});

test('an address where something else answers is told as such', async (t) => {
  const server = createServer((_request, response) => {
    response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  await assert.rejects(ask(t, `127.0.0.1:${port}`), {
    code: 'unavailable',
    message: /no coordinator answers at .*: Received HTTP status code 404/,
    hint: /Another service or a proxy/,
  });
});
