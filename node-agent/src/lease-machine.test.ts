import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { currentClip, idle, type LeaseAction, type LeaseEvent, type LeaseState, stepLease } from './lease-machine.ts';
import type { LeaseTask } from './lease-task.ts';

const ref = { sha256: 'a'.repeat(64), bytes: 1 };

function lease(id: string, start: number, end: number): LeaseTask {
  return {
    farmId: '',
    leaseId: id,
    jobId: 'job-1',
    slotId: 'slot-1',
    span: 0,
    start,
    end,
    preRoll: start === 0 ? 0 : 1,
    continues: null,
    clips: 20,
    frames: 960,
    width: 256,
    height: 256,
    sampleSteps: 4,
    baseSeed: 1,
    prompt: '',
    reference: ref,
    audio: ref,
    anchor: null,
    makeAnchor: false,
    hangSeconds: 10,
  };
}

function run(events: readonly LeaseEvent[], from: LeaseState = idle) {
  let state = from;
  const actions: LeaseAction[] = [];
  for (const event of events) {
    const step = stepLease(state, event);
    state = step.state;
    actions.push(...step.actions);
  }
  return { state, actions, names: actions.map((action) => action.do) };
}

const granted: LeaseEvent = { type: 'grant', lease: lease('l1', 4, 8) };
const ready: LeaseEvent = { type: 'ready', leaseId: 'l1', setEnd: true };
const settled: LeaseEvent = { type: 'settled', leaseId: 'l1' };
const spanEnded = (end: number): LeaseEvent => ({ type: 'spanEnded', leaseId: 'l1', end });
const clipDone = (clip: number): LeaseEvent => ({ type: 'clipDone', leaseId: 'l1', clip });
const shrink = (end: number): LeaseEvent => ({ type: 'shrink', leaseId: 'l1', end });
const revoke: LeaseEvent = { type: 'revoke', leaseId: 'l1', reason: 'stolen' };
const stop: LeaseEvent = { type: 'stop', leaseId: 'l1', reason: 'draining' };

function outcomes(actions: readonly LeaseAction[]) {
  return actions.flatMap((action) => (action.do === 'report' ? [action.outcome] : []));
}

test('a lease is prepared, rendered, settled and reported as completed', () => {
  const { state, actions, names } = run([
    granted,
    ready,
    clipDone(3),
    clipDone(4),
    clipDone(5),
    clipDone(6),
    clipDone(7),
    spanEnded(8),
    settled,
  ]);
  assert.deepEqual(names, ['prepare', 'render', 'settle', 'report']);
  assert.deepEqual(outcomes(actions), [{ reason: 'completed' }]);
  assert.equal(state.kind, 'idle');
});

test('what a host can not go on with is given back at once: finished clips are settled, and nothing failed', () => {
  const giveBack: LeaseEvent = { type: 'giveBack', leaseId: 'l1', reason: 'the disk is full' };
  const outcome = { reason: 'stopped', message: 'the disk is full' };
  const rendering = run([granted, ready, clipDone(3), clipDone(4), giveBack]);
  assert.deepEqual(rendering.names, ['prepare', 'render', 'cancel', 'discardClip', 'settle']);
  assert.deepEqual(outcomes(run([spanEnded(5), settled], rendering.state).actions), [outcome]);
  assert.deepEqual(outcomes(run([granted, giveBack]).actions), [outcome]);
  const last = [granted, ready, clipDone(7), spanEnded(8)];
  assert.deepEqual(outcomes(run([...last, giveBack, settled]).actions), [outcome], 'its last clip is not kept');
  const failed: LeaseEvent = {
    ...{ type: 'failed', leaseId: 'l1', failureClass: 'environment', message: 'full', runner: 'busy' },
  };
  assert.deepEqual(outcomes(run([granted, ready, failed, giveBack, spanEnded(4), settled]).actions), [
    { reason: 'failed', failureClass: 'environment', message: 'full' },
  ]);
});

test('a repeated grant of the lease in hand changes nothing, a grant of another one is refused', () => {
  const before = run([granted, ready]).state;
  assert.deepEqual(stepLease(before, granted), { state: before, actions: [] });
  const other = stepLease(before, { type: 'grant', lease: lease('l2', 0, 2) });
  assert.equal(other.state, before);
  assert.equal(outcomes(other.actions)[0]?.reason, 'refused');
});

