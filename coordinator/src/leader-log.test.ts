import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import { createLogger } from '@clipfarm/shared/log';
import { LeaderBoard } from './journal/leader-board.ts';
import { logLeaders } from './leader-log.ts';

/** A board that one coordinator looks at, and what that one logs: level, message, and fields. */
function watched(clock: ManualClock, board = new LeaderBoard()) {
  const lines: unknown[] = [];
  const write = (text: string) => {
    const { level, msg, time: _time, pid: _pid, hostname: _host, name: _name, ...fields } = JSON.parse(text);
    lines.push([level, msg, fields]);
  };
  const stop = logLeaders(board, 'own', clock, createLogger({ name: 'test', destination: { write } }));
  return { board, lines, stop };
}

const first = { id: 'a', address: 'a:7400', term: 3 };
const second = { id: 'b', address: 'b:7400', term: 9 };

test('a follower says whom it follows, that the leader is gone, and who leads then, with the time without one', () => {
  const clock = new ManualClock();
  const { board, lines, stop } = watched(clock);
  board.set(first);
  const lastSign = clock.monotonic();
  clock.advance(4000);
  board.set(null, lastSign);
  clock.advance(250);
  board.set(second);
  board.set(second);
  stop();
  board.set(null, clock.monotonic());
  assert.deepEqual(lines, [
    [30, 'following the coordinator that leads', { leader: 'a:7400', term: 3 }],
    [
      40,
      'the leader is gone: nobody leads until another coordinator takes over',
      { leader: 'a:7400', term: 3, silent_seconds: 4 },
    ],
    [30, 'following another coordinator, which leads now', { leader: 'b:7400', term: 9, leaderless_seconds: 4.25 }],
  ]);
});

test('a leader that was followed by another before anybody noticed counts from its last sign, too', () => {
  const clock = new ManualClock();
  const { board, lines } = watched(clock);
  board.set(first);
  const lastSign = clock.monotonic();
  clock.advance(5000);
  board.set(second, lastSign);
  assert.deepEqual(lines.at(-1), [
    30,
    'following another coordinator, which leads now',
    { leader: 'b:7400', term: 9, leaderless_seconds: 5 },
  ]);
});

test('what a coordinator does as the leader it does not say here, and whom it follows after that it does', () => {
  const clock = new ManualClock();
  const { board, lines } = watched(clock);
  board.set({ id: 'own', address: 'own:7400', term: 1 });
  board.vacate(1, clock.monotonic());
  assert.deepEqual(lines, []);
  clock.advance(500);
  board.set(second);
  assert.deepEqual(lines, [
    [30, 'following another coordinator, which leads now', { leader: 'b:7400', term: 9, leaderless_seconds: 0.5 }],
  ]);
});

test('a leader that was known before anybody listened is told of, too', () => {
  const board = new LeaderBoard();
  board.set(first);
  const { lines } = watched(new ManualClock(), board);
  assert.deepEqual(lines, [[30, 'following the coordinator that leads', { leader: 'a:7400', term: 3 }]]);
});
