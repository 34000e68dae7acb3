import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { createLogger } from '@clipfarm/shared/log';
import fc from 'fast-check';
import { submitJob } from '../core/test-jobs.ts';
import { type JobNotice, noticeOf } from './job-notices.ts';
import { NatsEvents, type NatsOutcome, subjectOf, subjectToken } from './nats-events.ts';

function acceptedNotice(owner = 'ann'): JobNotice {
  const { state, log } = submitJob({ owner, jobId: 'job-1' });
  const notice = log[0] && noticeOf(state, log[0].event, 0);
  assert.ok(notice);
  return notice;
}

test('a subject names owner, job and what happened', () => {
  assert.equal(subjectOf('clipfarm', acceptedNotice()), 'clipfarm.jobs.ann.job-1.accepted');
  assert.equal(subjectOf('farm-2', acceptedNotice('Ann B. *>')), 'farm-2.jobs.Ann=20B=2e=20=2a=3e.job-1.accepted');
});

test('any text becomes one token that NATS takes, and different texts become different ones', () => {
  const text = fc.oneof(fc.string({ unit: 'grapheme', maxLength: 100 }), fc.string({ unit: 'binary', maxLength: 300 }));
  fc.assert(
    fc.property(text, text, (one, other) => {
      const token = subjectToken(one);
      assert.match(token, /^[A-Za-z0-9_=-]{1,128}$/);
      if (one.toWellFormed() !== other.toWellFormed()) assert.notEqual(token, subjectToken(other));
    }),
  );
  assert.equal(subjectToken(''), '=');
  assert.equal(subjectToken('=2e'), '=3d2e');
});

function stage(connection: { publish?: () => void; flush: () => Promise<void> }) {
  const counts = new Map<NatsOutcome, number>();
  const lines: string[] = [];
  const published: { subject: string; body: string }[] = [];
  const events = new NatsEvents({
    connection: {
      publish: (subject, payload) => {
        connection.publish?.();
        published.push({ subject, body: Buffer.from(payload as Uint8Array).toString() });
      },
      flush: connection.flush,
    },
    prefix: 'farm',
    count: (outcome) => counts.set(outcome, (counts.get(outcome) ?? 0) + 1),
    log: createLogger({ name: 'test', destination: { write: (line) => void lines.push(line) } }),
  });
  return { events, counts, lines, published };
}

test('a notice is published as it is', () => {
  const { events, published, counts } = stage({ flush: () => Promise.resolve() });
  const notice = acceptedNotice();
  events.tell(notice);
  assert.deepEqual(published, [{ subject: 'farm.jobs.ann.job-1.accepted', body: JSON.stringify(notice) }]);
  assert.equal(counts.get('published'), 1);
});

test('a connection that takes nothing costs bounded memory and one line, and works again when it does', async () => {
  let flushed = Promise.withResolvers<void>();
  const { events, counts, lines, published } = stage({ flush: () => flushed.promise });
  const notice = acceptedNotice();
  for (let n = 0; n < 10_000; n++) events.tell(notice);
  const size = published.reduce((sum, { body }) => sum + body.length, 0);
  assert.ok(size > 900_000 && size <= 1024 * 1024);
  assert.equal(counts.get('dropped'), 10_000 - published.length);
  assert.equal(lines.length, 1);
  const before = flushed;
  flushed = Promise.withResolvers<void>();
  before.resolve();
  await setImmediate();
  flushed.resolve();
  await setImmediate();
  const sofar = published.length;
  for (let n = 0; n < 100; n++) events.tell(notice);
  assert.equal(published.length, sofar + 100);
});

test('a connection that is lost or closed drops notices and throws nothing', async () => {
  let closed = false;
  const { events, counts } = stage({
    publish: () => {
      if (closed) throw new Error('CONNECTION_CLOSED');
    },
    flush: () => Promise.reject(new Error('DISCONNECT')),
  });
  for (let n = 0; n < 3; n++) {
    events.tell(acceptedNotice());
    await setImmediate();
  }
  closed = true;
  events.tell(acceptedNotice());
  await setImmediate();
  assert.deepEqual([counts.get('published'), counts.get('dropped')], [3, 1]);
});
