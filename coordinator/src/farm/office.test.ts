import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Office } from './office.ts';

test('whoever stood still until the lead was gone leads no more, before anything has told the office so', async () => {
  const office = new Office(() => null);
  let holds = true;
  office.enter(7, () => holds);
  office.taken();
  assert.deepEqual([office.leads, office.termInOffice, office.term], [true, 7, 7]);
  holds = false;
  assert.deepEqual([office.leads, office.termInOffice], [false, null]);
  const refusal = { code: 'unavailable', message: /no coordinator leads just now/ };
  assert.throws(() => office.term, refusal);
  await assert.rejects(office.whenTaken(), refusal);
  assert.deepEqual([office.leave(), office.leave()], [true, false], 'what it began is still to be laid down, once');
});
