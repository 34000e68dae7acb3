import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { FarmError } from '../errors.ts';
import { temporaryDirectory } from '../testing/temporary.ts';
import { callUnary } from './client-call.ts';
import { clientChannel, readToken, serverCredentials } from './credentials.ts';
import { makeCertificates, startServer } from './rpc-harness.ts';

const stat = { sha256: 'ab' };
const methods = (wrap: Parameters<Parameters<typeof startServer>[1]>[0]) => ({
  statInput: wrap.unary(() => ({ stored: true })),
});

function refused(field: string, pattern: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof FarmError, String(error));
    assert.equal(error.code, 'invalid_argument');
    assert.equal(error.field, field);
    assert.match(error.message, pattern);
    return true;
  };
}

test('a client refuses plaintext to another machine unless told that it may be insecure', () => {
  assert.throws(
    () => clientChannel({ address: 'farm.example:7400' }),
    refused('--tls-ca', /farm\.example:7400.*this machine/),
  );
  assert.throws(() => clientChannel({ address: '0.0.0.0:7400' }), refused('--tls-ca', /plaintext/));
  assert.equal(clientChannel({ address: 'farm.example:7400', insecure: true }).address, 'farm.example:7400');
  for (const address of ['localhost:1', '127.0.0.9:1', '[::1]:1']) assert.ok(clientChannel({ address }).credentials);
});

test('a server that others can reach must have TLS and authentication, and is told everything that is missing', () => {
  const listen = '0.0.0.0:0';
  assert.throws(() => serverCredentials({ listen }), refused('--listen', /TLS.* and authentication/));
  assert.throws(
    () => serverCredentials({ listen, tokenPath: '/x' }),
    refused('--listen', /lacks TLS \(--tls-cert and --tls-key\)$/),
  );
  assert.equal(serverCredentials({ listen, insecure: true }).token, undefined);
  assert.equal(serverCredentials({ listen: '127.0.0.1:0' }).address, '127.0.0.1:0');
});

test('certificates that cannot work are refused at start, each by its name', (t) => {
  const dir = temporaryDirectory(t);
  const pem = makeCertificates(dir);
  const garbage = join(dir, 'garbage.pem');
  writeFileSync(garbage, '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n');
  const text = join(dir, 'text.pem');
  writeFileSync(text, 'hello');
  const listen = '127.0.0.1:0';
  const server = (certPath: string, keyPath: string) => () => serverCredentials({ listen, certPath, keyPath });
  assert.throws(server(text, pem.serverKey), refused('--tls-cert', /no PEM/));
  assert.throws(server(garbage, pem.serverKey), refused('--tls-cert', /garbage\.pem/));
  assert.throws(server(pem.serverCert, pem.clientKey), refused('--tls-cert', /do not belong together/));
  assert.throws(server(join(dir, 'missing.pem'), pem.serverKey), refused('--tls-cert', /cannot read/));
  assert.throws(() => serverCredentials({ listen, certPath: pem.serverCert }), refused('--tls-key', /go together/));
  assert.throws(
    () => serverCredentials({ listen, clientCaPath: pem.ca }),
    refused('--tls-client-ca', /without --tls-cert and --tls-key/),
  );
  const address = '127.0.0.1:1';
  assert.throws(() => clientChannel({ address, caPath: garbage }), refused('--tls-ca', /no usable certificate/));
  assert.throws(() => clientChannel({ address, certPath: pem.clientCert }), refused('--tls-cert', /without --tls-ca/));
  assert.throws(() => clientChannel({ address, keyPath: pem.clientKey }), refused('--tls-key', /without --tls-ca/));
});

test('a token file must hold one printable line', (t) => {
  const path = join(temporaryDirectory(t), 'token');
  const withContent = (content: string) => {
    writeFileSync(path, content);
    return () => readToken(path);
  };
  assert.equal(withContent('  s3cret-token\n')().reveal(), 's3cret-token');
  for (const content of ['', '\n', 'two words', 'two\nlines', 'ünicode']) {
    assert.throws(withContent(content), refused('--token-file', /one line/));
  }
  assert.throws(withContent('x'.repeat(5000)), refused('--token-file', /5000 bytes; accepted: at most 4096/));
});

test('over TLS with a token, only a client with the right authority and token gets through', async (t) => {
  const dir = temporaryDirectory(t);
  const pem = makeCertificates(dir);
  const [tokenPath, wrongPath] = [join(dir, 'token'), join(dir, 'wrong')];
  writeFileSync(tokenPath, 'right-token\n');
  writeFileSync(wrongPath, 'wrong-token\n');
  const server = await startServer(t, methods, { certPath: pem.serverCert, keyPath: pem.serverKey, tokenPath });
  const statWith = (channel: object) => {
    const client = server.farm(channel);
    return callUnary(client, client.statInput, stat);
  };
  assert.deepEqual(await statWith({ caPath: pem.ca, tokenPath }), { stored: true });
  await assert.rejects(statWith({ caPath: pem.ca }), { code: 'unauthenticated', field: 'token' });
  await assert.rejects(statWith({ caPath: pem.ca, tokenPath: wrongPath }), { code: 'unauthenticated' });
  await assert.rejects(statWith({ tokenPath }), { code: 'unavailable' }, 'plaintext to a TLS port');
  await assert.rejects(statWith({ caPath: pem.serverCert, tokenPath }), { code: 'unavailable' }, 'another authority');
});

test('with mutual TLS a client without a certificate does not connect', async (t) => {
  const pem = makeCertificates(temporaryDirectory(t));
  const access = { certPath: pem.serverCert, keyPath: pem.serverKey, clientCaPath: pem.ca };
  const server = await startServer(t, methods, access);
  const known = server.farm({ caPath: pem.ca, certPath: pem.clientCert, keyPath: pem.clientKey });
  assert.deepEqual(await callUnary(known, known.statInput, stat), { stored: true });
  const unknown = server.farm({ caPath: pem.ca });
  await assert.rejects(callUnary(unknown, unknown.statInput, stat), { code: 'unavailable' });
});

test('over loopback plaintext the token goes along and is required for every method', async (t) => {
  const tokenPath = join(temporaryDirectory(t), 'token');
  writeFileSync(tokenPath, 'right-token\n');
  const server = await startServer(t, methods, { tokenPath });
  const known = server.farm({ tokenPath });
  assert.deepEqual(await callUnary(known, known.statInput, stat), { stored: true });
  const unknown = server.farm();
  await assert.rejects(callUnary(unknown, unknown.statInput, stat), {
    code: 'unauthenticated',
    message: /requires one/,
  });
  const stream = server.agent().attach();
  const [error] = await new Promise<[Error]>((resolve) => stream.on('error', (e) => resolve([e])));
  assert.match(error.message, /requires one/);
});

test('a server whose certificate is for another name is refused, dialled by name or by address', async (t) => {
  const pem = makeCertificates(temporaryDirectory(t));
  const other = await startServer(t, methods, { certPath: pem.clientCert, keyPath: pem.clientKey });
  const right = await startServer(t, methods, { certPath: pem.serverCert, keyPath: pem.serverKey });
  for (const host of ['127.0.0.1', 'localhost']) {
    const deceived = other.farm({ address: `${host}:${other.port}`, caPath: pem.ca });
    await assert.rejects(callUnary(deceived, deceived.statInput, stat), {
      code: 'unavailable',
      message: /altname|Altname/,
    });
    const sure = right.farm({ address: `${host}:${right.port}`, caPath: pem.ca });
    assert.deepEqual(await callUnary(sure, sure.statInput, stat), { stored: true });
  }
});
