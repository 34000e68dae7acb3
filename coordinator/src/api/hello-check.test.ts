import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkTerm } from './hello-check.ts';

test('an agent that knows a later leader of the same farm is refused, whoever else knows what', () => {
  assert.throws(() => checkTerm({ farmId: 'a', term: 8 }, 'a', 7), {
    code: 'unavailable',
    message: 'the agent knows term 8 of this farm, this coordinator leads in term 7',
  });
  checkTerm({ farmId: 'a', term: 7 }, 'a', 7);
  checkTerm({ farmId: 'b', term: 8 }, 'a', 7);
  checkTerm({ farmId: '', term: 0 }, 'a', 1);
});
