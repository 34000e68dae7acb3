import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { JobState } from '../core/job-model.ts';
import { execute, submitJob } from '../core/test-jobs.ts';
import {
  cursorEvents,
  cursorsFromNowOn,
  emptyDeliveryState,
  moveCursors,
  SETTLED_AFTER_MILLIS,
  toldUpTo,
} from './delivery-state.ts';

const HOUR = 3_600_000;

function job(jobId: string, endedAt: number | null, submittedAt = 0): JobState {
  const made = submitJob({ jobId, clips: 2 }, 0, submittedAt);
  if (endedAt !== null) execute(made, { type: 'cancel', reason: '' }, endedAt);
  return made.state;
}

/** State after these moves, each `[at, open, done]`. */
function after(...moves: readonly (readonly [number, Record<string, number>, Record<string, number>])[]) {
  const state = emptyDeliveryState();
  for (const [at, open, done] of moves) moveCursors(state, { type: 'CursorsMoved', open, done }, at);
  return state;
}

test('cursors only move forward, whoever says so and in whatever order', () => {
  const move = fc.record({
    jobId: fc.constantFrom('a', 'b'),
    position: fc.integer({ min: 1, max: 9 }),
    done: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(move), fc.nat(), (moves, seed) => {
      const shuffled = [...moves].sort((a, b) => ((a.position * 31 + seed) % 7) - ((b.position * 31 + seed) % 7));
      for (const order of [moves, shuffled]) {
        const state = emptyDeliveryState();
        for (const { jobId, position, done } of order) {
          for (const event of cursorEvents(new Map([[jobId, { position, done }]]))) moveCursors(state, event, 1);
        }
        for (const jobId of ['a', 'b']) {
          const highest = Math.max(0, ...moves.filter((m) => m.jobId === jobId).map((m) => m.position));
          assert.equal(state.open.get(jobId) ?? state.done.get(jobId)?.position ?? 0, highest);
          assert.ok(!(state.open.has(jobId) && state.done.has(jobId)), 'a job is open or done');
        }
      }
    }),
  );
});

test('a job is taken up where it was left, and left alone when all of it was told', () => {
  const live = job('j', null);
  assert.equal(toldUpTo(after(), live), 0, 'a new job is told from its beginning');
  live.revision = 7;
  live.noticedAt = 5;
  assert.equal(toldUpTo(after([1, { j: 3 }, {}]), live), 3);
  assert.equal(toldUpTo(after([1, { j: 5 }, {}]), live), null);
  assert.equal(toldUpTo(after([1, {}, { j: 3 }]), live), 3, 'it was retried');
  assert.equal(toldUpTo(after([1, {}, { j: 5 }]), live), null);
});

test('the mark of a job that is done goes after two days, and it is not told again then', () => {
  const ended = job('j', 10 * HOUR);
  const marked = [11 * HOUR, {}, { j: ended.revision }] as const;
  for (const hours of [12, 36, 58]) {
    const state = after(marked, [hours * HOUR, { other: hours }, {}]);
    assert.equal(state.done.size, 1);
    assert.equal(toldUpTo(state, ended), null);
  }
  const busy = Array.from({ length: 49 * 60 }, (_, n) => [11 * HOUR + (n + 1) * 60_000, { other: n }, {}] as const);
  const state = after(marked, ...busy);
  assert.equal(state.done.size, 0);
  assert.equal(toldUpTo(state, ended), null);
});

test('an event whose clock was a year ahead has no job count as told that was not, and no mark dropped', () => {
  const [told, down] = [job('told', 10 * HOUR), job('down', 12 * HOUR)];
  const ahead = 365 * 24 * HOUR;
  const state = after([11 * HOUR, {}, { told: told.revision }], [ahead, { other: 1 }, {}]);
  for (const hours of [11, 12, 13]) {
    assert.equal(toldUpTo(state, down), 0);
    assert.equal(toldUpTo(state, told), null);
    moveCursors(state, { type: 'CursorsMoved', open: { other: hours }, done: {} }, hours * HOUR);
  }
  const first = after([ahead, { other: 1 }, {}], [11 * HOUR, { other: 2 }, {}]);
  assert.equal(toldUpTo(first, down), 0, 'the next event sets it right, whatever is recorded');
});

test('a job that ended just before everything stopped is told, however long that lasted', () => {
  const state = after([10 * HOUR, { other: 1 }, {}]);
  assert.equal(toldUpTo(state, job('j', 10 * HOUR + 1)), 0);
  assert.equal(toldUpTo(state, job('j', 10 * HOUR - SETTLED_AFTER_MILLIS + 1)), 0);
  assert.equal(toldUpTo(state, job('j', 10 * HOUR - SETTLED_AFTER_MILLIS - 1)), null);
});

test('a new endpoint hears of jobs from now on, and of nothing that was over', () => {
  const [live, over, later] = [job('live', null, 5), job('over', 8, 6), job('later', null, 20)];
  const state = emptyDeliveryState();
  for (const event of cursorEvents(cursorsFromNowOn([live, over, later], 10))) moveCursors(state, event, 30);
  assert.equal(toldUpTo(state, live), null);
  assert.equal(toldUpTo(state, over), null);
  assert.equal(toldUpTo(state, later), 0);
  live.revision += 1;
  assert.equal(toldUpTo(state, live), null, 'nobody is told of it');
  live.noticedAt = live.revision;
  assert.equal(toldUpTo(state, live), live.revision - 1);
});

test('many cursors take several events of bounded size, and none at all still takes one', () => {
  const cursors = new Map(Array.from({ length: 2500 }, (_, n) => [`job-${n}`, { position: n + 1, done: n % 2 === 0 }]));
  const events = cursorEvents(cursors);
  assert.equal(events.length, 3);
  const state = emptyDeliveryState();
  for (const event of events) {
    assert.ok(JSON.stringify(event).length < 100_000);
    moveCursors(state, event, 1);
  }
  assert.deepEqual([state.open.size, state.done.size], [1250, 1250]);
  assert.equal(cursorEvents(new Map()).length, 1);
});
