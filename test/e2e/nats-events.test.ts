import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createLogger } from '@clipfarm/shared/log';
import { connect, type NatsConnection } from 'nats';
import { submitJob } from '../../coordinator/src/core/test-jobs.ts';
import { type JobNotice, noticeOf } from '../../coordinator/src/notify/job-notices.ts';
import { NatsEvents, type NatsOutcome, subjectToken } from '../../coordinator/src/notify/nats-events.ts';
import { until } from '../harness/farm.ts';
import { type NatsServer, startNatsCluster } from '../harness/nats.ts';

async function startServer(t: TestContext): Promise<NatsServer> {
  const dir = mkdtempSync(join(tmpdir(), 'clipfarm-test-'));
  const cluster = await startNatsCluster({ size: 1, dir });
  t.after(async () => {
    await cluster.close();
    rmSync(dir, { recursive: true, force: true });
  });
  const [server] = cluster.servers;
  assert.ok(server);
  return server;
}

async function dial(t: TestContext, server: NatsServer): Promise<NatsConnection> {
  const connection = await connect({ servers: server.url, maxReconnectAttempts: -1, reconnectTimeWait: 50 });
  t.after(() => connection.close());
  return connection;
}

function noticesOf(owner: string, jobId: string): JobNotice {
  const { state, log } = submitJob({ owner, jobId });
  const notice = log[0] && noticeOf(state, log[0].event, 0);
  assert.ok(notice);
  return notice;
}

function publisher(connection: NatsConnection) {
  const counts: Record<NatsOutcome, number> = { published: 0, dropped: 0 };
  const count = (outcome: NatsOutcome) => {
    counts[outcome] += 1;
  };
  const log = createLogger({ name: 'test', level: 'silent' });
  return { events: new NatsEvents({ connection, prefix: 'farm', count, log }), counts };
}

test('who subscribes to a job, an owner or a kind of event hears exactly that', async (t) => {
  const server = await startServer(t);
  const subscriber = await dial(t, server);
  const heard = new Map<string, string[]>();
  const owners = ['ann', 'ann.b', '*', '>', 'a b\r\nPUB x 0\r\n', '', '日本'];
  const subjects = ['farm.jobs.ann.>', 'farm.jobs.*.job-1.*', 'farm.jobs.*.*.accepted', 'farm.>'];
  for (const subject of subjects) {
    const bodies: string[] = [];
    heard.set(subject, bodies);
    subscriber.subscribe(subject, { callback: (_, message) => void bodies.push(message.string()) });
  }
  await subscriber.flush();
  const connection = await dial(t, server);
  const { events } = publisher(connection);
  const notices = owners.map((owner, n) => noticesOf(owner, `job-${n}`));
  for (const notice of notices) events.tell(notice);
  await connection.flush();
  await subscriber.flush();
  const all = notices.map((notice) => JSON.stringify(notice));
  assert.deepEqual(heard.get('farm.>'), all);
  assert.deepEqual(heard.get('farm.jobs.*.*.accepted'), all);
  assert.deepEqual(heard.get('farm.jobs.ann.>'), [all[0]]);
  assert.deepEqual(heard.get('farm.jobs.*.job-1.*'), [all[1]]);
});

test('events go on after the server was away, and what could not be sent in between is bounded', async (t) => {
  const server = await startServer(t);
  const connection = await dial(t, server);
  const { events, counts } = publisher(connection);
  await server.pause();
  const notice = noticesOf('ann', 'job-1');
  for (let n = 0; n < 20_000; n++) events.tell(notice);
  assert.ok(counts.dropped > 15_000, `${counts.dropped} were dropped`);
  server.resume();
  await server.kill();
  for (let n = 0; n < 20_000; n++) events.tell(notice);
  await server.start();

  const subscriber = await dial(t, server);
  const heard: string[] = [];
  const token = subjectToken('bob');
  subscriber.subscribe(`farm.jobs.${token}.>`, { callback: (_, message) => void heard.push(message.string()) });
  await subscriber.flush();
  const later = noticesOf('bob', 'job-2');
  await until(() => {
    events.tell(later);
    return heard.length > 0;
  }, 'events come through again');
  assert.equal(heard[0], JSON.stringify(later));
});
