import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  backsOff,
  blamesClip,
  isQuarantined,
  judgeFailure,
  MAX_ATTEMPTS,
  MAX_LOSSES,
  MAX_LOSSES_OF_FEW,
  type NodeFailure,
  POISON_NODES,
  quarantineUntil,
} from './failure-policy.ts';
import { type AttemptFailure, type ClipTrouble, type FailureClass, failureClasses } from './job-model.ts';

function failure(given: Partial<AttemptFailure> = {}): AttemptFailure {
  return { nodeId: 'n1', slotId: 's1', clip: 7, failureClass: 'crash', message: 'gone', at: 1000, ...given };
}

function trouble(given: Partial<ClipTrouble> = {}): ClipTrouble {
  return { nodes: [], attempts: 0, lostOn: [], shortages: 0, notBefore: 0, ...given };
}

/** Folds failures as `evolve` does, until the job is given up; how many it took. */
function attemptsUntilGivenUp(classOf: (attempt: number) => FailureClass, nodeOf: (attempt: number) => string): number {
  let known = trouble();
  for (let attempt = 1; attempt <= 1000; attempt++) {
    const f = failure({ failureClass: classOf(attempt), nodeId: nodeOf(attempt) });
    if (judgeFailure(f, known, false).action === 'fail_job') return attempt;
    const blamed = blamesClip(f.failureClass);
    const nodes = blamed ? [...new Set([...known.nodes, f.nodeId])] : known.nodes;
    const attempts = known.attempts + (blamed ? 1 : 0);
    const lostOn = f.failureClass === 'node_lost' ? [...known.lostOn, f.nodeId] : known.lostOn;
    const shortages = known.shortages + (f.failureClass === 'environment' ? 1 : 0);
    known = { nodes, attempts, lostOn, shortages, notBefore: 0 };
  }
  return Number.POSITIVE_INFINITY;
}

test('bad input fails the job at once and says where and why', () => {
  const verdict = judgeFailure(failure({ failureClass: 'bad_input', message: 'no face' }), undefined, false);
  assert.deepEqual(verdict, { action: 'fail_job', reason: 'bad_input at clip 7 on node n1: no face' });
});

test('a lost node is retried at once', () => {
  const verdict = judgeFailure(failure({ failureClass: 'node_lost' }), trouble({ attempts: 5 }), false);
  assert.deepEqual(verdict, { action: 'retry', retryAt: 1000 });
});

/** Folds losses as `evolve` does, one after the other; what becomes of each. */
function judgeLosses(nodes: readonly string[]) {
  return nodes.map((nodeId, n) => {
    const lostOn = nodes.slice(0, n);
    return judgeFailure(failure({ failureClass: 'node_lost', nodeId }), trouble({ lostOn }), false);
  });
}

test('a node that is lost at one clip again and again backs off, while different nodes that are lost once do not', () => {
  const waits = (nodes: readonly string[]) =>
    judgeLosses(nodes).map((verdict) => (verdict.action === 'retry' ? verdict.retryAt - 1000 : null));
  assert.deepEqual(waits(['n1', 'n1', 'n1', 'n1']), [0, 500, 1000, 2000]);
  assert.deepEqual(waits(['n1', 'n2', 'n3', 'n4']), [0, 0, 0, 0]);
  assert.equal(waits(Array.from({ length: 20 }, () => 'n1')).at(-1), 60_000);
});

test('only losses of several different nodes end a job soon; those of one node end it at last, and say so', () => {
  const lostBy = (nodes: number) =>
    attemptsUntilGivenUp(
      () => 'node_lost',
      (n) => `n${n % nodes}`,
    );
  assert.deepEqual([3, 2, 1].map(lostBy), [MAX_LOSSES, MAX_LOSSES_OF_FEW, MAX_LOSSES_OF_FEW]);
  const last = judgeLosses(Array.from({ length: MAX_LOSSES_OF_FEW }, () => 'n1')).at(-1);
  const reason = 'clip 7 lost its node 60 times; last: node_lost at clip 7 on node n1: gone';
  assert.deepEqual(last, { action: 'fail_job', reason });
});

test('other failures back off, longer each time, up to a minute', () => {
  const waits = [0, 1, 2, 3, 7, 8].map((attempts) => {
    const verdict = judgeFailure(failure(), trouble({ attempts, nodes: ['n1'] }), false);
    return verdict.action === 'retry' ? verdict.retryAt - 1000 : null;
  });
  assert.deepEqual(waits, [500, 1000, 2000, 4000, 60_000, 60_000]);
});

test('a clip that fails on three different nodes fails the job with the evidence', () => {
  assert.equal(
    attemptsUntilGivenUp(
      () => 'crash',
      (n) => `n${n}`,
    ),
    POISON_NODES,
  );
  const verdict = judgeFailure(failure({ nodeId: 'n3' }), trouble({ attempts: 2, nodes: ['n1', 'n2'] }), false);
  const reason = 'clip 7 failed on 3 different nodes; last: crash at clip 7 on node n3: gone';
  assert.deepEqual(verdict, { action: 'fail_job', reason });
});

test('a host that lacks something is not held against the nodes that are lost later', () => {
  const many = trouble({ shortages: 100, lostOn: ['n1'] });
  assert.equal(judgeFailure(failure({ failureClass: 'node_lost' }), many, false).action, 'retry');
});

