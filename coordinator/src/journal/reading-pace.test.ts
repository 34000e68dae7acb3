import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import { createLogger } from '@clipfarm/shared/log';
import { ReadingPace } from './reading-pace.ts';

/** A reader that writes down what is said of it. */
function newPace() {
  const said: string[] = [];
  const write = (line: string) => {
    const { msg, behind } = JSON.parse(line) as { readonly msg: string; readonly behind?: number };
    said.push(behind === undefined ? msg : `${behind} behind`);
  };
  const clock = new ManualClock();
  const log = createLogger({ name: 'test', destination: { write } });
  let slow = 0;
  const onSlow = () => {
    slow += 1;
  };
  const pace = new ReadingPace({ clock, log, onSlow });
  /** Reads messages for so long, each with so many behind it. */
  const read = (seconds: number, left: number) => {
    for (let n = 0; n < seconds * 10; n++) {
      pace.read(left);
      clock.advance(100);
    }
  };
  return { read, said, slow: () => slow };
}

test('a reader that stays far behind is said to be slow once, and that it has caught up', () => {
  const { read, said, slow } = newPace();
  read(20, 3000);
  assert.deepEqual(said, ['3000 behind']);
  read(1, 500);
  assert.deepEqual(said, ['3000 behind'], 'not yet at the end');
  read(1, 0);
  assert.deepEqual(said, ['3000 behind', 'the journal is read to its end again']);
  read(20, 4000);
  assert.equal(said.at(-1), '4000 behind');
  assert.equal(slow(), 2, 'as many as lines of the log that say it');
});

test('who catches up within seconds, or is a little behind for long, is not slow', () => {
  const { read, said, slow } = newPace();
  for (let breaks = 0; breaks < 10; breaks++) {
    read(4, 100_000);
    read(1, 0);
  }
  read(60, 900);
  assert.deepEqual(said, []);
  assert.equal(slow(), 0);
});
