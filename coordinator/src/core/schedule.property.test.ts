import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { commandOf } from './action-command.ts';
import { carveCount, type Participant } from './carve.ts';
import { countClips, hasClip, withoutRange } from './clip-ranges.ts';
import { decide } from './decide.ts';
import { evolve } from './evolve.ts';
import { avoidedNodes } from './failure-policy.ts';
import { failureClasses, type JobState, type LeaseState } from './job-model.ts';
import { pendingClips } from './job-progress.ts';
import { noteOpenCall } from './open-calls.ts';
import { schedule } from './schedule.ts';
import type { OpenCall, ScheduleAction, ScheduledSlot, ScheduleInput } from './schedule-model.ts';
import { carryOut, type Farm, type FarmProgress, freeSlot, inWords, scheduleInput } from './test-farm.ts';
import { contentRef, execute, type LoggedJob, submitJob } from './test-jobs.ts';

/** What happens to a farm, in numbers that are fitted to the state it is in. */
const happening = fc.record({
  what: fc.constantFrom(
    'schedule',
    'schedule',
    'advance',
    'advance',
    'advance',
    'late',
    'fail',
    'return',
    'slot',
    'operator',
  ),
  a: fc.nat({ max: 1000 }),
  b: fc.nat({ max: 1000 }),
});
type Happening = typeof happening extends fc.Arbitrary<infer T> ? T : never;

const jobGiven = fc.record({
  clips: fc.integer({ min: 1, max: 30 }),
  owner: fc.constantFrom('ann', 'bob'),
  priority: fc.integer({ min: 0, max: 1 }),
  anchorMode: fc.constantFrom('image' as const, 'first_frame' as const),
});

const slotGiven = fc.record({
  node: fc.integer({ min: 0, max: 2 }),
  pace: fc.constantFrom(0.3, 1, 1.1, 5),
  warmUpSeconds: fc.constantFrom(0, 0, 3, 40),
  fixedEnd: fc.constantFrom(false, false, false, true),
});

const world = fc.record({
  jobs: fc.array(jobGiven, { minLength: 1, maxLength: 3 }),
  slots: fc.array(slotGiven, { minLength: 1, maxLength: 5 }),
  preRoll: fc.integer({ min: 1, max: 2 }),
  maxLeaseClips: fc.constantFrom(8, 3700),
  happenings: fc.array(happening, { maxLength: 60, size: 'max' }),
});
type World = typeof world extends fc.Arbitrary<infer T> ? T : never;

/** A small farm that goes through anything: what schedule decides is carried out now and then, never checked here. */
class SmallFarm {
  readonly jobs: LoggedJob[];
  readonly paces: Record<string, number> = {};
  readonly progress: Record<string, FarmProgress> = {};
  readonly preRoll: number;
  readonly maxLeaseClips: number;
  readonly #openCalls = new Map<string, OpenCall>();
  readonly #seen = new Map<LoggedJob, number>();
  slots: ScheduledSlot[];
  now = 0;

  constructor(given: World) {
    this.jobs = given.jobs.map(({ priority, ...rest }, n) => submitJob({ jobId: `job-${n}`, ...rest }, priority, n));
    this.slots = given.slots.map(({ node, warmUpSeconds, fixedEnd }, n) =>
      freeSlot(`n${node}/${n}`, { warmUpSeconds, fixedEnd }),
    );
    for (const [n, { node, pace }] of given.slots.entries()) this.paces[`n${node}/${n}`] = pace;
    this.preRoll = given.preRoll;
    this.maxLeaseClips = given.maxLeaseClips;
  }

