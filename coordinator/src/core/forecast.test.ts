import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  confirmPeak,
  type ForecastSlot,
  geometryKey,
  measuredSeconds,
  newForecast,
  noteMeasured,
  notePeak,
  noteSeen,
  PEAK_MILLIS,
  peakOf,
  secondsPerClip,
  seenMemory,
} from './forecast.ts';

const geometry = { width: 704, height: 384, sampleSteps: 4 };

/** A table with these measurements of one slot. */
function measured(of: ForecastSlot, ...seconds: readonly number[]) {
  const table = newForecast();
  for (const value of seconds) noteMeasured(table, of, geometry, value);
  return table;
}

function slot(key: string, profile = 'single-80g', declaredSecondsPerClip = 0): ForecastSlot {
  return { key, profile, declaredSecondsPerClip };
}

test('nothing measured and nothing declared is the prior', () => {
  assert.equal(secondsPerClip(newForecast(), slot('a/0'), geometry, 12), 12);
});

test('what the operator declares goes before the profile and the prior', () => {
  const table = measured(slot('a/0'), 5);
  assert.equal(secondsPerClip(table, slot('b/0', 'single-80g', 3), geometry, 12), 3);
});

test('what a slot took itself goes before everything', () => {
  const table = measured(slot('a/0', 'single-80g', 3), 5);
  assert.equal(secondsPerClip(table, slot('a/0', 'single-80g', 3), geometry, 12), 5);
});

test('a slot that measured nothing takes over what its profile took', () => {
  const table = measured(slot('a/0'), 5);
  assert.equal(secondsPerClip(table, slot('b/0'), geometry, 12), 5);
  assert.equal(secondsPerClip(table, slot('b/0', 'tpp-5x80g'), geometry, 12), 12);
});

test('another picture or another number of steps is another forecast', () => {
  const table = measured(slot('a/0'), 5);
  for (const other of [{ width: 480 }, { height: 832 }, { sampleSteps: 5 }]) {
    assert.equal(secondsPerClip(table, slot('a/0'), { ...geometry, ...other }, 12), 12);
  }
});

test('a forecast stays within what was measured and follows a change', () => {
  const times = fc.array(fc.double({ min: 0.1, max: 100, noNaN: true }), { minLength: 1, maxLength: 30 });
  fc.assert(
    fc.property(times, (seconds) => {
      const table = measured(slot('a/0'), ...seconds);
      const forecast = secondsPerClip(table, slot('a/0'), geometry, 12);
      const slack = 1e-9 * Math.max(...seconds);
      assert.ok(forecast >= Math.min(...seconds) - slack && forecast <= Math.max(...seconds) + slack);
    }),
  );
  const table = measured(slot('a/0'), 100, ...Array.from({ length: 15 }, () => 10));
  assert.ok(Math.abs(secondsPerClip(table, slot('a/0'), geometry, 12) - 10) < 1);
});

test('geometries that are equal share their measurements', () => {
  assert.equal(secondsPerClip(measured(slot('a/0'), 5), slot('a/0'), { ...geometry }, 12), 5);
  assert.notEqual(geometryKey({ ...geometry, width: 7, height: 4384 }), geometryKey({ ...geometry, width: 74 }));
});

test('of the memory that calls reserved the most is remembered, by profile and picture', () => {
  const table = newForecast();
  assert.equal(peakOf(table, 'single-80g', geometry, 0), 0);
  for (const bytes of [70, 75, 72]) notePeak(table, 'single-80g', geometry, bytes, 0);
  assert.equal(peakOf(table, 'single-80g', geometry, 0), 75);
  assert.equal(peakOf(table, 'single-80g', { ...geometry, sampleSteps: 3 }, 0), 0);
  assert.equal(peakOf(table, 'other', geometry, 0), 0);
});

test('of what calls were seen to take the most of each figure is remembered, for ever', () => {
  const table = newForecast();
  assert.deepEqual(seenMemory(table, 'own', geometry), { bytes: 0, reservedBytes: 0 });
  noteSeen(table, 'own', geometry, { bytes: 60, reservedBytes: 79 });
  noteSeen(table, 'own', { ...geometry }, { bytes: 65, reservedBytes: 71 });
  assert.deepEqual(seenMemory(table, 'own', geometry), { bytes: 65, reservedBytes: 79 });
  assert.deepEqual(seenMemory(table, 'other', geometry), { bytes: 0, reservedBytes: 0 });
  assert.equal(peakOf(table, 'own', geometry, 0), 0, 'nobody is judged by it');
});

test('a peak holds for its time, however often it is seen, and again when a slot runs out of memory', () => {
  const table = newForecast();
  const at = (now: number) => peakOf(table, 'own', geometry, now);
  confirmPeak(table, 'own', geometry, 0);
  assert.equal(at(0), 0, 'nothing was measured');
  notePeak(table, 'own', geometry, 75, 0);
  notePeak(table, 'own', geometry, 75, PEAK_MILLIS - 1);
  assert.deepEqual([at(PEAK_MILLIS - 1), at(PEAK_MILLIS)], [75, 0]);
  confirmPeak(table, 'own', geometry, PEAK_MILLIS);
  assert.deepEqual([at(2 * PEAK_MILLIS - 1), at(2 * PEAK_MILLIS)], [75, 0]);
  notePeak(table, 'own', geometry, 76, 2 * PEAK_MILLIS);
  assert.equal(at(2 * PEAK_MILLIS), 76, 'more than before is news');
});

test('measured seconds are those of the slot, or of its profile where nothing is declared', () => {
  const table = measured(slot('a/0'), 5);
  assert.equal(measuredSeconds(table, slot('a/0'), geometry), 5);
  assert.equal(measuredSeconds(table, slot('b/0'), geometry), 5);
  assert.equal(measuredSeconds(table, slot('b/0', 'single-80g', 3), geometry), 0);
  assert.equal(measuredSeconds(table, slot('b/0', 'other'), geometry), 0);
});
