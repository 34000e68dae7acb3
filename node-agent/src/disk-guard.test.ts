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
  const asked: number[] = [];
  const makeRoom = (bytes: number) => {
    asked.push(bytes);
    return (answers.shift() ?? (async () => 0))();
  };
  let changes = 0;
  const guard = new DiskGuard({ clock, log, makeRoom, onChange: () => changes++ });
  assert.equal(guard.reason, null);
  guard.full('No space left on device');
  guard.full('another slot meets it, too');
  assert.equal(changes, 1);
  for (const full of [true, true, false]) {
    clock.advance(5000);
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(guard.reason !== null, full);
  }
  assert.equal(clock.pending, 0);
  assert.equal(changes, 2);
  assert.deepEqual(asked, [2 ** 28, 2 ** 28, 2 ** 28]);
});

test('what a look under way finds is void once the guard is closed or the disk was full again', async () => {
  const clock = new ManualClock();
  const looks: ((free: number) => void)[] = [];
  const log = createLogger({ name: 'test', level: 'silent' });
  const guard = new DiskGuard({
    clock,
    log,
    makeRoom: () => new Promise((resolve) => looks.push(resolve)),
    onChange: () => {},
  });
  const found = async (look: number, free: number) => {
    looks[look]?.(free);
    await new Promise((resolve) => setImmediate(resolve));
  };
  guard.full('first');
  clock.advance(5000);
  guard.full('second');
  await found(0, 2 ** 30);
  assert.match(guard.reason ?? '', /second/);
  assert.equal(clock.pending, 1);
  clock.advance(5000);
  guard.close();
  await found(1, 0);
  assert.equal(clock.pending, 0, 'a closed guard does not look again');
  guard.full('third');
  assert.equal(clock.pending, 0);
  assert.match(guard.reason ?? '', /third/);
});