  view(): ScheduleInput {
    const { jobs, paces, progress, now, preRoll, maxLeaseClips } = this;
    for (const job of jobs) {
      for (const { event } of job.log.slice(this.#seen.get(job))) noteOpenCall(this.#openCalls, job.state, event);
      this.#seen.set(job, job.log.length);
    }
    const slots = this.slots.map((slot) => ({ ...slot, openCall: this.#openCalls.get(slot.key) ?? null }));
    const live = jobs.filter(({ state }) => state.status === 'active' || state.status === 'stitching');
    const farm: Farm = { jobs: live, paces, slots, progress, now, preRoll, maxLeaseClips, usage: { ann: now % 7 } };
    return scheduleInput(farm);
  }

  happen({ what, a, b }: Happening): void {
    this.now += b;
    const job = this.jobs[a % this.jobs.length];
    const lease = job && [...job.state.leases.values()][b % Math.max(1, job.state.leases.size)];
    if (!job) return;
    if (what === 'schedule') carryOut(this.jobs, schedule(this.view()), this.now);
    if (what === 'operator') this.#operate(job, b);
    if (what === 'slot') this.#changeSlot(a, b % 3 === 0);
    if (what === 'late') this.#commitLate(job, a, b);
    if (!lease) return;
    const { leaseId } = lease;
    if (what === 'advance') this.#advance(job, lease, a);
    if (what === 'return') execute(job, { type: 'endLease', leaseId, cause: 'returned', reason: '' }, this.now);
    if (what === 'fail') {
      const failureClass = failureClasses[a % failureClasses.length] ?? 'crash';
      const clip = lease.start + (b % (lease.end - lease.start));
      execute(job, { type: 'failLease', leaseId, failureClass, message: '', clip }, this.now);
    }
  }

  /** The agent of a lease reports, and hands in its next clips. */
  #advance(job: LoggedJob, lease: LeaseState, a: number): void {
    const at = this.progress[lease.leaseId]?.clip ?? lease.start - lease.preRoll;
    const next = Math.min(lease.end, at + (a % 4));
    for (let clip = Math.max(at, lease.start); clip < next; clip++) this.#commit(job, lease.leaseId, clip);
    if (lease.start === 0) {
      execute(job, { type: 'commitAnchor', leaseId: lease.leaseId, anchor: contentRef('anchor') }, this.now);
    }
    const clip = Math.min(next, lease.end - 1);
    this.progress[lease.leaseId] = { clip, fraction: (a % 10) / 10, movedAt: this.now };
  }

  #commitLate(job: LoggedJob, a: number, b: number): void {
    const leases = [...job.state.pastLeases.keys()];
    const leaseId = leases[a % Math.max(1, leases.length)];
    if (leaseId !== undefined) this.#commit(job, leaseId, b % job.state.definition.clips);
  }

  #commit(job: LoggedJob, leaseId: string, clip: number): void {
    const chunk = { leaseId, clip, frames: 48, chunk: contentRef(`${leaseId}-${clip}`), headerHash: 'h' };
    execute(job, { type: 'commit', chunk }, this.now);
  }

  #changeSlot(a: number, available: boolean): void {
    const index = a % this.slots.length;
    this.slots = this.slots.map((slot, n) =>
      n === index ? { ...slot, available: available || !slot.available } : slot,
    );
  }

  #operate(job: LoggedJob, b: number): void {
    const currentClips = new Map(Object.entries(this.progress).map(([leaseId, at]) => [leaseId, at.clip]));
    if (b % 4 === 0) execute(job, { type: 'pause', reason: '', currentClips }, this.now);
    if (b % 4 === 1) execute(job, { type: 'resume' }, this.now);
    if (b % 4 === 2) execute(job, { type: 'setPriority', priority: b % 3 }, this.now);
    if (b % 4 === 3 && !execute(job, { type: 'retry' }, this.now)) return;
  }
}

type Grant = Extract<ScheduleAction, { type: 'grant' }>;

function grantsOf(actions: readonly ScheduleAction[]): Grant[] {
  return actions.flatMap((a) => (a.type === 'grant' ? [a] : []));
}

function assertActions(input: ScheduleInput, actions: readonly ScheduleAction[]): void {
  const used = new Set<string>();
  const states = new Map(input.jobs.map((job) => [job.definition.jobId, structuredClone(job)]));
  for (const [n, action] of actions.entries()) {
    const state = states.get(action.jobId);
    assert.ok(state, 'actions name jobs that are there');
    if (action.type === 'grant') assertGrant(input, state, action, used);
    else if (action.type === 'shrink') assertShrink(input, state, action);
    else assertRevoke(input, state, action);
    const decision = decide(
      state,
      commandOf(action, () => `new-${n}`),
      input.now,
    );
    assert.equal(decision.outcome, 'done', `${inWords(action)} is ${JSON.stringify(decision)}`);
    if (decision.outcome === 'done') for (const event of decision.events) evolve(state, event, input.now);
  }
}

