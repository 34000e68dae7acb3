import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import { pause } from './pause.ts';

test('a pause ends when its time is over and leaves nothing with its signal', async () => {
  const clock = new ManualClock();
  const { signal } = new AbortController();
  for (let round = 0; round < 3; round += 1) {
    const over = pause(500, { clock, signal });
    assert.deepEqual([clock.pending, getEventListeners(signal, 'abort').length], [1, 1]);
    clock.advance(500);
    await over;
    assert.deepEqual([clock.pending, getEventListeners(signal, 'abort').length], [0, 0]);
  }
});

test('a pause ends with its signal, also when that was aborted before', async () => {
  const clock = new ManualClock();
  const controller = new AbortController();
  const options = { clock, signal: controller.signal };
  const during = pause(500, options);
  controller.abort(new Error('it is over'));
  await assert.rejects(during, { message: 'it is over' });
  await assert.rejects(pause(500, options), { message: 'it is over' });
  assert.equal(clock.pending, 0);
});
