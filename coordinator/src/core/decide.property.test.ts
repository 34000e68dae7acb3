import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { hasClip } from './clip-ranges.ts';
import { type Decision, decide, isOver, type JobCommand } from './decide.ts';
import { evolve } from './evolve.ts';
import { type FailureClass, failureClasses, type JobState, type LeaseState } from './job-model.ts';
import { committedSpans, pendingClips, uncommittedClips } from './job-progress.ts';
import { packJob, unpackJob } from './job-snapshot.ts';
import { contentRef, execute, type LoggedJob, refold, submitJob } from './test-jobs.ts';

const CLIPS = 12;

/** What is asked of a job, in numbers that are fitted to the state in which it is asked. */
type Ask =
  | { readonly ask: 'grant'; readonly a: number; readonly b: number; readonly speculative: boolean }
  | { readonly ask: 'grantGap'; readonly a: number; readonly b: number }
  | { readonly ask: 'shrink'; readonly a: number; readonly b: number }
  | {
      readonly ask: 'commit';
      readonly a: number;
      readonly clip: number;
      readonly content: number;
      readonly hash: number;
    }
  | { readonly ask: 'commitNext'; readonly a: number }
  | { readonly ask: 'anchor'; readonly a: number }
  | { readonly ask: 'superfluous'; readonly a: number; readonly clip: number }
  | { readonly ask: 'loseClip'; readonly clip: number }
  | { readonly ask: 'return'; readonly a: number }
  | { readonly ask: 'failLease'; readonly a: number; readonly clip: number; readonly failureClass: FailureClass }
  | { readonly ask: 'pause'; readonly clips: readonly number[] }
  | { readonly ask: 'plain'; readonly command: JobCommand };

const pick = fc.nat({ max: 1000 });
const clip = fc.integer({ min: -1, max: CLIPS });
const result = { video: contentRef('v'), frames: 1, videoSeconds: 1, audioSeconds: 1, finishMillis: 1, checks: [] };
const plain: JobCommand[] = [
  { type: 'resume' },
  { type: 'cancel', reason: 'by the operator' },
  { type: 'retry' },
  { type: 'setPriority', priority: 3 },
  { type: 'complete', result },
  { type: 'fail', reason: 'the disk is full' },
  { type: 'expire', keepMillis: 3 },
];

