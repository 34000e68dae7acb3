import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { JobEvent } from '../../coordinator/src/core/job-events.ts';
import type { LeaseState } from '../../coordinator/src/core/job-model.ts';
import { contentRef, jobDefinition } from '../../coordinator/src/core/test-jobs.ts';
import { JobInvariants } from './job-invariants.ts';

const submitted: JobEvent = { type: 'JobSubmitted', definition: jobDefinition({ clips: 4 }), priority: 0 };

function grant(leaseId: string, start: number, end: number, more: Partial<LeaseState> = {}): JobEvent {
  const at = { nodeId: 'n', slotId: 's', profile: 'p', span: 0, preRoll: 0, grantedAt: 0 };
  const lease = { leaseId, start, end, grantedEnd: end, speculative: false, ...at, ...more };
  return { type: 'LeaseGranted', lease, reason: 'pending' };
}

function commit(leaseId: string, clip: number, nodeId = 'n'): JobEvent {
  const record = { clip, leaseId, nodeId, slotId: 's', span: 0, chunk: contentRef('c'), frames: 48 };
  return { type: 'ClipCommitted', record, headerHash: 'h' };
}

const end = (leaseId: string, reason = 'done'): JobEvent => ({
  type: 'LeaseEnded',
  leaseId,
  cause: 'completed',
  reason,
});
const lost = (clip: number): JobEvent => ({ type: 'ClipLost', clip, reason: 'gone' });

function play(events: readonly JobEvent[]): JobInvariants {
  const history = new JobInvariants('job-1');
  for (const event of [submitted, ...events]) history.take(event);
  return history;
}

describe('the invariants of a job', () => {
  it('accept a history in which a clip is lost and a lease duplicated', () => {
    const twice = grant('b', 1, 2, { nodeId: 'm', speculative: true });
    const first = [grant('a', 0, 2), commit('a', 0), twice, commit('b', 1, 'm'), end('a'), end('b')];
    const again = [lost(0), grant('c', 0, 1), commit('c', 0)];
    assert.equal(play([...first, ...again]).committed, 2);
  });

  for (const [what, events, message] of [
    ['two holders of a clip', [grant('a', 0, 2), grant('b', 1, 3)], /clip 1 is leased twice/],
    [
      'a lease over a committed clip',
      [grant('a', 0, 1), commit('a', 0), end('a'), grant('b', 0, 2)],
      /although committed/,
    ],
    ['a second commit', [grant('a', 0, 2), commit('a', 0), commit('a', 0)], /clip 0 is committed twice/],
    ['a commit of another node', [grant('a', 0, 2), commit('a', 0, 'm')], /was not given to m/],
    ['a commit of what was not leased', [grant('a', 0, 2), commit('a', 2)], /never covered clip 2/],
    [
      'a lease that grows',
      [grant('a', 0, 2), { type: 'LeaseShrunk', leaseId: 'a', end: 3, reason: 'r' }],
      /only shrink/,
    ],
    ['a lease that is given twice', [grant('a', 0, 1), end('a'), grant('a', 1, 2)], /granted twice/],
    ['an end without a reason', [grant('a', 0, 1), end('a', '')], /has no reason/],
  ] as const satisfies readonly (readonly [string, readonly JobEvent[], RegExp])[]) {
    it(`refuse ${what}`, () => {
      assert.throws(() => play(events), message);
    });
  }

  it('refuse what a leader of an older term writes', () => {
    const history = play([]);
    history.take({ type: 'TermOpened', term: 7 }, 7);
    assert.throws(() => history.take(grant('a', 0, 1), 6), /written in term 6 after 7/);
  });
});