test('a grant that overtakes the last acknowledgement begins as soon as the lease before it is reported', () => {
  const { state, names } = run([
    granted,
    ready,
    spanEnded(8),
    { type: 'grant', lease: lease('l2', 0, 2) },
    settled,
    { type: 'ready', leaseId: 'l2', setEnd: true },
  ]);
  assert.deepEqual(names, ['prepare', 'render', 'settle', 'report', 'prepare', 'render']);
  assert.equal(state.kind === 'rendering' && state.lease.leaseId, 'l2');
});

test('a lease that waits for its slot can be shrunk and revoked', () => {
  const waiting = run([granted, ready, spanEnded(8), { type: 'grant', lease: lease('l2', 0, 9) }]);
  const shorter = run([{ type: 'shrink', leaseId: 'l2', end: 3 }, settled], waiting.state);
  assert.equal(shorter.state.kind === 'loading' && shorter.state.end, 3);
  const gone = run([{ type: 'revoke', leaseId: 'l2', reason: 'x' }, settled], waiting.state);
  assert.deepEqual(outcomes(gone.actions), [{ reason: 'stopped', message: 'x' }, { reason: 'completed' }]);
  assert.equal(gone.state.kind, 'idle');
});

test('a shrink behind the clip in hand moves the end; repeats and later ends do nothing', () => {
  const { actions, names } = run([
    granted,
    ready,
    clipDone(3),
    clipDone(4),
    shrink(7),
    shrink(7),
    shrink(8),
    shrink(6),
  ]);
  assert.deepEqual(names, ['prepare', 'render', 'setEnd', 'setEnd']);
  assert.deepEqual(actions.at(-1), { do: 'setEnd', leaseId: 'l1', end: 6 });
});

test('a shrink to the end of the clip in hand finishes it, a shrink before it throws it away and completes', () => {
  const atClip5 = run([granted, ready, clipDone(3), clipDone(4)]).state;
  assert.equal(currentClip(atClip5), 5);
  assert.deepEqual(run([shrink(6)], atClip5).names, ['setEnd']);
  const cut = run([shrink(5), spanEnded(5), settled], atClip5);
  assert.deepEqual(cut.names, ['cancel', 'discardClip', 'settle', 'report']);
  assert.deepEqual(outcomes(cut.actions), [{ reason: 'completed' }]);
});

test('a shrink during the pre-roll that leaves no clip cancels the lease', () => {
  const { names } = run([granted, ready, shrink(4), spanEnded(3), settled]);
  assert.deepEqual(names.slice(2), ['cancel', 'discardClip', 'settle', 'report']);
});

test('a revoke cancels at once and does not wait for verdicts', () => {
  const { actions, names } = run([granted, ready, clipDone(3), revoke, revoke, settled, spanEnded(4)]);
  assert.deepEqual(names.slice(2), ['cancel', 'discardClip', 'settle', 'report']);
  assert.deepEqual(actions[4], { do: 'settle', leaseId: 'l1', acknowledged: false });
  assert.deepEqual(outcomes(actions), [{ reason: 'stopped', message: 'stolen' }]);
});

test('a runner that does not confirm a cancel is killed, and the lease is reported once it is gone', () => {
  const { names, state } = run([granted, ready, revoke, settled, { type: 'cancelTimeout', leaseId: 'l1' }]);
  assert.equal(names.at(-1), 'killRunner');
  assert.equal(state.kind, 'ending');
  const gone = run([{ type: 'runnerGone', leaseId: 'l1', message: 'killed' }], state);
  assert.deepEqual(outcomes(gone.actions), [{ reason: 'stopped', message: 'stolen' }]);
});

test('a stop finishes the clip in hand and hands back the rest', () => {
  const { actions } = run([granted, ready, clipDone(3), clipDone(4), stop, clipDone(5), spanEnded(6), settled]);
  assert.deepEqual(actions[2], { do: 'setEnd', leaseId: 'l1', end: 6 });
  assert.deepEqual(outcomes(actions), [{ reason: 'stopped', message: 'draining' }]);
});

