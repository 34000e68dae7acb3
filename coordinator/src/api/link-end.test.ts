import assert from 'node:assert/strict';
import { test } from 'node:test';
import { endOf } from './link-end.ts';

const nothing = { closed: null, farewell: null, complete: false, silentMillis: 900 };

for (const [what, known, end, reason] of [
  ['breaks', {}, 'broken', 'the connection broke'],
  ['ends from the other side', { complete: true }, 'broken', 'its agent ended the link without a goodbye'],
  ['breaks after three beats', { silentMillis: 3001 }, 'silent', 'it was silent for 3.0 s'],
  ['breaks after two late beats', { silentMillis: 3000 }, 'broken', 'the connection broke'],
  ['is closed here', { closed: 'the coordinator stops', silentMillis: 9000 }, 'closed', 'the coordinator stops'],
  ['ends after a goodbye', { farewell: 'SIGTERM', complete: true }, 'left', 'its agent left in order: SIGTERM'],
  ['breaks right after a goodbye', { farewell: 'SIGTERM' }, 'left', 'its agent left in order: SIGTERM'],
] as const) {
  test(`a link that ${what} is told from the others`, () => {
    assert.deepEqual(endOf({ ...nothing, ...known }, 1000), { end, reason });
  });
}
