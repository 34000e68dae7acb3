import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { EMPTY_FORECAST, type ForecastSlot, measured, secondsPerClip } from './forecast.ts';

const geometry = { width: 704, height: 384, sampleSteps: 4 };

function slot(key: string, profile = 'single-80g', declaredSecondsPerClip = 0): ForecastSlot {
  return { key, profile, declaredSecondsPerClip };
}

test('nothing measured and nothing declared is the prior', () => {
  assert.equal(secondsPerClip(EMPTY_FORECAST, slot('a/0'), geometry, 12), 12);
});

test('what the operator declares goes before the profile and the prior', () => {
  const table = measured(EMPTY_FORECAST, slot('a/0'), geometry, 5);
  assert.equal(secondsPerClip(table, slot('b/0', 'single-80g', 3), geometry, 12), 3);
});

test('what a slot took itself goes before everything', () => {
  const table = measured(EMPTY_FORECAST, slot('a/0', 'single-80g', 3), geometry, 5);
  assert.equal(secondsPerClip(table, slot('a/0', 'single-80g', 3), geometry, 12), 5);
});

test('a slot that measured nothing takes over what its profile took', () => {
  const table = measured(EMPTY_FORECAST, slot('a/0'), geometry, 5);
  assert.equal(secondsPerClip(table, slot('b/0'), geometry, 12), 5);
  assert.equal(secondsPerClip(table, slot('b/0', 'tpp-5x80g'), geometry, 12), 12);
});

test('another picture or another number of steps is another forecast', () => {
  const table = measured(EMPTY_FORECAST, slot('a/0'), geometry, 5);
  for (const other of [{ width: 480 }, { height: 832 }, { sampleSteps: 5 }]) {
    assert.equal(secondsPerClip(table, slot('a/0'), { ...geometry, ...other }, 12), 12);
  }
});

test('a forecast stays within what was measured and follows a change', () => {
  const times = fc.array(fc.double({ min: 0.1, max: 100, noNaN: true }), { minLength: 1, maxLength: 30 });
  fc.assert(
    fc.property(times, (seconds) => {
      const table = seconds.reduce((t, s) => measured(t, slot('a/0'), geometry, s), EMPTY_FORECAST);
      const forecast = secondsPerClip(table, slot('a/0'), geometry, 12);
      const slack = 1e-9 * Math.max(...seconds);
      assert.ok(forecast >= Math.min(...seconds) - slack && forecast <= Math.max(...seconds) + slack);
    }),
  );
  let table = measured(EMPTY_FORECAST, slot('a/0'), geometry, 100);
  for (let i = 0; i < 15; i++) table = measured(table, slot('a/0'), geometry, 10);
  assert.ok(Math.abs(secondsPerClip(table, slot('a/0'), geometry, 12) - 10) < 1);
});

test('a measurement leaves the table that it is added to as it was', () => {
  const before = measured(EMPTY_FORECAST, slot('a/0'), geometry, 5);
  measured(before, slot('a/0'), geometry, 50);
  assert.equal(secondsPerClip(before, slot('a/0'), geometry, 12), 5);
  assert.equal(EMPTY_FORECAST.bySlot.size, 0);
});
