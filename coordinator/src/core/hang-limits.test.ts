import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { hangSeconds, stuckSeconds } from './hang-limits.ts';

test('a fast slot gets the floor, a slow one a multiple of its forecast and twice its warm-up', () => {
  assert.equal(hangSeconds(0.5, 1, 60), 60);
  assert.equal(hangSeconds(10, 30, 60), 140);
});

test('a clip that compiles again, 21 s on top of 4.8 s, is no hang', () => {
  assert.ok(hangSeconds(4.8, 0, 0) > 4.8 + 21);
});

test('the coordinator never steps in before the agent, which counts the warm-up on top', () => {
  const seconds = fc.double({ min: 0.01, max: 3600, noNaN: true });
  fc.assert(
    fc.property(seconds, seconds, seconds, (pace, warmUp, floor) => {
      const limit = hangSeconds(pace, warmUp, floor);
      assert.ok(limit >= floor && stuckSeconds(limit) > limit + warmUp);
    }),
  );
});
