import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ManualClock, systemClock } from './clock.ts';

test('manual time runs timers in order of time, then of creation, at their own time', () => {
  const clock = new ManualClock(1000);
  const ran: string[] = [];
  const note = (name: string) => () => void ran.push(`${name}@${clock.now()}`);
  clock.setTimeout(note('late'), 50);
  clock.setTimeout(note('first'), 10);
  clock.setTimeout(note('second'), 10);
  clock.setTimeout(() => clock.setTimeout(note('nested'), 5), 20);
  const cancelled = clock.setTimeout(note('cancelled'), 30);
  cancelled.cancel();
  cancelled.cancel();
  clock.advance(9);
  assert.deepEqual(ran, []);
  clock.advance(31);
  assert.deepEqual(ran, ['first@1010', 'second@1010', 'nested@1025']);
  assert.equal(clock.pending, 1);
  assert.deepEqual([clock.now(), clock.monotonic()], [1040, 40]);
});

test('however time is cut into steps, the same timers run at the same times', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(100)), fc.array(fc.nat(40), { minLength: 1 }), (delays, steps) => {
      const run = (cuts: readonly number[]) => {
        const clock = new ManualClock(0);
        const ran: [number, number][] = [];
        delays.forEach((ms, i) => void clock.setTimeout(() => ran.push([i, clock.monotonic()]), ms));
        for (const cut of cuts) clock.advance(cut);
        return ran;
      };
      assert.deepEqual(run(steps), run([steps.reduce((sum, step) => sum + step, 0)]));
    }),
  );
});

test('a timer is disposed at the end of its scope', () => {
  const clock = new ManualClock();
  {
    using _timer = clock.setTimeout(() => assert.fail('it ran'), 1);
    assert.equal(clock.pending, 1);
  }
  clock.advance(10);
});

test('system time calls once, honours cancel, and does not fire early for very long delays', async () => {
  const before = systemClock.monotonic();
  let fired = 0;
  const far = systemClock.setTimeout(() => fired++, 2 ** 31 + 10);
  systemClock.setTimeout(() => fired++, 5).cancel();
  await new Promise<void>((resolve) => systemClock.setTimeout(resolve, 20));
  far.cancel();
  assert.equal(fired, 0);
  assert.ok(systemClock.monotonic() > before);
  const [earliest, now, latest] = [Date.now(), systemClock.now(), Date.now()];
  assert.ok(now >= earliest && now <= latest, `${now} is not the time of day`);
});
