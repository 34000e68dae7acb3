import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { Secret } from '@clipfarm/shared/secret';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { isSigned, SECRET, startReceiver, testEndpoint } from './test-notify.ts';
import { postNotice, signatureHeader } from './webhook-post.ts';

const NOW = Date.UTC(2030, 0, 1);
const delivery = { id: 'job-1/7', body: '{"version":1,"name":"né"}' };
const never = new AbortController().signal;

const post = (url: string, given: Parameters<typeof testEndpoint>[1] = {}, attemptMillis?: number) =>
  postNotice(testEndpoint(url, given), delivery, NOW, never, attemptMillis);

/** A server that speaks plain TCP, so that it can break every rule of HTTP. */
async function startRaw(t: TestContext, talk: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket.on('error', () => undefined));
    socket.once('data', () => talk(socket));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

test('a notice is posted with its name and a signature of exactly this body', async (t) => {
  const receiver = await startReceiver(t);
  const secrets = [new Secret('the-first-of-two-secrets'), new Secret('the-second-of-two-secrets')];
  assert.deepEqual(await post(receiver.url, { secrets }), { outcome: 'delivered' });
  const [got] = receiver.got;
  assert.ok(got);
  assert.equal(got.url, '/hook?key=canary');
  assert.equal(got.body, delivery.body);
  assert.equal(got.headers['content-type'], 'application/json');
  assert.equal(got.headers['clipfarm-delivery'], 'job-1/7');
  assert.equal(got.headers.connection, 'close');
  const signature = String(got.headers['clipfarm-signature']);
  assert.match(signature, /^t=1893456000,v1=[0-9a-f]{64},v1=[0-9a-f]{64}$/);
  for (const secret of secrets) assert.ok(isSigned(signature, got.body, secret.reveal()));
  assert.ok(!isSigned(signature, `${got.body} `, secrets[0]?.reveal() ?? ''));
  assert.ok(!isSigned(signature, got.body, SECRET));
});

const answers = [
  [200, { outcome: 'delivered' }],
  [299, { outcome: 'delivered' }],
  [301, { outcome: 'refused', reason: 'status 301: redirects are not followed' }],
  [307, { outcome: 'refused', reason: 'status 307: redirects are not followed' }],
  [400, { outcome: 'refused', reason: 'status 400' }],
  [410, { outcome: 'refused', reason: 'status 410' }],
  [500, { outcome: 'refused', reason: 'status 500' }],
  [429, { outcome: 'unreachable', reason: 'status 429', waitMillis: 0 }],
  [503, { outcome: 'unreachable', reason: 'status 503', waitMillis: 0 }],
] as const;

for (const [status, expected] of answers) {
  test(`status ${status} means ${expected.outcome}`, async (t) => {
    const elsewhere = await startReceiver(t);
    const receiver = await startReceiver(t, (_, response) =>
      response.writeHead(status, { location: elsewhere.url }).end('thank you'),
    );
    assert.deepEqual(await post(receiver.url), expected);
    assert.equal(elsewhere.got.length, 0, 'redirects are not followed');
  });
}

test('a busy endpoint says how long to wait, in seconds or with a date, and nonsense means nothing', async (t) => {
  const values = ['120', new Date(NOW + 90_000).toUTCString(), new Date(NOW - 5000).toUTCString(), 'soon', '-1'];
  const receiver = await startReceiver(t, (_, response, index) =>
    response.writeHead(503, { 'retry-after': values[index] ?? '' }).end(),
  );
  const waits: unknown[] = [];
  for (const _ of values) {
    const answer = await post(receiver.url);
    waits.push(answer.outcome === 'unreachable' ? answer.waitMillis : answer);
  }
  assert.deepEqual(waits.slice(0, 4), [120_000, 90_000, 0, 0]);
  assert.equal(waits[4], 0);
});

test('who takes too long, or cuts the connection, or talks nonsense, is unreachable', async (t) => {
  const silent = await startRaw(t, () => undefined);
  assert.deepEqual(await post(silent, {}, 50), { outcome: 'unreachable', reason: 'no answer within 0.05 s' });
  const gone = await startRaw(t, (socket) => socket.destroy());
  const rude = await startRaw(t, (socket) => socket.end('hello\r\n\r\n'));
  const switching = await startRaw(t, (socket) =>
    socket.write('HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n'),
  );
  const endless = await startRaw(t, (socket) => socket.write(`HTTP/1.1 200 OK\r\nx: ${'y'.repeat(100_000)}`));
  for (const url of [gone, rude, switching, endless]) assert.equal((await post(url)).outcome, 'unreachable', url);
  const nobody = await post(silent.replace(/:\d+/, ':1'));
  assert.match(nobody.outcome === 'unreachable' ? nobody.reason : '', /ECONNREFUSED/);
});

