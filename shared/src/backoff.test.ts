import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { backoffMillis } from './backoff.ts';

const bounds = { firstMillis: 200, maxMillis: 3000 };

test('a wait is within its bounds, and twice as long after each failure until the bound', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 10_000 }),
      fc.double({ min: 0, max: 0.999, noNaN: true }),
      (failures, random) => {
        const millis = backoffMillis(failures, random, bounds);
        assert.ok(millis >= bounds.firstMillis && millis <= bounds.maxMillis);
        if (failures < 4) assert.equal(backoffMillis(failures + 1, random, { ...bounds, maxMillis: 1e6 }) / 2, millis);
      },
    ),
  );
});

test('agents that failed together spread out', () => {
  const waits = [0, 0.25, 0.5, 0.75].map((random) => backoffMillis(5, random, bounds));
  assert.deepEqual(waits, [1500, 1875, 2250, 2625]);
});