test('a slot that runs out of memory again and again gets time to recover, and then the job ends', () => {
  const outOfMemory = failure({ failureClass: 'out_of_memory', message: 'needs 80 GiB' });
  const first = judgeFailure(outOfMemory, undefined, false);
  assert.deepEqual(first, { action: 'retry', retryAt: 1500 });
  const again = [1, 2].map((attempts) => judgeFailure(outOfMemory, trouble({ attempts, nodes: ['n1'] }), true));
  assert.deepEqual(again, [
    { action: 'retry', retryAt: 16_000 },
    { action: 'retry', retryAt: 31_000 },
  ]);
  const last = judgeFailure(outOfMemory, trouble({ attempts: 3, nodes: ['n1'] }), true);
  const reason =
    'every slot that is left has run out of memory; 4 attempts at clip 7; last: out_of_memory at clip 7 on node n1: needs 80 GiB';
  assert.deepEqual(last, { action: 'fail_job', reason });
});

test('out of memory on many nodes is no evidence against the clip', () => {
  const verdict = judgeFailure(
    failure({ failureClass: 'out_of_memory', nodeId: 'n4' }),
    trouble({ attempts: 3, nodes: ['n1', 'n2', 'n3'] }),
    false,
  );
  assert.equal(verdict.action, 'retry');
});

test('a clip that fails on one node again and again fails the job in the end', () => {
  assert.equal(
    attemptsUntilGivenUp(
      () => 'hang',
      () => 'n1',
    ),
    MAX_ATTEMPTS,
  );
});

test('whatever happens to a clip, the job is given up after a bounded number of attempts, unless hosts lack something', () => {
  const classes = failureClasses.filter((failureClass) => failureClass !== 'environment');
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(...classes), { minLength: 1, maxLength: 10 }),
      fc.integer({ min: 1, max: 6 }),
      (classes, nodes) => {
        const attempts = attemptsUntilGivenUp(
          (n) => classes[n % classes.length] ?? 'crash',
          (n) => `n${n % nodes}`,
        );
        assert.ok(attempts <= MAX_LOSSES_OF_FEW + MAX_ATTEMPTS, `${attempts} attempts`);
      },
    ),
  );
});

test('a retry never lies in the past', () => {
  fc.assert(
    fc.property(
      ...[fc.constantFrom(...failureClasses), fc.nat(50), fc.nat(), fc.boolean()],
      (failureClass, attempts, at, unfit) => {
        const verdict = judgeFailure(failure({ failureClass, at }), trouble({ attempts }), unfit);
        if (verdict.action === 'retry') assert.ok(verdict.retryAt >= at && verdict.retryAt <= at + 60_000);
      },
    ),
  );
});

function nodeFailures(...entries: readonly (readonly [FailureClass, number])[]): NodeFailure[] {
  return entries.map(([failureClass, at]) => ({ failureClass, at, jobId: 'job-1', clip: at, slotId: '0' }));
}

test('two device errors quarantine a node for two minutes, one does not', () => {
  assert.equal(quarantineUntil(nodeFailures(['device', 0]), 1000), null);
  assert.equal(quarantineUntil(nodeFailures(['device', 0], ['device', 900]), 1000), 121_000);
});

test('four failures of any class that speaks against the host quarantine it, three do not', () => {
  const three = nodeFailures(['crash', 0], ['hang', 1], ['bad_chunk', 2]);
  assert.equal(quarantineUntil(three, 1000), null);
  assert.equal(quarantineUntil([...three, ...nodeFailures(['environment', 3])], 1000), 121_000);
});

test('one clip that fails again and again on a node does not quarantine it', () => {
  const same = nodeFailures(['device', 0], ['device', 1], ['crash', 2], ['hang', 3], ['crash', 4]);
  assert.equal(
    quarantineUntil(
      same.map((f) => ({ ...f, clip: 7 })),
      1000,
    ),
    null,
  );
});

test('a node that is lost four times is quarantined; one that is lost once is not, however many slots it has', () => {
  const lost = (times: number, slots: number) =>
    Array.from({ length: times * slots }, (_, n) => ({
      ...failure({ failureClass: 'node_lost', at: n, slotId: `${n % slots}` }),
      jobId: 'job-1',
    }));
  assert.equal(quarantineUntil(lost(1, 8), 1000), null);
  assert.equal(quarantineUntil(lost(3, 8), 1000), null);
  assert.equal(quarantineUntil(lost(4, 1), 1000), 121_000, 'at one and the same clip too');
  assert.equal(quarantineUntil(lost(4, 8), 1000), 121_000);
  assert.equal(quarantineUntil(lost(4, 8), 700_000), null);
});

test('failures that the node is not to blame for, and old ones, do not count', () => {
  const innocent = nodeFailures(['out_of_memory', 0], ['bad_input', 1], ['out_of_memory', 3], ['out_of_memory', 4]);
  assert.equal(quarantineUntil(innocent, 1000), null);
  assert.equal(quarantineUntil(nodeFailures(['device', 0], ['device', 700_000]), 700_001), null);
});

test('a clip waits for its pause, and no longer where a clock that is behind would have it wait', () => {
  const now = 1_000_000;
  assert.ok(backsOff(now + 1, now));
  assert.ok(backsOff(now + 60_000, now), 'the longest pause');
  assert.ok(!backsOff(now, now));
  assert.ok(!backsOff(now + 600_000, now), 'its clock was 10 minutes ahead');
  assert.ok(backsOff(now - 999, now, 1000));
  assert.ok(!backsOff(now - 1000, now, 1000));
  assert.ok(!backsOff(now + 600_000, now, 1000));
});

test('a node is taken out for the time of a quarantine, and no longer where a clock that is behind would have it so', () => {
  const device = (clip: number) => ({ at: 0, failureClass: 'device', jobId: 'j', slotId: '0', clip }) as const;
  const until = quarantineUntil([device(1), device(2)], 0) ?? assert.fail();
  assert.ok(isQuarantined(until, 0));
  assert.ok(isQuarantined(until, until - 1));
  assert.ok(!isQuarantined(until, until));
  assert.ok(!isQuarantined(until, -600_000), 'its clock was 10 minutes ahead');
});