function assertGrant(input: ScheduleInput, state: JobState, grant: Grant, used: Set<string>): void {
  const key = `${grant.nodeId}/${grant.slotId}`;
  const slot = input.slots.find((s) => s.key === key);
  assert.ok(slot?.available && slot.leaseId === null, `${key} takes no lease`);
  assert.ok(!used.has(key), `${key} is given two leases`);
  used.add(key);
  const hasOther = input.slots.some((s) => s.available && !state.unfitSlots.has(s.key));
  assert.ok(!state.unfitSlots.has(key) || !hasOther, `${key} ran out of memory`);
  for (let clip = grant.start; clip < grant.end; clip++) assert.ok(!hasClip(state.committedSet, clip));
  for (const [clip, trouble] of state.troubles) {
    const leased = grant.start <= clip && clip < grant.end;
    if (!grant.speculative && !grant.reason.startsWith('taken')) assert.ok(!leased || trouble.notBefore <= input.now);
  }
  if (state.definition.anchorMode === 'first_frame' && state.anchor === null) assert.equal(grant.start, 0);
  const call = slot.openCall;
  if (grant.continues === undefined) {
    assert.ok(grant.end - grant.start + grant.preRoll <= input.policy.maxLeaseClips);
  } else {
    assert.deepEqual([call?.leaseId, call?.jobId, call?.end], [grant.continues, grant.jobId, grant.start]);
    assert.ok(grant.end - (call?.begin ?? 0) <= input.policy.maxLeaseClips, 'the model call gets too long');
  }
}

function assertShrink(
  input: ScheduleInput,
  state: JobState,
  shrink: Extract<ScheduleAction, { type: 'shrink' }>,
): void {
  const lease = state.leases.get(shrink.leaseId);
  assert.ok(lease, 'only leases in force are shrunk');
  assert.ok(!lease.fixedEnd, 'a lease whose end is fixed is shrunk');
  assert.ok(shrink.end < lease.end && shrink.end >= lease.start);
  const inHand = input.progress.get(shrink.leaseId)?.clip;
  if (inHand !== undefined && inHand >= lease.start) assert.ok(shrink.end > inHand, `clip ${inHand} in hand is taken`);
  if (hasClip(state.committedSet, lease.start)) {
    let own = lease.start - 1;
    for (let clip = lease.start; hasClip(state.committedSet, clip); clip++) {
      if (state.committed.get(clip)?.leaseId === shrink.leaseId) own = clip;
    }
    assert.ok(own < lease.start || shrink.end > own + 1, `clip ${own + 1}, next after its last commit, is taken`);
  }
}

/** Only what others have rendered meanwhile is taken from a lease altogether. */
function assertRevoke(
  input: ScheduleInput,
  state: JobState,
  revoke: Extract<ScheduleAction, { type: 'revoke' }>,
): void {
  const lease = state.leases.get(revoke.leaseId);
  const inHand = Math.max(lease?.start ?? 0, input.progress.get(revoke.leaseId)?.clip ?? Number.POSITIVE_INFINITY);
  for (const clip of [inHand, inHand + 1]) {
    assert.ok(hasClip(state.committedSet, clip), `clip ${clip} of lease ${revoke.leaseId} is still wanted`);
  }
  assert.ok(state.committed.get(inHand + 1)?.leaseId !== revoke.leaseId);
}

