import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import type { Journal } from '../journal/journal.ts';
import { DeliveryLog } from './delivery-log.ts';
import type { JobNotice } from './job-notices.ts';
import { RESULT, testFarm } from './test-notify.ts';
import { DOWN, lead, NO, OK, openJournal } from './test-webhooks.ts';
import type { PostAnswer } from './webhook-post.ts';

const HOUR = 3_600_000;

const typesOf = (notices: readonly JobNotice[], jobId = 'a') =>
  notices.filter(({ job }) => job.id === jobId).map(({ type }) => type.slice('job.'.length));

const WHOLE_LIFE = ['accepted', 'started', 'progress', 'progress', 'progress', 'progress', 'completed'];

test('a job is told from its acceptance to its end, in order and once', async (t) => {
  const stage = await lead(t);
  await stage.farm.runToEnd('a');
  await stage.settle();
  assert.deepEqual(typesOf(stage.posted), WHOLE_LIFE);
  assert.equal(stage.webhooks.pending, 0);
  assert.equal(stage.counts.get('delivered'), 7);
  assert.doesNotMatch(JSON.stringify(stage.posted), /canary/);
  assert.doesNotMatch(stage.log.join(''), /canary/);
});

test('a long job whose endpoint is slow is told in full, though little of it is in memory', async (t) => {
  const stage = await lead(t);
  const gate = Promise.withResolvers<PostAnswer>();
  stage.answer = () => gate.promise;
  await stage.farm.runToEnd('a', 100);
  await stage.settle();
  assert.deepEqual(typesOf(stage.posted), ['accepted'], 'one at a time');
  gate.resolve(OK);
  await stage.settle();
  assert.deepEqual(typesOf(stage.posted), ['accepted', 'started', ...Array(20).fill('progress'), 'completed']);
});

test('what happens while a backlog is worked off comes after it', async (t) => {
  const stage = await lead(t);
  let release = Promise.withResolvers<PostAnswer>();
  stage.answer = () => release.promise;
  const deliverOne = async () => {
    const { resolve } = release;
    release = Promise.withResolvers();
    resolve(OK);
    await stage.settle();
  };
  await stage.farm.submit('a', 40);
  await stage.farm.render('a', 30);
  await stage.settle();
  for (let n = 0; n < 3; n++) await deliverOne();
  await stage.farm.render('a', 4);
  stage.answer = () => OK;
  await deliverOne();
  const committed = stage.posted.map(({ job }) => job.clips_committed);
  assert.deepEqual(committed, [0, 0, ...Array.from({ length: 17 }, (_, n) => 2 * n + 2)]);
});

test('the next leader goes on where the last one stopped, and tells what happened in between', async (t) => {
  const first = await lead(t);
  const { journal, clock } = first;
  await first.farm.submit('a');
  await first.farm.submit('b');
  await first.farm.runToEnd('done');
  await first.settle();
  await first.webhooks.end();
  await first.farm.render('a', 2);

  const nobody = await testFarm(journal, clock, 2);
  await nobody.runToEnd('c');
  await nobody.command('b', { type: 'pause', reason: 'lunch', currentClips: new Map() });

  const next = await lead(t, { journal, clock, term: 3 });
  assert.deepEqual(typesOf(next.posted, 'a'), ['started', 'progress', 'progress']);
  assert.deepEqual(typesOf(next.posted, 'b'), ['paused']);
  assert.deepEqual(typesOf(next.posted, 'c'), WHOLE_LIFE);
  assert.deepEqual(typesOf(next.posted, 'done'), []);
  await next.farm.render('a', 2);
  await next.settle();
  assert.deepEqual(typesOf(next.posted, 'a').slice(3), ['progress', 'progress']);
});

test('after a crash what was not recorded yet is delivered again, and nothing is missing', async (t) => {
  const first = await lead(t);
  const { journal, clock } = first;
  await first.farm.submit('a');
  await first.settle();
  await first.pass(1000);
  await first.farm.render('a', 2);
  await first.settle();
  // The second is not over: the crash comes before the record.
  const next = await lead(t, { journal, clock, term: 2 });
  assert.deepEqual(typesOf(next.posted), ['started', 'progress', 'progress']);
  assert.deepEqual(next.posted, first.posted.slice(1), 'the same, byte for byte');
});

test('a job that is retried long after its end is told of it, and not of its past', async (t) => {
  const stage = await lead(t);
  await stage.farm.submit('a');
  await stage.farm.command('a', { type: 'cancel', reason: 'by ann' });
  await stage.pass(2000);
  stage.clock.advance(100 * HOUR);
  await stage.settle();
  await stage.farm.runToEnd('other');
  await stage.pass(2000);
  stage.posted.length = 0;
  await stage.farm.command('a', { type: 'retry' });
  await stage.pass(2000);
  assert.deepEqual(typesOf(stage.posted), ['retried']);
  await stage.webhooks.end();
  const next = await lead(t, { journal: stage.journal, clock: stage.clock, term: 2 });
  assert.deepEqual(next.posted, []);
});

