import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { ManualClock, systemClock } from '@clipfarm/shared/clock';
import { Supervised } from './supervised.ts';

const script = (code: string) =>
  spawn(process.execPath, ['-e', code], { detached: true, stdio: ['ignore', 'pipe', 'inherit'] });

test('a process that ends is started again after the delay, and not after it was stopped', async () => {
  const clock = new ManualClock();
  const ends: string[] = [];
  let starts = 0;
  let ended = Promise.withResolvers<void>();
  const supervised = new Supervised({
    name: 'agent',
    clock,
    start: () => {
      starts += 1;
      return script('process.exit(3)');
    },
    onEnd: (text) => {
      ends.push(text);
      ended.resolve();
    },
    onGiveUp: assert.fail,
    worthRestart: () => true,
  });
  await ended.promise;
  assert.deepEqual(ends, ['agent ended with status 3; starting it again in 0.5 s']);
  ended = Promise.withResolvers();
  clock.advance(500);
  assert.equal(starts, 2);
  await ended.promise;
  await supervised.stop(1000);
  clock.advance(60_000);
  assert.equal(starts, 2);
  assert.equal(clock.pending, 0);
});

test('a process that refuses its options is given up at once', async () => {
  const given = Promise.withResolvers<string>();
  new Supervised({
    name: 'coordinator',
    clock: systemClock,
    start: () => script('process.exit(2)'),
    onEnd: assert.fail,
    onGiveUp: given.resolve,
    worthRestart: () => true,
  });
  assert.equal(await given.promise, 'coordinator ended with status 2; it refused its options');
});

test('a process that never worked is not started again', async () => {
  const given = Promise.withResolvers<string>();
  new Supervised({
    name: 'coordinator',
    clock: systemClock,
    start: () => script('process.exit(7)'),
    onEnd: assert.fail,
    onGiveUp: given.resolve,
    worthRestart: () => false,
  });
  assert.equal(await given.promise, 'coordinator ended with status 7; it did not start');
});

test('a program that is not there counts as a failure', async () => {
  const ended = Promise.withResolvers<string>();
  const supervised = new Supervised({
    name: 'agent',
    clock: new ManualClock(),
    start: () => spawn('/nonexistent/program', [], { stdio: 'ignore' }),
    onEnd: ended.resolve,
    onGiveUp: assert.fail,
    worthRestart: () => true,
  });
  assert.match(await ended.promise, /agent ended with status 1; starting it again/);
  await supervised.stop(1000);
});

test('stopping waits for the end, and kills what does not end in time', async () => {
  const clock = new ManualClock();
  const child = script('process.on("SIGTERM", () => {}); setInterval(() => {}, 1000); console.log("up")');
  const supervised = new Supervised({
    name: 'agent',
    clock,
    start: () => child,
    onEnd: assert.fail,
    onGiveUp: assert.fail,
    worthRestart: () => true,
  });
  assert.ok(child.stdout);
  await once(child.stdout, 'data');
  const stopped = supervised.stop(5000);
  clock.advance(4999);
  assert.equal(child.signalCode, null);
  clock.advance(1);
  await stopped;
  assert.equal(child.signalCode, 'SIGKILL');
});
