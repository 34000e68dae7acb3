import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import { createLogger } from '@clipfarm/shared/log';
import { DiskGuard } from './disk-guard.ts';

test('a full disk keeps the slot away until there is room, whatever the checks meet', async () => {
  const clock = new ManualClock();
  const answers: (() => Promise<number>)[] = [
    async () => 1000,
    () => Promise.reject(new Error('the disk is gone')),
    async () => 2 ** 30,
  ];
  const log = createLogger({ name: 'test', level: 'silent' });
  const guard = new DiskGuard({ clock, log, freeBytes: () => (answers.shift() ?? (async () => 0))() });
  assert.equal(guard.reason, null);
  guard.full('No space left on device');
  for (const full of [true, true, false]) {
    clock.advance(5000);
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(guard.reason !== null, full);
  }
  assert.equal(clock.pending, 0);
});