test('the next leader reads nothing of jobs of which all is told, whatever happened since that nobody is told of', async (t) => {
  const first = await lead(t);
  await first.farm.submit('a', 60);
  await first.farm.render('a', 3);
  await first.settle();
  await first.webhooks.end();
  // One of the three clips of a step.
  await first.farm.render('a', 1);
  const reads: number[] = [];
  const journal = new Proxy(first.journal, {
    get(target, name: keyof Journal) {
      const method = target[name].bind(target);
      return (...args: unknown[]) => {
        if (name === 'read' && args[0] === 'jobs/a') reads.push(Number(args[1]));
        return (method as (...all: unknown[]) => unknown)(...args);
      };
    },
  });
  const next = await lead(t, { journal, clock: first.clock, term: 2 });
  assert.deepEqual(next.posted, []);
  assert.equal(next.webhooks.pending, 0);
  assert.deepEqual(reads, [1], 'once, to know the job');
  await next.farm.render('a', 2);
  await next.settle();
  assert.deepEqual(typesOf(next.posted), ['progress']);
});

test('a new endpoint hears of what happens from now on', async (t) => {
  const journal = await openJournal(t);
  const clock = new ManualClock();
  const before = await testFarm(journal, clock);
  await before.runToEnd('old');
  await before.submit('a');
  clock.advance(1);
  const stage = await lead(t, { journal, clock, term: 2 });
  assert.deepEqual(stage.posted, []);
  await stage.farm.render('a', 1);
  await stage.farm.submit('b');
  await stage.settle();
  assert.deepEqual(typesOf(stage.posted, 'a'), ['started', 'progress']);
  assert.deepEqual(typesOf(stage.posted, 'b'), ['accepted']);
});

test('a refused notice is repeated, ever more slowly, and holds up no other job', async (t) => {
  const stage = await lead(t);
  stage.answer = ({ job }) => (job.id === 'a' ? NO : OK);
  await stage.farm.submit('a');
  await stage.farm.render('a', 1);
  await stage.settle();
  await stage.farm.runToEnd('b');
  await stage.settle();
  assert.deepEqual(typesOf(stage.posted, 'b'), WHOLE_LIFE);
  assert.deepEqual(typesOf(stage.posted), ['accepted']);
  await stage.pass(60_000);
  // After 1, 3, 7, 15 and 31 seconds.
  assert.deepEqual(typesOf(stage.posted), Array(6).fill('accepted'), 'the order is kept');
  stage.answer = () => OK;
  await stage.pass(10_000);
  assert.deepEqual(typesOf(stage.posted).slice(6), ['accepted', 'started', 'progress']);
  assert.equal(stage.webhooks.failing, 0);
});

test('a dead endpoint is tried once in a while, holds up no other, and gets everything when it is back', async (t) => {
  const stage = await lead(t, { endpoints: ['dead', 'fine'] });
  let dead = true;
  let tries = 0;
  stage.answer = (_, endpointId) => {
    if (endpointId === 'fine') return OK;
    tries += 1;
    return dead ? DOWN : OK;
  };
  const ids = Array.from({ length: 20 }, (_, n) => `job-${n}`);
  for (const id of ids) await stage.farm.runToEnd(id);
  await stage.settle();
  assert.equal(stage.posted.length - tries, 20 * 7, 'the other one has everything');
  assert.ok(tries <= 8, 'those in hand at the same time, twice');
  assert.equal(stage.webhooks.failing, 1);
  assert.equal(stage.webhooks.pending, 20);
  stage.posted.length = tries = 0;
  await stage.pass(3_600_000 / 4);
  assert.ok(tries >= 5 && tries <= 12, `${tries} tries in a quarter of an hour`);
  assert.ok(new Set(stage.posted.map(({ job }) => job.id)).size > 3, 'it is not always the same notice');
  dead = false;
  stage.posted.length = 0;
  await stage.pass(600_000);
  for (const id of ids) assert.deepEqual(typesOf(stage.posted, id), WHOLE_LIFE);
  assert.equal(stage.webhooks.failing, 0);
  const warnings = stage.log.filter((line) => line.includes('"level":40'));
  assert.equal(warnings.length, 1, 'and one line says so, not thousands');
});

test('an endpoint that asks for patience gets it, up to ten minutes', async (t) => {
  const stage = await lead(t);
  stage.answer = () => ({ outcome: 'unreachable', reason: 'status 429', waitMillis: 100_000 });
  await stage.farm.submit('a');
  await stage.settle();
  await stage.pass(99_000);
  assert.equal(stage.posted.length, 1);
  stage.answer = () => ({ outcome: 'unreachable', reason: 'status 429', waitMillis: 10 * HOUR });
  await stage.pass(2000);
  assert.equal(stage.posted.length, 2);
  stage.answer = () => OK;
  await stage.pass(601_000);
  assert.equal(stage.posted.length, 3);
});

