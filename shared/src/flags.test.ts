import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseFlags } from './flags.ts';

const options = { slots: { type: 'string' }, insecure: { type: 'boolean' } } as const;
const parse = (...argv: string[]) => parseFlags(argv, options, 'clipfarm agent --help');

test('flags come with their values', () => {
  assert.deepEqual({ ...parse('--slots', '2', '--insecure') }, { slots: '2', insecure: true });
  assert.equal(parse('--slots=-1').slots, '-1');
});

test('a flag that can not be read is named in one line, with the help that explains it', () => {
  const cases: readonly (readonly [argv: string[], message: RegExp])[] = [
    [['--bogus'], /^Unknown option '--bogus'$/],
    [['--slots'], /^Option '--slots <value>' argument missing$/],
    [['--slots', '-1'], /^--slots: the value is missing; one that begins with a dash is written --slots=-VALUE$/],
    [['--insecure=yes'], /^Option '--insecure' does not take an argument$/],
    [['extra'], /^Unexpected argument 'extra'$/],
  ];
  for (const [argv, message] of cases) {
    assert.throws(() => parse(...argv), { code: 'invalid_argument', message, hint: 'clipfarm agent --help' });
  }
});
