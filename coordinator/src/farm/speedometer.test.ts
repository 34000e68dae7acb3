import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Speedometer } from './speedometer.ts';

test('the speed is that of the last minute, from its first commit on', () => {
  let now = 0;
  const speed = new Speedometer(() => now);
  speed.note('a', 48);
  assert.equal(speed.of('a'), 0, 'one commit says nothing');
  now = 1920;
  speed.note('a', 48);
  assert.equal(speed.of('a'), 1);
  now = 3840;
  assert.equal(speed.of('a'), 0.5, 'it sinks while nothing comes');
  assert.equal(speed.of('b'), 0);
  now = 61_900;
  assert.equal(speed.of('a'), 0, 'what is left of the minute is one commit');
});

test('a job that was forgotten has no speed', () => {
  const speed = new Speedometer(() => 0);
  speed.note('a', 48);
  speed.note('a', 48);
  speed.forget('a');
  assert.equal(speed.of('a'), 0);
});

test('whatever comes when, the speed is that of the commits within the window', () => {
  const commit = fc.record({ wait: fc.integer({ min: 0, max: 30_000 }), frames: fc.integer({ min: 1, max: 48 }) });
  fc.assert(
    fc.property(fc.array(commit, { maxLength: 50 }), (commits) => {
      let now = 0;
      const speed = new Speedometer(() => now);
      const all: { at: number; frames: number }[] = [];
      for (const { wait, frames } of commits) {
        now += wait;
        speed.note('a', frames);
        all.push({ at: now, frames });
        const recent = all.filter(({ at }) => at >= now - 60_000);
        const seconds = Math.max(0.001, (now - (recent[0]?.at ?? 0)) / 1000);
        const made = recent.slice(1).reduce((sum, one) => sum + one.frames, 0) / 25;
        assert.ok(Math.abs(speed.of('a') - made / seconds) < 1e-6 * Math.max(1, made / seconds));
      }
    }),
  );
});