test('what a dead endpoint was not told within a day is given up', async (t) => {
  const stage = await lead(t);
  stage.answer = () => DOWN;
  await stage.farm.runToEnd('a');
  await stage.farm.submit('live');
  await stage.settle();
  for (let hour = 0; hour < 23; hour++) {
    stage.clock.advance(HOUR);
    await stage.settle();
  }
  await stage.farm.runToEnd('young');
  assert.equal(stage.webhooks.pending, 3);
  stage.clock.advance(2 * HOUR);
  await stage.settle();
  stage.clock.advance(HOUR);
  await stage.settle();
  stage.clock.advance(HOUR);
  await stage.settle();
  assert.ok(stage.counts.get('expired'));
  stage.answer = () => OK;
  stage.posted.length = 0;
  stage.clock.advance(HOUR);
  await stage.settle();
  await stage.farm.render('live', 1);
  await stage.settle();
  assert.deepEqual(typesOf(stage.posted), []);
  assert.deepEqual(typesOf(stage.posted, 'live'), ['started', 'progress'], 'a live job goes on');
  assert.deepEqual(typesOf(stage.posted, 'young'), WHOLE_LIFE);
  assert.equal(stage.webhooks.pending, 0);
});

test('what is refused for a day is given up, and the job’s next notice gets its chance', async (t) => {
  const stage = await lead(t);
  stage.answer = ({ type }) => (type === 'job.accepted' ? NO : OK);
  await stage.farm.runToEnd('a');
  await stage.settle();
  for (let step = 0; step < 25 * 6; step++) {
    stage.clock.advance(HOUR / 6);
    await stage.settle();
  }
  assert.deepEqual([...new Set(typesOf(stage.posted))], [...new Set(WHOLE_LIFE)]);
  assert.deepEqual(typesOf(stage.posted).slice(-6), WHOLE_LIFE.slice(1));
  assert.equal(stage.counts.get('expired'), 1);
});

test('an old notice is tried once when the farm comes back after days', async (t) => {
  const first = await lead(t);
  await first.farm.submit('a');
  await first.pass(1500);
  await first.webhooks.end();
  await first.farm.render('a', 4);
  await first.farm.command('a', { type: 'complete', result: RESULT });
  first.clock.advance(72 * HOUR);
  const next = await lead(t, { journal: first.journal, clock: first.clock, term: 2 });
  assert.deepEqual(typesOf(next.posted), WHOLE_LIFE.slice(1));
});

test('while the journal can’t be read or written, deliveries wait or go on, and nothing is lost', async (t) => {
  const journal = await openJournal(t);
  let broken = true;
  const flaky = new Proxy(journal, {
    get(target, name: keyof Journal) {
      const method = target[name].bind(target);
      const fails = ['loadSnapshot', 'append'].includes(name);
      return (...args: unknown[]) => {
        const [stream] = args;
        if (broken && fails && String(stream).startsWith('notify/'))
          return Promise.reject(new Error('the disk is full'));
        return (method as (...all: unknown[]) => unknown)(...args);
      };
    },
  });
  const stage = await lead(t, { journal: flaky });
  await stage.farm.submit('a');
  await stage.pass(3000);
  assert.deepEqual(stage.posted, []);
  broken = false;
  await stage.pass(5000);
  assert.deepEqual(typesOf(stage.posted), ['accepted']);
  broken = true;
  await stage.farm.render('a', 1);
  await stage.pass(3000);
  assert.deepEqual(typesOf(stage.posted), ['accepted', 'started', 'progress']);
  broken = false;
  await stage.pass(6000);
  const next = await lead(t, { journal, clock: stage.clock, term: 2 });
  assert.deepEqual(next.posted, [], 'it was recorded when that was possible');
});

test('stopping ends a post in hand, and the next leader repeats it', async (t) => {
  const first = await lead(t);
  first.answer = () => new Promise(() => undefined);
  await first.farm.submit('a');
  await first.settle();
  assert.equal(first.posted.length, 1);
  await first.webhooks.end();
  await first.webhooks.end();
  await first.farm.render('a', 1);
  await first.settle();
  assert.equal(first.posted.length, 1, 'nothing is told any more');
  assert.equal(first.clock.pending, 0, 'no timer is left');
  const next = await lead(t, { journal: first.journal, clock: first.clock, term: 2 });
  assert.deepEqual(typesOf(next.posted), ['accepted', 'started', 'progress']);
});

test('recording costs at most one small event a second', async (t) => {
  const stage = await lead(t);
  for (let n = 0; n < 30; n++) await stage.farm.runToEnd(`job-${n}`);
  await stage.pass(3000);
  assert.equal(stage.counts.get('delivered'), 210);
  const events: unknown[] = [];
  for await (const event of stage.journal.read('notify/one', 1)) events.push(event.data);
  assert.ok(events.length <= 3, `${events.length} events`);
  assert.ok(JSON.stringify(events).length < 2000);
  const recorded = new DeliveryLog(stage.journal, 'one');
  await recorded.load();
  assert.deepEqual([recorded.state.open.size, recorded.state.done.size], [0, 30], 'those that ended are marked to go');
});