test('a lease that goes on in the open call begins at its first clip and has no pre-roll to throw away', () => {
  const goesOn: LeaseEvent = { type: 'spanStarted', leaseId: 'l1', continued: true };
  const { state } = run([granted, ready, goesOn]);
  assert.equal(currentClip(state), 4);
  assert.deepEqual(run([stop], state).names, ['setEnd']);
  assert.equal(currentClip(run([granted, ready, { ...goesOn, continued: false }]).state), 3);
});

test('a runner that stops only at its own end is cut off behind the last clip that is wanted', () => {
  const fixed: LeaseEvent = { ...ready, setEnd: false };
  const forecast: LeaseEvent = { type: 'progress', leaseId: 'l1', clip: 7, fraction: 0.5 };
  const early = run([granted, fixed, forecast, shrink(6)]);
  assert.deepEqual(early.names, ['prepare', 'render', 'setEnd']);
  assert.deepEqual(outcomes(run([spanEnded(6), settled], early.state).actions), [{ reason: 'completed' }]);
  const shrunk = run([granted, fixed, clipDone(3), shrink(6), clipDone(4)]);
  assert.deepEqual(shrunk.names, ['prepare', 'render', 'setEnd']);
  const { actions, names } = run([clipDone(5), spanEnded(6), settled], shrunk.state);
  assert.deepEqual(names, ['cancel', 'discardClip', 'settle', 'report']);
  assert.deepEqual(outcomes(actions), [{ reason: 'completed' }]);
});

test('a stop of a runner that stops only at its own end waits for it', () => {
  const fixed: LeaseEvent = { ...ready, setEnd: false };
  const { actions, names } = run([granted, fixed, clipDone(4), stop, clipDone(7), spanEnded(8), settled]);
  assert.deepEqual(names, ['prepare', 'render', 'settle', 'report']);
  assert.deepEqual(outcomes(actions), [{ reason: 'completed' }]);
});

test('a stop in the last clip completes the lease; a stop in the pre-roll does not finish it', () => {
  const last = run([granted, ready, clipDone(6), stop, clipDone(7), spanEnded(8), settled]);
  assert.deepEqual(outcomes(last.actions), [{ reason: 'completed' }]);
  const early = run([granted, ready, stop, spanEnded(3), settled]);
  assert.deepEqual(early.names.slice(2), ['cancel', 'discardClip', 'settle', 'report']);
});

test('a runner that ends by itself is a crash with its message', () => {
  const { actions } = run([granted, ready, { type: 'runnerGone', leaseId: 'l1', message: 'SIGKILL' }, settled]);
  assert.deepEqual(outcomes(actions), [{ reason: 'failed', failureClass: 'crash', message: 'SIGKILL' }]);
});

test('a span that ends early without being asked is a crash', () => {
  assert.equal(outcomes(run([granted, ready, spanEnded(6), settled]).actions)[0]?.reason, 'failed');
});

test('a hang kills the runner and is reported as a hang although the runner then goes', () => {
  const { actions, names } = run([
    granted,
    ready,
    { type: 'failed', leaseId: 'l1', failureClass: 'hang', message: 'silent', runner: 'unusable' },
    { type: 'runnerGone', leaseId: 'l1', message: 'killed' },
    settled,
  ]);
  assert.deepEqual(names.slice(2), ['discardClip', 'killRunner', 'settle', 'report']);
  assert.deepEqual(outcomes(actions), [{ reason: 'failed', failureClass: 'hang', message: 'silent' }]);
});

test('a chunk refused while the last verdicts are awaited turns a completed lease into a failed one', () => {
  const refused: LeaseEvent = {
    type: 'failed',
    leaseId: 'l1',
    failureClass: 'bad_chunk',
    message: '47 frames',
    runner: 'busy',
  };
  const { actions } = run([granted, ready, spanEnded(8), refused, settled]);
  assert.deepEqual(outcomes(actions), [{ reason: 'failed', failureClass: 'bad_chunk', message: '47 frames' }]);
});

