import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deposedLeaders } from './deposed.ts';

test('a leader is deposed when another leads before it lays its work down; its links end with it', () => {
  const leads = [
    { at: 1000, coordinator: 0, term: 1 },
    { at: 20_000, coordinator: 1, term: 2 },
    { at: 40_000, coordinator: 0, term: 3 },
  ];
  const ended = [
    // Frozen until the other led.
    { at: 20_500, coordinator: 0 },
    // Cut off: it noticed before the next one led.
    { at: 38_000, coordinator: 1 },
  ];
  assert.deepEqual(deposedLeaders(leads, ended, [20_501, 20_510, 38_001]), { deposed: 1, deposedLinks: 2 });
  assert.deepEqual(deposedLeaders(leads, ended.slice(1), [38_001]), { deposed: 0, deposedLinks: 0 });
});
