import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DOUBT_MILLIS, firstBelief, nextBelief } from './believed-time.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const START = Date.UTC(2030, 0, 1);

/** What is believed after looks at these times, each `[wall clock, monotonic]` in milliseconds from the start. */
function after(recorded: number | null, ...looks: readonly (readonly [number, number])[]): number {
  const [[wall, monotonic] = [0, 0], ...later] = looks;
  const first = firstBelief(START + wall, monotonic, recorded === null ? null : START + recorded);
  return later.reduce((before, [w, m]) => nextBelief(before, START + w, m), first).at - START;
}

test('a clock that goes steadily is believed, also where it is looked at seldom', () => {
  assert.equal(after(null, [0, 0], [HOUR, HOUR]), HOUR);
  assert.equal(after(0, [0, 0], [50 * DAY, 50 * DAY]), 50 * DAY);
});

test('of a clock that is set forward only the time is believed that has passed, until it has gone steadily for a day', () => {
  const jump = 40 * DAY;
  assert.equal(after(null, [0, 0], [HOUR + jump, HOUR]), HOUR);
  const nearly = HOUR + DOUBT_MILLIS - 1;
  assert.equal(after(null, [0, 0], [HOUR + jump, HOUR], [nearly + jump, nearly]), nearly);
  assert.equal(after(null, [0, 0], [HOUR + jump, HOUR], [nearly + 1 + jump, nearly + 1]), nearly + 1 + jump);
  assert.equal(after(null, [0, 0], [HOUR + jump, HOUR], [2 * HOUR, 2 * HOUR]), 2 * HOUR, 'it was set right');
});

test('a clock that is set back is believed at once', () => {
  assert.equal(after(null, [0, 0], [HOUR - 10 * DAY, HOUR]), HOUR - 10 * DAY);
});

test('a host that starts with a clock far ahead of what is recorded is not believed at first', () => {
  assert.equal(after(0, [40 * DAY, 7], [40 * DAY + HOUR, 7 + HOUR]), HOUR);
  assert.equal(after(0, [40 * DAY, 7], [41 * DAY, 7 + DAY]), 41 * DAY, 'it was off for so long');
  assert.equal(after(5 * DAY, [0, 0]), 0, 'what is recorded may be ahead');
});
