import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import { HangWatch } from './hang-watch.ts';

function watch() {
  const clock = new ManualClock();
  const hangs: number[] = [];
  const hang = new HangWatch({ clock, seconds: 10, firstSeconds: 60, onHang: (seconds) => hangs.push(seconds) });
  return { clock, hangs, hang };
}

test('the first sign of progress may take longer than the later ones', () => {
  const { clock, hangs, hang } = watch();
  clock.advance(59_000);
  hang.progressed();
  clock.advance(9_999);
  assert.deepEqual(hangs, []);
  clock.advance(1);
  assert.deepEqual(hangs, [10]);
});

test('it reports once, and not after it was stopped', () => {
  const { clock, hangs, hang } = watch();
  clock.advance(60_000);
  hang.progressed();
  clock.advance(600_000);
  assert.deepEqual(hangs, [60]);
  const other = watch();
  other.hang.stop();
  other.hang.progressed();
  other.clock.advance(600_000);
  assert.deepEqual(other.hangs, []);
  assert.equal(other.clock.pending, 0);
});

test('silence while the host itself holds the runner up does not count', async () => {
  const { clock, hangs, hang } = watch();
  const host = Promise.withResolvers<void>();
  const held = hang.hold(() => host.promise);
  clock.advance(300_000);
  assert.deepEqual(hangs, []);
  host.resolve();
  await held;
  clock.advance(60_000);
  assert.deepEqual(hangs, [60]);
});