const leaseIds = fc.constantFrom('l1', 'l2', 'l3');
const anyEvent: fc.Arbitrary<LeaseEvent> = fc.oneof(
  fc.record({
    type: fc.constant('grant' as const),
    lease: fc
      .tuple(leaseIds, fc.integer({ min: 0, max: 10 }), fc.integer({ min: 1, max: 10 }))
      .map(([id, start, length]) => lease(id, start, start + length)),
  }),
  fc.record({
    type: fc.constantFrom('cancelTimeout' as const, 'settled' as const),
    leaseId: leaseIds,
  }),
  fc.record({ type: fc.constant('ready' as const), leaseId: leaseIds, setEnd: fc.boolean() }),
  fc.record({ type: fc.constant('spanStarted' as const), leaseId: leaseIds, continued: fc.boolean() }),
  fc.record({
    type: fc.constant('progress' as const),
    leaseId: leaseIds,
    clip: fc.nat(20),
    fraction: fc.double({ min: 0, max: 1, noNaN: true }),
  }),
  fc.record({ type: fc.constant('clipDone' as const), leaseId: leaseIds, clip: fc.nat(20) }),
  fc.record({ type: fc.constantFrom('shrink' as const, 'spanEnded' as const), leaseId: leaseIds, end: fc.nat(20) }),
  fc.record({
    type: fc.constantFrom('revoke' as const, 'stop' as const, 'giveBack' as const),
    leaseId: leaseIds,
    reason: fc.constant('r'),
  }),
  fc.record({ type: fc.constant('runnerGone' as const), leaseId: leaseIds, message: fc.constant('gone') }),
  fc.record({
    type: fc.constant('failed' as const),
    leaseId: leaseIds,
    failureClass: fc.constantFrom('crash' as const, 'hang' as const, 'bad_chunk' as const),
    message: fc.constant('m'),
    runner: fc.constantFrom('quiet' as const, 'busy' as const, 'unusable' as const),
  }),
);

test('in any history each lease that is begun is reported exactly once, and ends never grow', () => {
  fc.assert(
    fc.property(fc.array(anyEvent, { maxLength: 60 }), (events) => {
      let state: LeaseState = idle;
      let begun = 0;
      let reported = 0;
      for (const event of events) {
        const before: LeaseState = state;
        const step = stepLease(before, event);
        state = step.state;
        if (before.kind !== 'idle' && state.kind !== 'idle' && before.lease.leaseId === state.lease.leaseId) {
          if (before.kind !== 'ending' || state.kind === 'ending') assert.ok(state.end <= before.end);
        }
        for (const action of step.actions) {
          if (action.do === 'prepare') begun += 1;
          if (action.do === 'setEnd' && state.kind === 'rendering') assert.ok(action.end <= state.end);
          if (action.do !== 'report' || action.outcome.reason === 'refused') continue;
          if (before.kind === 'ending' && action.lease.leaseId === before.next?.leaseId) continue;
          reported += 1;
          assert.ok(before.kind !== 'idle');
          assert.equal(action.lease.leaseId, before.lease.leaseId);
        }
        assert.equal(begun - reported, state.kind === 'idle' ? 0 : 1);
      }
    }),
    { numRuns: 500 },
  );
});

test('from any state a revoke, a gone runner and settled chunks lead to idle', () => {
  fc.assert(
    fc.property(fc.array(anyEvent, { maxLength: 40 }), (events) => {
      let { state } = run(events);
      for (let round = 0; round < 2 && state.kind !== 'idle'; round += 1) {
        const { leaseId } = state.lease;
        state = run(
          [
            { type: 'revoke', leaseId, reason: 'end' },
            { type: 'runnerGone', leaseId, message: 'gone' },
            { type: 'settled', leaseId },
          ],
          state,
        ).state;
      }
      assert.equal(state.kind, 'idle');
    }),
    { numRuns: 500 },
  );
});

test('events of another lease change nothing', () => {
  fc.assert(
    fc.property(anyEvent, (event) => {
      fc.pre(event.type !== 'grant' && event.leaseId !== 'l1');
      const { state } = run([granted, ready]);
      assert.deepEqual(stepLease(state, event), { state, actions: [] });
    }),
  );
});
