import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Grant } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { leaseTaskFromGrant } from './lease-task.ts';

const ref = { sha256: 'ab'.repeat(32), bytes: 100 };
const task = {
  ...{ width: 704, height: 384, clips: 10, frames: 470, sampleSteps: 4, baseSeed: 7, prompt: 'p' },
  ...{ reference: ref, audio: ref },
};
const fields = { leaseId: 'l', jobId: 'j', slotId: 's', span: 2, start: 3, end: 6, preRoll: 1, hangSeconds: 5 };

test('a grant becomes a task with everything in it', () => {
  const lease = leaseTaskFromGrant(Grant.fromPartial({ ...fields, task }), 'farm-1');
  assert.deepEqual(lease, { farmId: 'farm-1', ...fields, ...task, continues: null, anchor: null, makeAnchor: false });
});

for (const [name, change, message] of [
  ['no task', { task: undefined }, /task: is missing/],
  ['no clips', { end: 3 }, /end is 3; accepted: an integer of 4 or more/],
  ['clips outside the job', { end: 11 }, /end is 11; accepted: an end within the clips of the job/],
  ['no pre-roll where clips precede', { preRoll: 0 }, /pre_roll is 0/],
  ['too much pre-roll', { preRoll: 4 }, /pre_roll is 4/],
  ['no time', { hangSeconds: 0 }, /hang_seconds is 0; accepted: more than 0/],
  [
    'frames that do not fit the clips',
    { task: { ...task, frames: 480 + 1 } },
    /frames is 481; accepted: frames that end within the last clip/,
  ],
  ['an odd width', { task: { ...task, width: 703 } }, /width is 703; accepted: a multiple of 2/],
  [
    'a hash that is a path',
    { task: { ...task, audio: { ...ref, sha256: '../../etc/passwd' } } },
    /audio\.sha256 is .*etc.*; accepted: a SHA-256 in lower-case hex/,
  ],
  [
    'an anchor from the middle',
    { task: { ...task, makeAnchor: true } },
    /make_anchor is true; accepted: false, save for/,
  ],
  ['an absurd id', { leaseId: '../x' }, /lease_id is "\.\.\/x"; accepted: 1 to 128 letters/],
] as const) {
  test(`refuses ${name}`, () => {
    assert.throws(() => leaseTaskFromGrant(Grant.fromPartial({ ...fields, task, ...change }), 'farm-1'), { message });
  });
}
