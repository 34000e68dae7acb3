import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FarmError } from './errors.ts';
import { createLogger, type LoggerOptions } from './log.ts';
import { Secret } from './secret.ts';

function capture(options: Partial<LoggerOptions> = {}) {
  const lines: string[] = [];
  const destination = { write: (line: string) => void lines.push(line) };
  return { lines, logger: createLogger({ name: 'coordinator', destination, ...options }) };
}

test('a line is JSON with name, ISO time and level, and levels below the chosen one are dropped', () => {
  const { lines, logger } = capture({ level: 'warn' });
  logger.info('quiet');
  logger.warn({ job: 'j1' }, 'late');
  assert.equal(lines.length, 1);
  const line = JSON.parse(lines[0] ?? '');
  assert.deepEqual([line.name, line.level, line.msg, line.job], ['coordinator', 40, 'late', 'j1']);
  assert.equal(new Date(line.time).toISOString(), line.time);
});

test('no planted secret gets through, whichever way it is logged', () => {
  for (const pretty of [false, true]) {
    const { lines, logger } = capture({ level: 'trace', pretty });
    const secret = new Secret('canary-1');
    logger.info({ secret, a: { b: { c: { d: { anything: secret } } } } }, `with ${secret}`);
    logger.info({ token: 'canary-2', config: { token: 'canary-3', tls: { password: 'canary-4' } } });
    logger.info({ headers: { authorization: 'Bearer canary-5' } });
    const error = new FarmError('unavailable', 'cannot reach https://user:canary-6@host/x', {
      hint: 'at nats://canary-7@h',
    });
    logger.error({ err: error }, 'failed');
    logger.error(error);
    logger.info('dialling http://user:canary-0@host');
    logger.error(Object.assign(new Error('x'), { request: { url: 'http://u:canary-8@h' } }));
    logger.child({ token: 'canary-9' }).info('child');
    assert.doesNotMatch(lines.join(''), /canary/);
    assert.match(lines.join(''), /redacted/);
    assert.match(lines.join(''), /log\.test\.ts/, 'stacks are kept');
  }
});

test('an error with a cycle is still logged', () => {
  const { lines, logger } = capture();
  const error = Object.assign(new Error('round'), { self: {} as object });
  error.self = { error };
  logger.error({ err: error });
  assert.match(lines.join(''), /round/);
});

test('pretty lines read as time, level, component, message and fields', () => {
  const { lines, logger } = capture({ pretty: true });
  logger.info({ job: 'j1', reason: 'two words', count: 3 }, 'accepted');
  assert.match(
    lines[0] ?? '',
    /^\d\d:\d\d:\d\d\.\d{3} INFO {2}coordinator: accepted job=j1 reason="two words" count=3\n$/,
  );
});

/** What a terminal obeys: a colour, its one-byte form, a line of one's own, and what turns the rest of a line round. */
const HOSTILE = 'a\u001b[31mb\u009b2Jc\u007f\n12:00:00.000 INFO  coordinator: forged\u2028d\u202ee';

test('what others have said reaches a terminal as text, whichever way it is logged', () => {
  for (const pretty of [false, true]) {
    const { lines, logger } = capture({ pretty });
    const error = new FarmError('internal', HOSTILE, { hint: HOSTILE });
    logger.info({ [HOSTILE]: HOSTILE, text: { deep: [HOSTILE] }, name_of: HOSTILE.replaceAll(/\s/g, '') }, HOSTILE);
    logger.child({ node: HOSTILE }).error({ err: error }, 'failed');
    logger.error(error);
    assert.doesNotMatch(lines.join('').replaceAll('\n', ''), /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/u);
    assert.doesNotMatch(lines.join(''), /^12:00:00/m, 'a forged line');
    if (!pretty) for (const line of lines) JSON.parse(line);
  }
  const { lines, logger } = capture();
  logger.info({ text: HOSTILE }, HOSTILE);
  const line = JSON.parse(lines[0] ?? '');
  assert.deepEqual([line.msg, line.text], [HOSTILE, HOSTILE], 'nothing is lost');
});

test('pretty lines show what they escape, and the stack further in', () => {
  const { lines, logger } = capture({ pretty: true });
  const err = Object.assign(new Error('x'), { stack: 'Error: x\nfirst\u001b[2J\n    at there' });
  logger.error({ err, id: 'a\u001b[31m' }, 'two\nlines');
  assert.match(
    lines[0] ?? '',
    /ERROR coordinator: two\\nlines id=a\\u001b\[31m\n {2}Error: x\n {2}first\\u001b\[2J\n {6}at there\n$/,
  );
});
