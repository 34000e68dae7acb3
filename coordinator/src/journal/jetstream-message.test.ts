import assert from 'node:assert/strict';
import { test } from 'node:test';
import { appendText, messageText, storedAppends } from './jetstream-message.ts';

const encode = (text: string) => new TextEncoder().encode(text);

test('the appends of a message come back one by one, numbered through', () => {
  const texts = [
    appendText(
      's',
      [
        { type: 'a', data: { x: 'ü' } },
        { type: 'b"', data: null },
      ],
      { at: 5, term: 2 },
    ),
    appendText('s', [{ type: 'c', data: [1] }], { at: 6, term: 3 }),
  ];
  assert.deepEqual(storedAppends('s', 9, encode(messageText(41, texts))), [
    [
      { stream: 's', position: 41, at: 5, term: 2, type: 'a', data: { x: 'ü' } },
      { stream: 's', position: 42, at: 5, term: 2, type: 'b"', data: null },
    ],
    [{ stream: 's', position: 43, at: 6, term: 3, type: 'c', data: [1] }],
  ]);
});

test('a message of a newer version is told apart from a damaged one', () => {
  assert.throws(() => storedAppends('s', 9, encode('{"v":2,"first":1}')), {
    code: 'failed_precondition',
    message: /has form 2; this version of Clipfarm knows 1/,
    hint: /newer version/,
  });
  for (const text of [
    '',
    'hello',
    'null',
    '[]',
    '{"v":1}',
    '{"v":1,"first":1,"appends":7}',
    messageText(1, []).slice(1),
  ]) {
    assert.throws(() => storedAppends('s', 9, encode(text)), {
      code: 'internal',
      message: /message 9 of s is no journal/,
    });
  }
});
