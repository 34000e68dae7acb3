import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkPrompt, MAX_PROMPT_CHARACTERS, promptCharacters, promptNotes } from './prompt.ts';

test('characters are counted as Unicode counts them, not as UTF-16 does', () => {
  assert.equal(promptCharacters('a👩🏽‍🚀é'), 6);
  checkPrompt('👩'.repeat(MAX_PROMPT_CHARACTERS));
  assert.throws(() => checkPrompt('👩'.repeat(MAX_PROMPT_CHARACTERS + 1)), {
    code: 'invalid_argument',
    field: 'prompt',
    message: 'prompt has 4001 characters; accepted: at most 4000 characters of Unicode text without zero bytes',
  });
});

test('whatever a program can be given as an argument is accepted', () => {
  for (const prompt of [
    '',
    ' ',
    '-x',
    '--fp8',
    'a\nb\r\n\tc',
    '"\'`$(id)\\',
    '北京',
    'e\u0301',
    '\u202e',
    '\u0007',
    '\ufeff',
  ]) {
    checkPrompt(prompt);
  }
});

test('what would not arrive as it is is refused', () => {
  assert.throws(() => checkPrompt('ab\0c'), { field: 'prompt', message: /^prompt has a zero byte at character 3;/ });
  assert.throws(() => checkPrompt('a\ud83d'), { field: 'prompt', message: /half of a surrogate pair/ });
  assert.throws(() => checkPrompt('\0', 'prompt_file'), { field: 'prompt_file', message: /^prompt_file has/ });
});

test('a remark tells of prompts that the model may not read to their end', () => {
  assert.deepEqual(promptNotes('a woman talks to the camera. '.repeat(50)), []);
  assert.deepEqual(promptNotes('北'.repeat(500)), []);
  for (const long of ['a woman talks to the camera. '.repeat(100), '北'.repeat(600)]) {
    const [note, ...more] = promptNotes(long);
    assert.match(note ?? '', /^prompt has \d+ characters: the model reads 512 tokens/);
    assert.deepEqual(more, []);
  }
});
