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

test('whatever may be outdated is told with the reason, and with what to do where the journal is the reason', () => {
  let trouble: string | null = null;
  let leader: { id: string; address: string; term: number } | null = null;
  const office = new Office(
    () => leader,
    () => trouble,
  );
  assert.equal(office.staleReason, 'no coordinator leads just now');
  assert.throws(() => office.requireLead(), { hint: 'Try again in a few seconds.' });
  trouble = 'no connection to NATS';
  assert.equal(office.staleReason, 'no coordinator leads just now: no connection to NATS');
  assert.throws(() => office.requireLead(), { message: office.staleReason, hint: /clipfarm doctor --journal nats:/ });
  leader = { id: 'other', address: 'h:1', term: 3 };
  assert.equal(office.staleReason, "this coordinator follows, and can't: no connection to NATS");
  trouble = null;
  assert.equal(office.staleReason, null);
  trouble = 'no connection to NATS';
  leader = null;
  office.enter(4);
  assert.equal(office.staleReason, null);
});
