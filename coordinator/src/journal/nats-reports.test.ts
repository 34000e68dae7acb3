import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { ManualClock } from '@clipfarm/shared/clock';
import { createLogger } from '@clipfarm/shared/log';
import { Events, type NatsConnection, type Status } from 'nats';
import { CLOSINGS_SUBJECT, type NatsClient } from './nats-closings.ts';
import { NatsReports } from './nats-reports.ts';
import type { Standstill } from './standstill.ts';

/** What is known of a connection that broke. */
interface Known {
  /** In the server's words. */
  readonly reason?: string;
  readonly standstill?: Standstill;
}

/** Reports that write down what they log, level and what it is about, and which troubles begin. */
function newReports(known: Known = {}) {
  const lines: string[] = [];
  const write = (line: string) => {
    const { level, msg, reason } = JSON.parse(line) as { level: number; msg: string; reason?: string };
    lines.push(`${level} ${reason ?? msg}`);
  };
  const begun: string[] = [];
  const clock = new ManualClock();
  const log = createLogger({ name: 'test', destination: { write } });
  const connection = { info: { version: '2.10.27', server_id: 'N1', client_id: 7 } } as NatsConnection;
  const { reason, standstill = null } = known;
  const whyClosed = async ({ serverId, clientId }: NatsClient) =>
    reason === undefined ? null : `${serverId} ${clientId}: ${reason}`;
  const parts = { clock, log, began: (kind: string) => begun.push(kind), whyClosed, standstill: () => standstill };
  const reports = new NatsReports(parts, connection);
  const hear = (status: Status) => reports.hear(status, connection);
  return { reports, lines, begun, clock, hear, words: () => reports.troubles.map(({ words }) => words) };
}

const slow: Status = { type: Events.Error, data: 'Slow Consumer Detected' };

test('a slow reader is logged once while it goes on, and again after a pause; it keeps nothing from working', () => {
  const { reports, lines, begun, clock, hear } = newReports();
  for (let second = 0; second < 100; second++) {
    hear(slow);
    clock.advance(1000);
  }
  assert.deepEqual(lines, ['50 Slow Consumer Detected']);
  assert.deepEqual(reports.troubles, []);
  clock.advance(60_000);
  hear(slow);
  assert.equal(lines.length, 2);
  assert.deepEqual(begun, ['slow', 'slow'], 'as many as lines of the log');
});

test('what is not allowed is named by operation and subject, each by itself, for as long as it is tried', () => {
  const { reports, lines, begun, clock, hear, words } = newReports();
  for (const subject of ['a.b', 'c', 'a.b']) {
    const data = `Permissions Violation for Publish to "${subject}"`;
    hear({ type: Events.Error, data, permissionContext: { operation: 'publish', subject } });
  }
  const named = words().map((problem) => problem.replace('NATS reports: ', ''));
  assert.deepEqual(named.sort(), ['publish to a.b is not allowed', 'publish to c is not allowed']);
  assert.deepEqual(begun, ['permission', 'permission'], 'as many as lines of the log');
  assert.equal(lines.length, 2);
  clock.advance(60_001);
  assert.deepEqual(reports.troubles, []);
});

test('a lost connection is said once, with its time, until there is one again; then why, as its server knows it', async () => {
  const { reports, lines, begun, clock, hear } = newReports({ reason: 'Slow Consumer (Write Deadline)' });
  for (let attempt = 0; attempt < 5; attempt++) {
    hear({ type: Events.Disconnect, data: 'n1:4222' });
    clock.advance(1000);
  }
  const at = new Date(clock.now() - 5000).toISOString().slice(0, 19);
  const lost = { kind: 'connection', words: `no connection to NATS since ${at}Z` };
  assert.deepEqual(reports.troubles, [lost], 'the rest can wait');
  assert.deepEqual(begun, ['connection']);
  hear({ type: Events.Reconnect, data: 'n2:4222' });
  assert.equal(lines.length, 2);
  assert.match(lines[1] ?? '', /^30 connected to NATS again/);
  await setImmediate();
  assert.equal(lines[2], '40 N1 7: Slow Consumer (Write Deadline)');
  assert.deepEqual(begun, ['connection', 'slow']);
});

test('where no server says why, a reader that stood still while NATS sent to it was too slow, and one to which nothing was sent was not', async () => {
  const broken = async (known: Known) => {
    const { lines, begun, hear } = newReports(known);
    hear({ type: Events.Disconnect, data: 'n1:4222' });
    hear({ type: Events.Reconnect, data: 'n1:4222' });
    await setImmediate();
    return { last: lines.at(-1), begun };
  };
  const waited = { millis: 12_000, bytes: 2_000_000 };
  const slowly = await broken({ standstill: waited });
  assert.match(slowly.last ?? '', /^40 this process had stood still while NATS sent to it/);
  assert.deepEqual(slowly.begun, ['connection', 'slow']);
  const idle = await broken({ standstill: { millis: 12_000, bytes: 300 } });
  assert.equal(idle.last, '40 this process had stood still before the connection to NATS was lost');
  assert.deepEqual(idle.begun, ['connection']);
  const told = await broken({ standstill: waited, reason: 'Server Shutdown' });
  assert.equal(told.last, '40 N1 7: Server Shutdown');
  assert.deepEqual(told.begun, ['connection'], 'what a server says goes first');
  const nothing = await broken({});
  assert.match(nothing.last ?? '', /^30 connected to NATS again/);
  assert.deepEqual(nothing.begun, ['connection']);
});

test('that this user may not ask why a connection was closed is no trouble', () => {
  const { reports, lines, begun, hear } = newReports();
  const permissionContext = { operation: 'publish', subject: CLOSINGS_SUBJECT } as const;
  hear({ type: Events.Error, data: `Permissions Violation for Publish to "${CLOSINGS_SUBJECT}"`, permissionContext });
  assert.deepEqual([lines, begun, reports.troubles], [[], [], []]);
});

test('errors that are ever new do not fill the memory', () => {
  const { reports, hear } = newReports();
  for (let n = 0; n < 1000; n++) {
    const permissionContext = { operation: 'publish', subject: `s.${n}` } as const;
    hear({ type: Events.Error, data: 'Permissions Violation', permissionContext });
  }
  assert.equal(reports.troubles.length, 100);
});
