import assert from 'node:assert/strict';
import { test } from 'node:test';
import { padEnd, printable, truncate, widthOf } from './text.ts';
import { age, bytes, duration, gpuTime, mediaLength, percent, speed } from './units.ts';

test('text from elsewhere can neither move the cursor nor start a new line', () => {
  assert.equal(printable('a\u001b[2Jb\r\nc\u0007\u009b31md'), 'ab c d');
  assert.equal(printable('plain – text 日本'), 'plain – text 日本');
  assert.equal(printable('a\u2028b\u202egpj.\u2066x'), 'a bgpj.x');
  assert.equal(printable('שלום\u200f 👩🏽‍🎤'), 'שלום\u200f 👩🏽‍🎤', 'marks that scripts and emoji need stay');
});

test('wide characters count as two columns when text is cut or padded', () => {
  assert.equal(widthOf('日本'), 4);
  assert.equal(truncate('日本語', 5), '日本…');
  assert.equal(truncate('abc', 3), 'abc');
  assert.equal(truncate('abcd', 3), 'ab…');
  assert.equal(truncate('abcd', 0), '');
  assert.equal(padEnd('日本', 6), '日本  ');
});

test('the time of GPUs is told in a unit of which there is one', () => {
  const told = [0.2, 1, 50, 59.4, 64, 3500, 3600, 45_000].map(gpuTime);
  const [none, one, ...more] = told;
  assert.deepEqual([none, one], ['1 GPU-second', '1 GPU-second']);
  assert.deepEqual(more, [
    ...['50 GPU-seconds', '59 GPU-seconds', '1.1 GPU-minutes', '58.3 GPU-minutes'],
    ...['1.0 GPU-hours', '12.5 GPU-hours'],
  ]);
});

test('a duration reaches 0:00 only at the end', () => {
  assert.equal(duration(0), '0:00');
  assert.equal(duration(0.01), '0:01');
  assert.equal(duration(59.2), '1:00');
  assert.equal(duration(3723), '1:02:03');
  assert.equal(duration(-4), '0:00');
});

test('the length of a video is told to the nearest second, a short one with tenths', () => {
  assert.equal(mediaLength(0.04), '0.0 s');
  assert.equal(mediaLength(5.76), '5.8 s');
  assert.equal(mediaLength(9.96), '0:10');
  assert.equal(mediaLength(61.16), '1:01');
  assert.equal(mediaLength(3723), '1:02:03');
});

test('bytes, speeds, shares and ages are short and never overstate', () => {
  assert.equal(bytes(0), '0 B');
  assert.equal(bytes(812), '812 B');
  assert.equal(bytes(999_960), '1.0 MB');
  assert.equal(bytes(4_200_000_000_000_000), '4200.0 TB');
  assert.equal(speed(0.042), '0.04x');
  assert.equal(speed(1.43), '1.4x');
  assert.equal(percent(0.999), '99%');
  assert.equal(percent(1), '100%');
  assert.equal(percent(7), '100%');
  assert.equal(age(89), '89 s');
  assert.equal(age(3600), '60 min');
  assert.equal(age(7200), '2 h');
  assert.equal(age(200_000), '2 d');
});