test('a body that never ends, in a flood or drop by drop, is cut, and the status counts', async (t) => {
  let sent = 0;
  const river = await startRaw(t, (socket) => {
    const part = Buffer.alloc(16 * 1024, 'x');
    socket.write('HTTP/1.1 200 OK\r\ncontent-length: 100000000000\r\n\r\n');
    const pour = () => {
      while (!socket.destroyed && socket.write(part)) sent += part.length;
    };
    socket.on('drain', pour);
    pour();
  });
  assert.equal((await post(river)).outcome, 'delivered');
  assert.ok(sent < 50_000_000, `${sent} bytes were taken`);
  const drops = await startRaw(t, (socket) => socket.write('HTTP/1.1 500 No\r\ncontent-length: 100\r\n\r\nx'));
  const ended = new AbortController();
  // Node publishes there that the head of an answer has come.
  const end = () => ended.abort();
  subscribe('http.client.response.finish', end);
  t.after(() => unsubscribe('http.client.response.finish', end));
  assert.deepEqual(await postNotice(testEndpoint(drops), delivery, NOW, ended.signal), {
    outcome: 'refused',
    reason: 'status 500',
  });
});

test('a post ends at once when it is called off', async (t) => {
  const called = new AbortController();
  const url = await startRaw(t, () => called.abort());
  const answer = await postNotice(testEndpoint(url), delivery, NOW, called.signal);
  assert.equal(answer.outcome, 'unreachable');
});

test('nothing on this machine is reached where that is not allowed, by name or by address', async (t) => {
  const receiver = await startReceiver(t);
  const { port } = new URL(receiver.url);
  const hosts = ['localhost', 'LOCALHOST', '127.0.0.1', '2130706433', '0', '[::1]', '[::ffff:127.0.0.1]'];
  for (const host of hosts) {
    const answer = await post(`http://${host}:${port}/`, { allowPrivate: false });
    assert.match(
      answer.outcome === 'unreachable' ? answer.reason : answer.outcome,
      /is loopback|is unspecified|is an IPv4 address in IPv6/,
      host,
    );
  }
  assert.equal(receiver.got.length, 0);
  assert.equal((await post(`http://localhost:${port}/`)).outcome, 'delivered', 'the name would have led there');
});

test('nothing is sent to an endpoint whose certificate nobody vouches for, or whose name leads inside', async (t) => {
  const dir = temporaryDirectory(t);
  const [key, cert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')];
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1'];
  execFileSync('openssl', ['req', '-x509', ...ec, '-keyout', key, '-out', cert, ...subject], { stdio: 'ignore' });
  let requests = 0;
  const server = createHttpsServer({ key: readFileSync(key), cert: readFileSync(cert) }, (_, response) => {
    requests += 1;
    response.end();
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.after(() => server.close());
  const url = `https://localhost:${(server.address() as AddressInfo).port}/`;
  const unknown = await post(url);
  assert.match(unknown.outcome === 'unreachable' ? unknown.reason : '', /self-signed/);
  const inside = await post(url, { allowPrivate: false });
  assert.match(inside.outcome === 'unreachable' ? inside.reason : '', /is loopback/);
  assert.equal(requests, 0);
});

test('the checks of the signature in the documentation accept what is signed, and nothing else', async (t) => {
  const docs = readFileSync(new URL('../../../docs/events.md', import.meta.url), 'utf8');
  const dir = temporaryDirectory(t);
  const [js, py] = [join(dir, 'check.mjs'), join(dir, 'check.py')];
  const block = (language: string) => new RegExp(`\`\`\`${language}\n([^]*?)\`\`\``).exec(docs)?.[1] ?? '';
  writeFileSync(js, block('js'));
  writeFileSync(py, block('python'));
  const header = (now: number, secrets = [SECRET]) =>
    signatureHeader(
      secrets.map((secret) => new Secret(secret)),
      delivery.body,
      now,
    );
  const cases = [
    [header(Date.now()), delivery.body, SECRET, true],
    [header(Date.now(), ['another-secret-of-ours', SECRET]), delivery.body, SECRET, true],
    [header(Date.now()), `${delivery.body} `, SECRET, false],
    [header(Date.now()), delivery.body, `${SECRET}.`, false],
    [header(Date.now() - 400_000), delivery.body, SECRET, false],
    [header(Date.now()).replace('t=1', 't=2'), delivery.body, SECRET, false],
    ['t=1', delivery.body, SECRET, false],
    ['', delivery.body, SECRET, false],
    ['v1=00', delivery.body, SECRET, false],
    [',,t=,v1=é,=', delivery.body, SECRET, false],
  ] as const;
  const { isFromClipfarm } = await import(pathToFileURL(js).href);
  for (const [given, body, secret, expected] of cases) {
    assert.equal(isFromClipfarm(given, Buffer.from(body), secret), expected, given);
  }
  const program = `import json, sys; sys.path.insert(0, sys.argv[1]); from check import is_from_clipfarm as check
print(json.dumps([check(h, b.encode(), s) for h, b, s, _ in json.loads(sys.argv[2])]))`;
  const python = await promisify(execFile)('python3', ['-B', '-c', program, dir, JSON.stringify(cases)]);
  assert.deepEqual(
    JSON.parse(python.stdout),
    cases.map(([, , , expected]) => expected),
  );
});
