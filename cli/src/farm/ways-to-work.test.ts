import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NodeState, SlotState } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { node } from '../testing/farm-fixtures.ts';
import { listed, waysToWork, whyAway } from './ways-to-work.ts';

const { NODE_STATE_DRAINING, NODE_STATE_LEFT, NODE_STATE_LOST, NODE_STATE_QUARANTINED } = NodeState;

const inState = (state: NodeState, ...names: string[]) => names.map((name) => ({ ...node(name, name), state }));

test('each kind of node that takes no work has a way to bring it back, in one sentence', () => {
  const nodes = [
    ...inState(NODE_STATE_LEFT, 'dan'),
    ...inState(NODE_STATE_DRAINING, 'ann', 'host 3'),
    ...inState(NODE_STATE_LOST, 'bob', 'b2', 'b3', 'b4', 'b5'),
    ...inState(NODE_STATE_QUARANTINED, 'cyd'),
    node('on', 'on'),
  ];
  assert.deepEqual(waysToWork(nodes, 'farm:7400'), [
    "Let ann and host 3 work again: clipfarm node undrain ann; clipfarm node undrain 'host 3'",
    'Mend cyd, then: clipfarm node undrain cyd',
    'Look on the host of bob, b2, b3 and 2 more whether the agent runs and reaches the coordinator.',
    'Start the agent of dan again: it was stopped.',
  ]);
});

test('slots that recover are mended on their host', () => {
  const [slot] = node('n', 'ann').slots;
  const ill = { ...(slot ?? assert.fail('no slot')), state: SlotState.SLOT_STATE_RECOVERING };
  assert.match(waysToWork([{ ...node('n', 'ann'), slots: [ill] }], 'farm:7400').join(), /^Mend the slots of ann /);
});

test('without a node an agent is to be started', () => {
  assert.match(waysToWork([], 'farm:7400').join(), /^Start an agent: clipfarm agent --coordinator farm:7400;/);
});

test('a node says why it is away, in a sentence that begins with its name', () => {
  const [drained] = inState(NODE_STATE_DRAINING, 'ann');
  assert.equal(whyAway({ ...(drained ?? assert.fail()), stateReason: 'new disk' }), 'ann is drained: new disk');
  const [left] = inState(NODE_STATE_LEFT, 'bob');
  assert.equal(whyAway(left ?? assert.fail()), 'bob has left');
  assert.equal(whyAway(node('on', 'on')), undefined);
});

test('names are listed as in a sentence', () => {
  assert.deepEqual([['a'], ['a', 'b'], ['a', 'b', 'c', 'd']].map(listed), ['a', 'a and b', 'a, b, c and 1 more']);
});
