import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backoffDelay } from '@clipfarm/shared/backoff';
import { readEnvironment } from './shell.ts';
import { parseBoolean, parseChoice, parseDeadline, parseInteger, parseNumber, parseSeconds } from './values.ts';

const now = Date.UTC(2030, 0, 1);

test('numbers are decimal, and the refusal names flag, text and what is accepted', () => {
  assert.equal(parseNumber('sample_guide_scale', '0'), 0);
  assert.equal(parseNumber('x', '-1.5e3'), -1500);
  for (const text of ['', ' ', '0x10', '1,5', 'NaN', 'Infinity', '1_000', '--1']) {
    assert.throws(() => parseNumber('num_clip', text), {
      field: 'num_clip',
      message: /^num_clip is .*accepted: a number/,
    });
  }
});

test('integers have bounds', () => {
  assert.equal(parseInteger('priority', '-100', -100, 100), -100);
  for (const text of ['101', '1.5', 'ten', '9'.repeat(30)]) {
    assert.throws(() => parseInteger('priority', text, -100, 100), /accepted: an integer of -100 to 100/);
  }
  assert.throws(() => parseSeconds('seconds-per-clip', '0', 0.01, 10), /accepted: 0.01 to 10 seconds/);
});

test('booleans and choices take the listed spellings only', () => {
  assert.equal(parseBoolean('enable_online_decode', 'True'), true);
  assert.equal(parseBoolean('enable_online_decode', '0'), false);
  assert.throws(() => parseBoolean('enable_online_decode', 'maybe'), /accepted: true or false/);
  assert.throws(() => parseChoice('anchor', 'clip', ['first_frame', 'image']), /accepted: first_frame, image/);
});

test('a deadline is a span from now or a time to come with its zone', () => {
  assert.equal(parseDeadline('90m', now).getTime(), now + 5_400_000);
  assert.equal(parseDeadline('+2d', now).getTime(), now + 172_800_000);
  assert.equal(parseDeadline('2030-05-01T18:00:00+02:00', now).toISOString(), '2030-05-01T16:00:00.000Z');
  for (const text of [
    '0m',
    '2029-05-01T18:00:00Z',
    '2030-05-01',
    '2030-05-01T18:00:00',
    'tomorrow',
    '2030-99-01T18:00:00Z',
  ]) {
    assert.throws(() => parseDeadline(text, now), { field: 'deadline', message: /accepted: a time span/ });
  }
});

test('waiting times double up to their limit', () => {
  const delays = [1, 2, 3, 4, 5, 1000].map((failures) => backoffDelay({ firstMillis: 500, maxMillis: 5000 }, failures));
  assert.deepEqual(delays, [500, 1000, 2000, 4000, 5000, 5000]);
});

test('empty environment variables count as unset, and TERM=dumb means no colours', () => {
  const environment = readEnvironment({ CLIPFARM_COORDINATOR: '', NO_COLOR: '', TERM: 'dumb' }, '/home/me');
  assert.equal(environment.coordinator, undefined);
  assert.equal(environment.home, '/home/me/.clipfarm');
  assert.equal(environment.plain, true);
  assert.equal(readEnvironment({ NO_COLOR: '1', CLIPFARM_HOME: '/data' }, '/home/me').home, '/data');
});
