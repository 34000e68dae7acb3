import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withinPage } from './page-bytes.ts';

const encoder = { encode: (entry: string) => ({ finish: () => Buffer.from(entry) }) };

test('a page ends before the entry that is too much, and has one at least', () => {
  assert.deepEqual(withinPage(['aa', 'bb', 'cc'], encoder, 4), ['aa', 'bb']);
  assert.deepEqual(withinPage(['aa', 'bb', 'cc'], encoder, 6), ['aa', 'bb', 'cc']);
  assert.deepEqual(withinPage(['aaaaaaa', 'bb'], encoder, 6), ['aaaaaaa']);
  assert.deepEqual(withinPage([], encoder, 6), []);
});
