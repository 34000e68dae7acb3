import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Clock } from '@clipfarm/shared/clock';
import { StandstillWatch } from './standstill.ts';

/** A process whose time goes by with or without it: timers run only while it does. */
class Process implements Clock {
  received = 0;
  #now = 0;
  #timer: { readonly due: number; readonly fn: () => void } | null = null;

  now(): number {
    return this.#now;
  }

  monotonic(): number {
    return this.#now;
  }

  setTimeout(fn: () => void, ms: number) {
    this.#timer = { due: this.#now + ms, fn };
    const cancel = () => {
      this.#timer = null;
    };
    return { cancel, [Symbol.dispose]: cancel };
  }

  get pending(): boolean {
    return this.#timer !== null;
  }

  stop(ms: number): void {
    this.#now += ms;
  }

  run(ms: number): void {
    for (const end = this.#now + ms; this.#now < end; this.#now += 10) {
      const timer = this.#timer;
      if (timer && timer.due <= this.#now) {
        this.#timer = null;
        timer.fn();
      }
    }
  }
}

function watched(t: TestContext) {
  const process = new Process();
  const watch = new StandstillWatch(process, () => process.received);
  t.after(() => watch.close());
  return { process, watch };
}

test('a process that goes on, or waits for less than a second, does not stand still', (t) => {
  const { process, watch } = watched(t);
  process.run(10_000);
  process.stop(900);
  process.run(1000);
  assert.equal(watch.recent(), null);
});

test('a standstill is known with its length and with what came since, before the process has looked at the time', (t) => {
  const { process, watch } = watched(t);
  process.run(5000);
  process.received = 100;
  process.stop(4000);
  process.received = 70_100;
  const found = watch.recent();
  assert.ok(found !== null && found.millis >= 4000 && found.millis < 4500, JSON.stringify(found));
  assert.equal(found.bytes, 70_100);
  process.run(1000);
  process.received += 50;
  assert.equal(watch.recent()?.bytes, 70_150, 'what comes later counts, too');
});

test('a standstill is forgotten after a while, and a later one takes its place', (t) => {
  const { process, watch } = watched(t);
  process.stop(3000);
  process.run(1000);
  process.stop(2000);
  process.run(1000);
  assert.ok((watch.recent()?.millis ?? 0) < 2500);
  process.run(6000);
  assert.equal(watch.recent(), null);
});

test('a watch that is closed leaves no timer behind', (t) => {
  const { process, watch } = watched(t);
  process.run(1000);
  watch.close();
  assert.equal(process.pending, false);
});
