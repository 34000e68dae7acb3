import assert from 'node:assert/strict';
import { test } from 'node:test';
import { z } from 'zod';
import { fieldProblem, firstProblem } from './field-problem.ts';

const schema = z.object({
  nodeId: z.string().regex(/^[a-z]+$/, 'letters'),
  slots: z.array(z.object({ maxUnits: z.number().int().nonnegative() })).max(2),
  hangSeconds: z.number().positive().max(60),
  width: z.number().multipleOf(2),
  name: z.string().max(5),
});

const right = { nodeId: 'n', slots: [{ maxUnits: 1 }], hangSeconds: 1, width: 2, name: 'n' };

for (const [change, field, message] of [
  [{ nodeId: '../x' }, 'hello.node_id', 'hello.node_id is "../x"; accepted: letters'],
  [{ nodeId: undefined }, 'hello.node_id', 'hello.node_id is missing; accepted: a value of type string'],
  [
    { slots: [1, 2, 3].map(() => ({ maxUnits: 0 })) },
    'hello.slots',
    'hello.slots has 3 entries; accepted: at most 2 entries',
  ],
  [{ slots: [{ maxUnits: -1 }] }, 'hello.slots[0].max_units', 'hello.slots[0].max_units is -1; accepted: at least 0'],
  [
    { slots: [{ maxUnits: 1.5 }] },
    'hello.slots[0].max_units',
    'hello.slots[0].max_units is 1.5; accepted: a whole number',
  ],
  [{ hangSeconds: 0 }, 'hello.hang_seconds', 'hello.hang_seconds is 0; accepted: more than 0'],
  [{ hangSeconds: Number.NaN }, 'hello.hang_seconds', 'hello.hang_seconds is NaN; accepted: a value of type number'],
  [{ width: 3 }, 'hello.width', 'hello.width is 3; accepted: a multiple of 2'],
  [{ name: 'too long' }, 'hello.name', 'hello.name is "too long"; accepted: at most 5 characters'],
] as const) {
  test(`says: ${message}`, () => {
    const given = { ...right, ...change };
    const issue = schema.safeParse(given).error?.issues[0] ?? assert.fail('accepted');
    assert.deepEqual(fieldProblem(issue, given, 'hello'), { field, message });
  });
}

test('a value of any length is cut', () => {
  const given = { ...right, nodeId: '/'.repeat(5000) };
  const issue = schema.safeParse(given).error?.issues[0] ?? assert.fail('accepted');
  const { field, message } = fieldProblem(issue, given, '');
  assert.equal(field, 'node_id');
  assert.match(message, /^node_id is "\/{80}"\.\.\. \(5000 characters\); accepted: letters$/);
});

test('a key that is not known or not accepted is told as it is written where it comes from', () => {
  const env = z.record(z.string().regex(/^[A-Z]+$/, 'capital letters'), z.string());
  const file = z.strictObject({ env: env.default({}) });
  const told = (given: unknown) => {
    const { error = assert.fail('accepted') } = file.safeParse(given);
    return firstProblem(error, given, 'profiles[0]', (key) => key).message;
  };
  assert.equal(told({ Env: {} }), 'profiles[0].Env is not known');
  assert.equal(told({ env: { aB: 'x' } }), 'profiles[0].env.aB is "x"; accepted: capital letters');
  assert.equal(told({ env: { PATH: 1 } }), 'profiles[0].env.PATH is 1; accepted: a value of type string');
});