/** A free slot that fits stays free beside clips that it may have only when those at work are done with them sooner. */
function assertNobodyIdlesInVain(input: ScheduleInput, actions: readonly ScheduleAction[]): void {
  if (actions.some((action) => action.type === 'revoke')) return;
  const grants = grantsOf(actions);
  const used = new Set(grants.map((g) => `${g.nodeId}/${g.slotId}`));
  const idle = input.slots.filter((s) => s.available && s.leaseId === null && !used.has(s.key));
  for (const job of input.jobs) {
    if (job.status !== 'active' || job.paused) continue;
    if (job.definition.anchorMode === 'first_frame' && job.anchor === null && job.leases.size > 0) continue;
    const mine = grants.filter((g) => g.jobId === job.definition.jobId);
    const left = mine.reduce(withoutRange, pendingClips(job));
    const ready = [...job.troubles]
      .filter(([, trouble]) => trouble.notBefore > input.now || avoidedNodes(trouble).size > 0)
      .reduce((set, [clip]) => withoutRange(set, { start: clip, end: clip + 1 }), left);
    if (ready.length === 0 || (job.definition.anchorMode === 'first_frame' && job.anchor === null && mine.length > 0))
      continue;
    if (job.definition.anchorMode === 'first_frame' && job.anchor === null && ready[0]?.start !== 0) continue;
    for (const slot of idle.filter((s) => !job.unfitSlots.has(s.key))) {
      const secondsPerClip = input.secondsPerClip(slot, job.definition);
      const self = { readyIn: slot.warmUpSeconds + input.policy.preRoll * secondsPerClip, secondsPerClip };
      const sooner = othersAtWork(input, job, mine);
      assert.ok(sooner.length > 0, `${slot.key} idles beside ${JSON.stringify(ready)} of ${job.definition.jobId}`);
      assert.equal(carveCount(countClips(left), self, sooner), 0, `${slot.key} would help ${job.definition.jobId}`);
    }
  }
}

/** The soonest that those who work on a job could take on more, if none needed a warm-up or a pre-roll. */
function othersAtWork(input: ScheduleInput, job: JobState, granted: readonly Grant[]): Participant[] {
  const at = (key: string, clips: number): Participant[] => {
    const slot = input.slots.find((s) => s.key === key && s.available);
    const secondsPerClip = slot ? input.secondsPerClip(slot, job.definition) : 1;
    return slot ? [{ readyIn: Math.max(0, clips) * secondsPerClip, secondsPerClip }] : [];
  };
  const leases = [...job.leases.values()].flatMap((lease) => {
    const inHand = input.progress.get(lease.leaseId) ?? { clip: lease.start - lease.preRoll, fraction: 0 };
    return at(`${lease.nodeId}/${lease.slotId}`, lease.end - inHand.clip - inHand.fraction);
  });
  return [...leases, ...granted.flatMap((g) => at(`${g.nodeId}/${g.slotId}`, g.end - g.start))];
}

test('in every state a farm can get into, what is scheduled is sound and nobody idles in vain', () => {
  let steals = 0;
  let duplicates = 0;
  let preemptions = 0;
  let continued = 0;
  let fixed = 0;
  fc.assert(
    fc.property(world, (given) => {
      const farm = new SmallFarm(given);
      for (const next of given.happenings) {
        farm.happen(next);
        const input = farm.view();
        const before = structuredClone(input.jobs);
        const actions = schedule(input);
        assert.deepEqual(input.jobs, before, 'scheduling changes nothing');
        assert.deepEqual(schedule(input), actions, 'the same input gives the same actions');
        assertActions(input, actions);
        assertNobodyIdlesInVain(input, actions);
        for (const action of actions) {
          if (action.reason.startsWith('taken over')) steals += 1;
          if (action.type === 'grant' && action.speculative) duplicates += 1;
          if (action.reason.endsWith('goes first')) preemptions += 1;
          if (action.type === 'grant' && action.continues !== undefined) continued += 1;
          if (action.type === 'grant' && action.fixedEnd) fixed += 1;
        }
      }
    }),
    { numRuns: 400 },
  );
  for (const [what, count] of Object.entries({ steals, duplicates, preemptions, continued, fixed })) {
    assert.ok(count > 0, `no ${what}`);
  }
});

test('with nothing else happening, scheduling comes to rest within a few rounds', () => {
  fc.assert(
    fc.property(world, (given) => {
      const farm = new SmallFarm(given);
      for (const next of given.happenings) farm.happen(next);
      const rounds = 4 * farm.slots.length + 4;
      for (let round = 0; ; round++) {
        const actions = schedule(farm.view());
        if (actions.length === 0) return;
        assert.ok(round < rounds, `still at it after ${rounds} rounds: ${actions.map(inWords).join('; ')}`);
        carryOut(farm.jobs, actions, farm.now);
      }
    }),
    { numRuns: 400 },
  );
});