const ask: fc.Arbitrary<Ask> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ ask: fc.constant('grantGap'), a: pick, b: pick }) },
  { weight: 2, arbitrary: fc.record({ ask: fc.constant('grant'), a: pick, b: pick, speculative: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ ask: fc.constant('shrink'), a: pick, b: clip }) },
  { weight: 8, arbitrary: fc.record({ ask: fc.constant('commitNext'), a: pick }) },
  {
    weight: 4,
    arbitrary: fc.record({
      ask: fc.constant('commit'),
      a: pick,
      clip,
      content: fc.integer({ min: 0, max: 1 }),
      hash: fc.integer({ min: 0, max: 9 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ ask: fc.constant('anchor'), a: pick }) },
  { weight: 1, arbitrary: fc.record({ ask: fc.constant('return'), a: pick }) },
  { weight: 1, arbitrary: fc.record({ ask: fc.constant('superfluous'), a: pick, clip }) },
  { weight: 1, arbitrary: fc.record({ ask: fc.constant('loseClip'), clip }) },
  {
    weight: 2,
    arbitrary: fc.record({
      ask: fc.constant('failLease'),
      a: pick,
      clip,
      failureClass: fc.constantFrom(...failureClasses.filter((c) => c !== 'bad_input')),
    }),
  },
  { weight: 1, arbitrary: fc.record({ ask: fc.constant('pause'), clips: fc.array(pick, { maxLength: 4 }) }) },
  { weight: 1, arbitrary: fc.record({ ask: fc.constant('plain'), command: fc.constantFrom(...plain) }) },
);

/** A lease by any number: one in force, a past one, or one that never was. */
function someLease(state: JobState, a: number): string {
  const all = [...state.leases.keys(), ...state.pastLeases.keys(), 'never-granted'];
  return all[a % all.length] ?? 'never-granted';
}

function leaseInForce(state: JobState, a: number): LeaseState | undefined {
  return [...state.leases.values()][a % Math.max(1, state.leases.size)];
}

function newLease(step: number, start: number, end: number, speculative: boolean): LeaseState {
  const node = step % 5;
  const preRoll = start === 0 ? 0 : 1;
  const identity = { leaseId: `l${step}`, nodeId: `n${node}`, slotId: 's', profile: 'p' };
  return { ...identity, start, end, grantedEnd: end, preRoll, speculative, span: -1, grantedAt: -1 };
}

/** The command that an ask means in this state, or null when it means none. */
function commandOf(asked: Ask, state: JobState, step: number): JobCommand | null {
  switch (asked.ask) {
    case 'grant': {
      const start = asked.a % CLIPS;
      const lease = newLease(step, start, start + 1 + (asked.b % 6), asked.speculative);
      return { type: 'grant', lease, reason: 'test' };
    }
    case 'grantGap': {
      const gaps = pendingClips(state);
      const gap = gaps[asked.a % Math.max(1, gaps.length)];
      if (!gap) return null;
      const end = gap.start + 1 + (asked.b % (gap.end - gap.start));
      return { type: 'grant', lease: newLease(step, gap.start, end, false), reason: 'test' };
    }
    case 'shrink':
      return { type: 'shrink', leaseId: someLease(state, asked.a), end: asked.b, reason: 'test' };
    case 'commit': {
      const leaseId = someLease(state, asked.a);
      const headerHash = asked.hash === 0 ? 'other' : 'usual';
      const chunk = contentRef(`${leaseId}-${asked.clip}-${asked.content}`);
      return { type: 'commit', chunk: { leaseId, clip: asked.clip, frames: 48, chunk, headerHash } };
    }
    case 'commitNext': {
      const lease = leaseInForce(state, asked.a);
      const next = lease && uncommittedClips(state).find((r) => r.end > lease.start);
      if (!lease || !next) return null;
      const wanted = Math.max(lease.start, next.start);
      const chunk = contentRef(`${lease.leaseId}-${wanted}-0`);
      const offered = {
        leaseId: lease.leaseId,
        clip: wanted,
        frames: 48,
        chunk,
        headerHash: state.headerHash ?? 'usual',
      };
      return { type: 'commit', chunk: offered };
    }
    case 'anchor':
      return { type: 'commitAnchor', leaseId: someLease(state, asked.a), anchor: contentRef(`anchor-${step}`) };
    case 'superfluous':
      return { type: 'superfluous', leaseId: someLease(state, asked.a), clip: asked.clip };
    case 'loseClip':
      return { type: 'loseClip', clip: asked.clip, reason: 'test' };
    case 'return':
      return { type: 'endLease', leaseId: someLease(state, asked.a), cause: 'returned', reason: 'drained' };
    case 'failLease': {
      const { failureClass } = asked;
      const leaseId = someLease(state, asked.a);
      return { type: 'failLease', leaseId, failureClass, message: 'test', clip: asked.clip };
    }
    case 'pause':
      return { type: 'pause', reason: 'test', currentClips: clipsInHand(state, asked.clips) };
    case 'plain':
      return asked.command;
  }
}

/** A clip in hand for some of the leases, pre-roll included; for the rest nothing is known. */
function clipsInHand(state: JobState, picks: readonly number[]): Map<string, number> {
  const leases = [...state.leases.values()].slice(0, picks.length);
  return new Map(
    leases.map((lease, index) => {
      const first = lease.start - lease.preRoll;
      return [lease.leaseId, first + ((picks[index] ?? 0) % (lease.end - first))];
    }),
  );
}

/** What holds in every state that any sequence of commands leads to. */
function assertInvariants(job: LoggedJob): void {
  const { state, log } = job;
  assert.equal(state.revision, log.length);
  const granted = new Map<string, LeaseState>();
  const committed = new Set<number>();
  for (const { event } of log) {
    if (event.type === 'LeaseGranted') {
      assert.ok(!granted.has(event.lease.leaseId), 'a lease is granted once');
      granted.set(event.lease.leaseId, event.lease);
    }
    if (event.type === 'ClipLost') committed.delete(event.clip);
    if (event.type !== 'ClipCommitted') continue;
    const { record } = event;
    assert.ok(!committed.has(record.clip), `clip ${record.clip} is committed twice`);
    committed.add(record.clip);
    const lease = granted.get(record.leaseId);
    assert.ok(lease, 'only leases that were granted commit');
    assert.deepEqual([record.span, record.nodeId], [lease.span, lease.nodeId]);
  }
  assert.equal(new Set([...granted.values()].map((l) => l.span)).size, granted.size, 'each lease is a span of its own');
  const inOrder = [...committed].sort((a, b) => a - b);
  assert.deepEqual(clipsOf(state.committedSet), inOrder);
  // A completed job keeps its spans and forgets the rest.
  if (state.status === 'completed') assert.deepEqual(clipsOf(committedSpans(state)), inOrder);
  else
    assert.deepEqual(
      [...state.committed.keys()].sort((a, b) => a - b),
      inOrder,
    );
  const all = committed.size === CLIPS;
  assert.equal(all, state.status === 'stitching' || state.status === 'completed' || (isOver(state) && all));
  if (isOver(state) || state.status === 'stitching') assert.equal(state.leases.size, 0, 'a job over has no leases');
  assertLeases(state, granted);
}

function clipsOf(ranges: readonly { readonly start: number; readonly end: number }[]): number[] {
  return ranges.flatMap(({ start, end }) => Array.from({ length: end - start }, (_, i) => start + i));
}

function assertLeases(state: JobState, granted: ReadonlyMap<string, LeaseState>): void {
  const leases = [...state.leases.values()];
  for (const lease of leases) {
    assert.ok(!state.pastLeases.has(lease.leaseId), 'a lease is in force or past');
    const first = granted.get(lease.leaseId);
    assert.ok(first && lease.start === first.start && lease.end <= first.end, 'a lease never grows');
    assert.ok(lease.start < lease.end);
    assert.ok(
      !hasClip(state.committedSet, lease.end - 1),
      `lease ${lease.leaseId} ends with a clip that is still wanted`,
    );
    const passed = (lastOwn(state, lease) ?? lease.start) - 1;
    for (let clip = lease.start; clip <= passed; clip++) assert.ok(hasClip(state.committedSet, clip));
    for (const other of leases) {
      if (other === lease || other.speculative || lease.speculative) continue;
      assert.ok(other.end <= lease.start || lease.end <= other.start, 'leases do not overlap');
    }
    for (const gap of pendingClips(state)) assert.ok(gap.end <= lease.start || lease.end <= gap.start);
  }
}

/** What a decision must be, given the state in which it was taken. */
function assertDecision(before: JobState, command: JobCommand, decision: Decision): void {
  if (decision.outcome === 'refused') assert.deepEqual(decision.events, [], 'a refusal changes nothing');
  if (decision.outcome === 'done') assert.ok(decision.events.length > 0);
  if (decision.outcome === 'not_wanted') assert.ok(decision.events.every((e) => e.type === 'ChunkSuperfluous'));
  if (command.type === 'commit') assertCommit(before, command, decision);
  else if (command.type === 'superfluous') assert.equal(decision.outcome, 'not_wanted');
  else assert.notEqual(decision.outcome, 'not_wanted');
}

function assertCommit(before: JobState, { chunk }: Extract<JobCommand, { type: 'commit' }>, decision: Decision): void {
  const lease = before.leases.get(chunk.leaseId) ?? before.pastLeases.get(chunk.leaseId);
  if (before.status === 'completed') {
    assert.equal(decision.outcome, 'not_wanted');
    return;
  }
  if (!lease) {
    assert.equal(decision.outcome, 'refused');
    return;
  }
  const first = before.committed.get(chunk.clip);
  if (first) {
    const same = first.leaseId === chunk.leaseId && first.chunk.sha256 === chunk.chunk.sha256;
    assert.equal(decision.outcome, same ? 'unchanged' : 'not_wanted');
  } else if (isOver(before)) {
    assert.equal(decision.outcome, 'not_wanted');
  } else {
    const ownClip = chunk.clip >= lease.start && chunk.clip < lease.grantedEnd;
    const fits = ownClip && (before.headerHash === null || before.headerHash === chunk.headerHash);
    assert.equal(
      decision.outcome,
      fits ? 'done' : 'refused',
      'a wanted chunk of its own clips is accepted, from a past lease too',
    );
  }
}

function assertPause(before: JobState, command: JobCommand, after: JobState): void {
  if (command.type !== 'pause' || before.paused || before.status !== 'active') return;
  assert.equal(after.paused, true);
  for (const lease of before.leases.values()) {
    const current = command.currentClips.get(lease.leaseId) ?? lease.start - 1;
    const left = after.leases.get(lease.leaseId);
    const wanted = current >= lease.start && !hasClip(before.committedSet, current);
    if (wanted) assert.ok(left && left.end > current, `clip ${current} in hand is dropped`);
    const begun = lastOwn(before, lease) ?? lease.start - 1;
    const spares = begun >= lease.start && !hasClip(before.committedSet, begun);
    if (spares) assert.ok(left && left.end > begun, `clip ${begun} is dropped`);
    if (left) assert.ok(left.end <= Math.max(current, begun) + 1, 'nothing new is begun');
  }
}

/** The clip after the last one of the run from its start that the lease itself committed. */
function lastOwn(state: JobState, lease: LeaseState): number | null {
  let last: number | null = null;
  for (let at = lease.start; hasClip(state.committedSet, at); at++) {
    if (at < lease.end && state.committed.get(at)?.leaseId === lease.leaseId) last = at + 1;
  }
  return last;
}

/** A snapshot of a job as the journal keeps it, and the job that it and the later events of the log fold to. */
function keep({ state, log }: LoggedJob): { readonly restore: (job: LoggedJob) => JobState } {
  const text = JSON.stringify(packJob(state));
  const position = log.length;
  const restore = (job: LoggedJob) => {
    const unpacked = unpackJob(JSON.parse(text));
    assert.ok(unpacked);
    const later = JSON.parse(JSON.stringify(job.log.slice(position))) as typeof job.log;
    return later.reduce<JobState>((before, { event, at }) => evolve(before, event, at), unpacked);
  };
  return { restore };
}

test('whatever is asked of a job in whatever order, its invariants hold and its log folds to the same', () => {
  const seen = new Map<string, number>();
  fc.assert(
    fc.property(
      fc.array(ask, { maxLength: 80, size: 'max' }),
      fc.constantFrom('image' as const, 'first_frame' as const),
      fc.nat({ max: 80 }),
      (asks, anchorMode, snapshotAt) => {
        const job = submitJob({ clips: CLIPS, anchorMode });
        let kept = keep(job);
        for (const [step, asked] of asks.entries()) {
          if (step === snapshotAt) kept = keep(job);
          const command = commandOf(asked, job.state, step);
          if (!command) continue;
          const before = structuredClone(job.state);
          const decided = decide(job.state, command, step);
          assert.deepEqual(job.state, before, 'deciding changes nothing');
          const decision = execute(job, command, step);
          assert.deepEqual(decision, decided, 'the same state, command and time give the same decision');
          const outcome = `${command.type} ${decision.outcome}`;
          seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
          assertDecision(before, command, decision);
          assertPause(before, command, job.state);
          if (command.type === 'retry') assert.deepEqual(job.state.committed, before.committed);
          assertInvariants(job);
        }
        assert.deepEqual(refold(job.log), job.state);
        assert.deepEqual(kept.restore(job), job.state, 'a snapshot and what came after it fold to the same');
      },
    ),
    { numRuns: 300 },
  );
  for (const reached of ['retry done', 'commit not_wanted', 'commit refused', 'pause done', 'shrink done']) {
    assert.ok(seen.has(reached), `no run got as far as "${reached}"`);
  }
});

test('a job that is served to its end has every clip exactly once, in order', () => {
  fc.assert(
    fc.property(fc.array(ask, { maxLength: 40, size: 'max' }), (asks) => {
      const job = submitJob({ clips: CLIPS });
      for (const [step, asked] of asks.entries()) {
        const command = commandOf(asked, job.state, step);
        if (command && !['complete', 'loseClip', 'expire'].includes(command.type)) execute(job, command, step);
      }
      execute(job, { type: 'retry' });
      execute(job, { type: 'resume' });
      for (let step = 1000; job.state.status === 'active'; step++) {
        const grantable = commandOf({ ask: 'grantGap', a: 0, b: step }, job.state, step);
        if (grantable) execute(job, grantable, step);
        const next = commandOf({ ask: 'commitNext', a: 0 }, job.state, step);
        if (next) execute(job, next, step);
        assert.ok(step < 1000 + 10 * CLIPS, 'the job does not end');
      }
      assert.equal(execute(job, { type: 'complete', result }).outcome, 'done');
      const clips = job.log.flatMap(({ event }) => (event.type === 'ClipCommitted' ? [event.record.clip] : []));
      assert.deepEqual(
        [...clips].sort((a, b) => a - b),
        Array.from({ length: CLIPS }, (_, i) => i),
      );
      assert.deepEqual(job.state.committedSet, [{ start: 0, end: CLIPS }]);
      assert.equal(job.state.status, 'completed');
    }),
  );
});
