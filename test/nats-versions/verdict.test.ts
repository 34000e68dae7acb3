import assert from 'node:assert/strict';
import { test } from 'node:test';
import { holds, tableOf, type Verdict } from './verdict.ts';

const good: Verdict = { server: '2.12.15', missing: null, passed: 70, skipped: 1, failed: [], seconds: 150 };
const bad: Verdict = { ...good, server: '2.11.17', passed: 69, failed: ['a leader goes'] };
const absent: Verdict = { ...good, server: '/x', passed: 0, skipped: 0, missing: 'Go is not installed', seconds: 0 };

test('a version holds when its tests ran and none failed', () => {
  assert.deepEqual([good, bad, absent, { ...good, passed: 0 }].map(holds), [true, false, false, false]);
});

test('the table has a line for each server, and says what failed and what is missing', () => {
  const lines = tableOf([good, bad, absent]).split('\n');
  assert.deepEqual(lines.slice(2), [
    '| 2.12.15 | 70 | 0 | 1 | 2.5 |',
    '| 2.11.17 | 69 | 1 | 1 | 2.5 |',
    '| /x | not run | | | |',
    '',
    '2.11.17: failed: a leader goes',
    '/x: not run: Go is not installed',
  ]);
});
