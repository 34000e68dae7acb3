import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Standing, whyNoNode } from './standing.ts';

const drained: Standing = { name: 'ann', status: 'draining', reason: 'new disk' };
const lost: Standing = { name: 'bob', status: 'lost', reason: 'no sign of life' };
const left: Standing = { name: 'cyd', status: 'left', reason: '' };

for (const [nodes, text] of [
  [[], 'waits for a node: none is online'],
  [[lost], 'waits for a node: none is online; bob is lost: no sign of life'],
  [[left, lost], 'waits for a node: none is online; bob is lost: no sign of life; cyd has left'],
  [[lost, drained], 'waits for a node: ann is drained: new disk; bob is lost: no sign of life'],
  [
    [lost, lost, lost, left, { ...drained, status: 'quarantined' }],
    'waits for a node: ann is quarantined: new disk; bob is lost: no sign of life; bob is lost: no sign of life; and 2 more',
  ],
] as const) {
  test(`with ${nodes.length} nodes that take no work: "${text.slice(0, 60)}"`, () => {
    assert.equal(whyNoNode(nodes), text);
  });
}
