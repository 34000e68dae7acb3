import assert from 'node:assert/strict';
import { test } from 'node:test';
import { format, inspect } from 'node:util';
import { Secret } from './secret.ts';

test('no way of printing a secret shows it', () => {
  const secret = new Secret('canary-4711');
  const nested = { deep: [{ secret }], map: new Map([['k', secret]]) };
  const printed = [
    String(secret),
    `${secret}`,
    [secret].join(),
    JSON.stringify(nested),
    inspect(nested, { depth: null, showHidden: true }),
    format('%s %o %O %j', secret, secret, secret, secret),
    JSON.stringify(Object.entries(secret)),
    JSON.stringify({ ...secret }),
    String(new Error(`bad ${secret}`).stack),
    JSON.stringify(structuredClone({ ...secret })),
  ].join('\n');
  assert.doesNotMatch(printed, /canary/);
  assert.match(printed, /\[redacted\]/);
  assert.equal(secret.reveal(), 'canary-4711');
});

test('a secret matches only itself', () => {
  const secret = new Secret('abc');
  assert.ok(secret.matches('abc'));
  for (const other of ['', 'ab', 'abcd', 'abC', 'abc\0']) assert.ok(!secret.matches(other), JSON.stringify(other));
});
