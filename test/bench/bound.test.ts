import assert from 'node:assert/strict';
import { test } from 'node:test';
import { shortestSeconds } from './bound.ts';

const agents = (...paces: number[]) => paces.map((secondsPerClip) => ({ secondsPerClip }));

test('one agent needs its time for every clip, and equal ones share, less the pre-roll of all but one', () => {
  assert.equal(shortestSeconds(10, agents(2), 1), 20);
  assert.equal(shortestSeconds(10, agents(2, 2), 0), 10);
  assert.equal(shortestSeconds(10, agents(2, 2), 1), 12);
});

test('a slow agent that can not help in time gets nothing', () => {
  assert.equal(shortestSeconds(5, agents(1, 100), 1), 5);
});

test('no other way to share the clips is shorter', () => {
  const [a, b, c] = [1, 1.7, 2.9];
  let best = Number.POSITIVE_INFINITY;
  for (let first = 0; first <= 20; first++) {
    for (let second = 0; first + second <= 20; second++) {
      const third = 20 - first - second;
      const times = [first * a, second === 0 ? 0 : (second + 1) * b, third === 0 ? 0 : (third + 1) * c];
      best = Math.min(best, Math.max(...times));
    }
  }
  assert.ok(Math.abs(shortestSeconds(20, agents(a, b, c), 1) - best) < 1e-9);
});
