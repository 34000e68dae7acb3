import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { startAdminServer } from './admin-server.ts';

/** Stands for the metrics of a service. */
const metrics = {
  contentType: 'text/plain; version=0.0.4; charset=utf-8',
  render: async () => 'clipfarm_clips_pending 0\n',
};

test('metrics, liveness and readiness are served, and nothing else', async (t) => {
  let reasons = ['starting', 'disk full'];
  const server = await startAdminServer({ listen: '127.0.0.1:0', metrics, readiness: () => reasons });
  t.after(() => server.close());
  const base = `http://${server.address}`;
  const get = async (path: string, method = 'GET') => {
    const response = await fetch(base + path, { method });
    return { status: response.status, headers: response.headers, body: await response.text() };
  };
  assert.deepEqual([(await get('/livez')).status, (await get('/livez')).body], [200, 'alive\n']);
  assert.deepEqual(
    [(await get('/readyz')).status, (await get('/readyz')).body],
    [503, 'not ready\n- starting\n- disk full\n'],
  );
  reasons = [];
  assert.deepEqual([(await get('/readyz?verbose')).status, (await get('/readyz')).body], [200, 'ready\n']);
  const page = await get('/metrics');
  assert.equal(page.status, 200);
  assert.match(page.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/);
  assert.equal(page.headers.get('x-content-type-options'), 'nosniff');
  assert.match(page.body, /^clipfarm_clips_pending 0$/m);
  const head = await get('/livez', 'HEAD');
  assert.deepEqual([head.status, head.body], [200, '']);
  for (const path of ['/', '/metrics/', '/debug', '/../etc/passwd', '/livez/../readyz/x', '/config', '//livez']) {
    assert.equal((await get(path)).status, 404, path);
  }
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
    const answer = await get('/metrics', method);
    assert.deepEqual([answer.status, answer.headers.get('allow')], [405, 'GET, HEAD'], method);
  }
});

test('a scrape that fails is answered with 500 and does not end the process', async (t) => {
  const broken = { contentType: 'text/plain', render: () => Promise.reject(new Error('collector failed')) };
  const server = await startAdminServer({ listen: '127.0.0.1:0', metrics: broken, readiness: () => [] });
  t.after(() => server.close());
  const response = await fetch(`http://${server.address}/metrics`);
  assert.deepEqual([response.status, await response.text()], [500, 'metrics failed: Error: collector failed\n']);
  const unready = () => {
    throw new Error('no idea');
  };
  const other = await startAdminServer({ listen: '127.0.0.1:0', metrics, readiness: unready });
  t.after(() => other.close());
  assert.equal((await fetch(`http://${other.address}/readyz`)).status, 500);
});

test('a port in use and an address that is none are reported by name', async (t) => {
  const server = await startAdminServer({ listen: '127.0.0.1:0', metrics, readiness: () => [] });
  t.after(() => server.close());
  await assert.rejects(startAdminServer({ listen: server.address, metrics, readiness: () => [] }), {
    code: 'failed_precondition',
    field: '--admin',
    message: `--admin: cannot listen on ${server.address}: the port is in use`,
    hint: /choose another port/,
  });
  await assert.rejects(startAdminServer({ listen: 'here', metrics, readiness: () => [] }), {
    code: 'invalid_argument',
    field: '--admin',
  });
});

test('nonsense on the wire is refused, and closing does not wait for idle connections', async () => {
  const server = await startAdminServer({ listen: '127.0.0.1:0', metrics, readiness: () => [] });
  const port = Number(server.address.split(':')[1]);
  const speak = (text: string) =>
    new Promise<string>((resolve) => {
      let answer = '';
      const socket = connect(port, '127.0.0.1', () => socket.write(text));
      socket.on('data', (piece) => {
        answer += piece;
      });
      socket.on('close', () => resolve(answer));
      socket.on('error', () => resolve(answer));
    });
  assert.match(await speak('hello\r\n\r\n'), /^HTTP\/1\.1 400/);
  assert.match(await speak(`GET /livez HTTP/1.1\r\nHost: x\r\nX: ${'y'.repeat(20_000)}\r\n\r\n`), /^HTTP\/1\.1 431/);
  const idle = speak('');
  await fetch(`http://${server.address}/livez`);
  await server.close();
  assert.equal(await idle, '');
});

test('whoever keeps connections open keeps no probe out, and is not kept', async (t) => {
  const server = await startAdminServer({ listen: '127.0.0.1:0', metrics, readiness: () => [] });
  t.after(() => server.close());
  const [host = '', port] = server.address.split(':');
  const idle = Array.from({ length: 150 }, () =>
    connect(Number(port), host)
      .on('error', () => {})
      .resume(),
  );
  const closed = idle.map((socket) => once(socket, 'close'));
  await Promise.all(idle.map((socket) => once(socket, 'connect')));
  for (const path of ['/livez', '/readyz', '/metrics']) {
    assert.equal((await fetch(`http://${server.address}${path}`)).status, 200, path);
  }
  await Promise.all(closed);
});
