import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { jetStreamNames } from './jetstream-names.ts';
import { checkStreamName } from './journal.ts';

test('every stream name becomes one token that a key accepts too, and comes back', () => {
  const names = jetStreamNames('clipfarm');
  const stream = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}$/);
  fc.assert(
    fc.property(stream, (name) => {
      checkStreamName(name);
      const subject = names.subjectOf(name);
      assert.match(subject, /^clipfarm\.events\.[-_=A-Za-z0-9]+$/);
      assert.equal(names.streamOf(subject), name);
    }),
  );
  assert.equal(names.subjectOf('jobs/a.b'), 'clipfarm.events.jobs=2fa=2eb');
  assert.equal(names.streamOf(names.terms), null);
});

test('farms with different prefixes share no name, and a malformed prefix is refused by name', () => {
  const [one, two] = [jetStreamNames('one'), jetStreamNames('one-two')];
  for (const key of ['events', 'terms', 'snapshots', 'leader', 'eventSubjects'] as const) {
    assert.notEqual(one[key], two[key]);
  }
  for (const prefix of ['', 'A', 'a.b', 'a b', '*', '-a', 'x'.repeat(33)]) {
    assert.throws(() => jetStreamNames(prefix), { code: 'invalid_argument', field: 'prefix' });
  }
});
