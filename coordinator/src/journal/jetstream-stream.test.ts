import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StreamConfig } from 'nats';
import { differencesOf, durableSettings, type FoundConfig } from './jetstream-stream.ts';

const wanted = { name: 'S', settings: { ...durableSettings(3), max_age: 0 } };

/** As a server tells it, with what is its own default. */
function found(more: Partial<FoundConfig> = {}): FoundConfig {
  return { ...(wanted.settings as StreamConfig), name: 'S', max_msg_size: -1, ...more };
}

test('what a server adds by itself is no difference; each setting that differs is named with what is needed', () => {
  assert.deepEqual(differencesOf(found(), wanted), []);
  assert.deepEqual(differencesOf(found({ persist_mode: 'default' }), wanted), []);
  assert.deepEqual(differencesOf(found({ max_age: 5, num_replicas: 1 }), wanted), [
    'num_replicas is 1, needed is 3',
    'max_age is 5, needed is 0',
  ]);
});

test('a stream that acknowledges what is not on the disk differs; where anything goes, nothing does', () => {
  const lazy = found({ persist_mode: 'async' });
  assert.deepEqual(differencesOf(lazy, wanted), [
    'persist_mode is "async", needed is "default", which is fixed when a stream is made',
  ]);
  assert.deepEqual(differencesOf(lazy, { name: 'S', settings: {} }), []);
});
