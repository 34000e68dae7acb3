import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FailureClass, JobDefinition } from './job-model.ts';
import { forecastFinish, forecastLease, schedule } from './schedule.ts';
import type { ScheduleAction } from './schedule-model.ts';
import { carryOut, type Farm, freeSlot, inWords, scheduleInput } from './test-farm.ts';
import { contentRef, execute, type LoggedJob, submitJob } from './test-jobs.ts';

function plan(farm: Farm): string[] {
  return schedule(scheduleInput(farm)).map(inWords);
}

function grantTo(job: LoggedJob, leaseId: string, key: string, start: number, end: number, speculative = false): void {
  const [nodeId = '', slotId = ''] = key.split('/');
  const lease = { leaseId, nodeId, slotId, profile: 'p', start, end, preRoll: start === 0 ? 0 : 1, speculative };
  assert.equal(execute(job, { type: 'grant', lease, reason: '' }).outcome, 'done');
}

function commit(job: LoggedJob, leaseId: string, ...clips: readonly number[]): void {
  for (const clip of clips) {
    const chunk = { leaseId, clip, frames: 48, chunk: contentRef(`${leaseId}-${clip}`), headerHash: 'h' };
    assert.equal(execute(job, { type: 'commit', chunk }).outcome, 'done');
  }
}

function fail(job: LoggedJob, leaseId: string, failureClass: FailureClass, clip: number, at: number): void {
  execute(job, { type: 'failLease', leaseId, failureClass, message: '', clip }, at);
}

/** A job all of whose clips are leased to one slot, which is rendering the clip at `at`. */
function jobOn(key: string, given: Partial<JobDefinition> = {}, priority = 0): LoggedJob {
  const job = submitJob(given, priority);
  const { jobId, clips } = job.state.definition;
  grantTo(job, `${jobId}-lease`, key, 0, clips);
  return job;
}

function clipsGranted(actions: readonly ScheduleAction[]): Map<string, number> {
  const grants = actions.flatMap((a) => (a.type === 'grant' ? [a] : []));
  return new Map(grants.map((a) => [`${a.nodeId}/${a.slotId}`, a.end - a.start]));
}

test('one slot gets the whole job, without a pre-roll', () => {
  const actions = schedule(scheduleInput({ jobs: [submitJob()], paces: { 'a/0': 1 } }));
  assert.deepEqual(actions.map(inWords), ['a/0: 0-100']);
  assert.equal(actions[0]?.type === 'grant' && actions[0].preRoll, 0);
});

test('three slots of unlike speed finish together, the fastest renders the beginning', () => {
  const paces: Record<string, number> = { 'a/0': 1.8, 'b/0': 0.6, 'c/0': 1 };
  const actions = schedule(scheduleInput({ jobs: [submitJob({ clips: 290 })], paces }));
  const clips = clipsGranted(actions);
  const ends = [...clips].map(([key, count]) => (count + (key === 'b/0' ? 0 : 1)) * (paces[key] ?? 0));
  assert.equal(
    [...clips.values()].reduce((a, b) => a + b, 0),
    290,
  );
  assert.ok(Math.max(...ends) - Math.min(...ends) <= 1.8, `they end at ${ends.join(', ')}`);
  assert.match(actions.map(inWords)[0] ?? '', /^b\/0: 0-/);
});

test('until the anchor is there only the slot at clip 0 works', () => {
  const job = submitJob({ anchorMode: 'first_frame' });
  const paces = { 'a/0': 1, 'b/0': 1, 'c/0': 1 };
  const first = schedule(scheduleInput({ jobs: [job], paces }));
  assert.equal(first.length, 1);
  assert.match(first.map(inWords)[0] ?? '', /^a\/0: 0-/);
  carryOut([job], first);
  assert.deepEqual(plan({ jobs: [job], paces }), []);
  const [leaseId = ''] = [...job.state.leases.keys()];
  execute(job, { type: 'commitAnchor', leaseId, anchor: contentRef('anchor') });
  assert.equal(plan({ jobs: [job], paces }).length, 2);
});

test('a job that uses its image as anchor starts everywhere at once', () => {
  const jobs = [submitJob({ anchorMode: 'image' })];
  assert.equal(plan({ jobs, paces: { 'a/0': 1, 'b/0': 1, 'c/0': 1 } }).length, 3);
});

test('every lease after clip 0 has its pre-roll, but never more clips than lie before it', () => {
  const jobs = [submitJob({ clips: 9 })];
  const actions = schedule(scheduleInput({ jobs, paces: { 'a/0': 1, 'b/0': 1, 'c/0': 1 }, preRoll: 5 }));
  const preRolls = actions.flatMap((a) => (a.type === 'grant' ? [[a.start, a.preRoll]] : []));
  for (const [start = 0, preRoll] of preRolls) assert.equal(preRoll, Math.min(5, start));
});

test('no lease is longer than the model can go in one call', () => {
  const actions = schedule(scheduleInput({ jobs: [submitJob()], paces: { 'a/0': 1 }, maxLeaseClips: 30 }));
  assert.deepEqual(actions.map(inWords), ['a/0: 0-30']);
});

test('a slot that joins halfway takes over half of what is left, less its pre-roll', () => {
  const job = jobOn('a/0');
  const farm = { jobs: [job], paces: { 'a/0': 1, 'b/0': 1 }, progress: { 'job-1-lease': { clip: 50, fraction: 0 } } };
  commit(job, 'job-1-lease', ...Array.from({ length: 50 }, (_, i) => i));
  assert.deepEqual(plan(farm), ['job-1-lease -> 76', 'b/0: 76-100']);
});

test('two slots that join at once both get work within two rounds', () => {
  const job = jobOn('a/0');
  const paces = { 'a/0': 1, 'b/0': 1, 'c/0': 1 };
  carryOut([job], schedule(scheduleInput({ jobs: [job], paces })));
  carryOut([job], schedule(scheduleInput({ jobs: [job], paces })));
  assert.equal(job.state.leases.size, 3);
});

test('nothing is taken over when that would save less than it costs', () => {
  const job = jobOn('a/0');
  const progress = { 'job-1-lease': { clip: 97, fraction: 0 } };
  commit(job, 'job-1-lease', ...Array.from({ length: 97 }, (_, i) => i));
  assert.deepEqual(plan({ jobs: [job], paces: { 'a/0': 1, 'b/0': 1 }, progress }), []);
  const slots = [freeSlot('a/0'), freeSlot('b/0', { warmUpSeconds: 90 })];
  assert.deepEqual(plan({ jobs: [jobOn('a/0')], paces: { 'a/0': 1, 'b/0': 1 }, slots }), []);
});

test('the lease is relieved from which most can be saved', () => {
  const job = submitJob();
  grantTo(job, 'short', 'a/0', 0, 30);
  grantTo(job, 'long', 'b/0', 30, 100);
  const words = plan({ jobs: [job], paces: { 'a/0': 1, 'b/0': 1, 'c/0': 1 } });
  assert.deepEqual(words, ['long -> 65', 'c/0: 65-100']);
});

test('what a late chunk has committed stays out of the tail that is taken over', () => {
  const job = submitJob();
  grantTo(job, 'old', 'a/0', 0, 100);
  fail(job, 'old', 'node_lost', 0, 0);
  grantTo(job, 'new', 'a/0', 0, 100);
  commit(job, 'old', 60, 80);
  const actions = schedule(scheduleInput({ jobs: [job], paces: { 'a/0': 1, 'b/0': 1 } }));
  assert.deepEqual(actions.map(inWords), ['new -> 51', 'b/0: 51-60']);
  carryOut([job], actions);
});

test('a lease whose next clips came from a spool meanwhile is revoked; for a single one it goes on', () => {
  const job = submitJob({ clips: 10 });
  grantTo(job, 'old', 'a/0', 0, 10);
  fail(job, 'old', 'node_lost', 0, 0);
  grantTo(job, 'new', 'b/0', 0, 10);
  const farm = { jobs: [job], paces: { 'b/0': 1 }, progress: { new: { clip: 2, fraction: 0.5 } } };
  commit(job, 'new', 0, 1);
  commit(job, 'old', 2);
  assert.deepEqual(plan(farm), []);
  commit(job, 'old', 3);
  assert.deepEqual(plan(farm), ['new over']);
});

test('a lease is not revoked for its own commits when its progress is unknown or late', () => {
  const job = submitJob({ clips: 10 });
  grantTo(job, 'l1', 'a/0', 0, 10);
  commit(job, 'l1', 0, 1, 2, 3);
  const farm = { jobs: [job], paces: { 'a/0': 1 } };
  assert.deepEqual(plan(farm), []);
  assert.deepEqual(plan({ ...farm, progress: { l1: { clip: 1, fraction: 0.5 } } }), []);
});

test('just after a restart nobody is relieved of clips before his node has reported', () => {
  const job = jobOn('a/0');
  assert.deepEqual(plan({ jobs: [job], paces: { 'b/0': 1 }, slots: [freeSlot('b/0')] }), []);
});

test('a lease whose progress is not known yet keeps the clip after its last commit', () => {
  const job = jobOn('a/0', { clips: 10 });
  commit(job, 'job-1-lease', 0, 1, 2, 3, 4, 5);
  const words = plan({ jobs: [job], paces: { 'a/0': 1, 'b/0': 0.01 } });
  assert.deepEqual(words, ['job-1-lease -> 7', 'b/0: 7-10']);
});

test('the last clip of a slot that needs much longer than a free one is rendered twice, once', () => {
  const job = jobOn('a/0', { clips: 10 });
  commit(job, 'job-1-lease', ...Array.from({ length: 9 }, (_, i) => i));
  const progress = { 'job-1-lease': { clip: 9, fraction: 0.1 } };
  const farm = { jobs: [job], paces: { 'a/0': 10, 'b/0': 1, 'c/0': 1 }, progress };
  const actions = schedule(scheduleInput(farm));
  assert.deepEqual(actions.map(inWords), ['b/0: 9-10 again']);
  carryOut([job], actions);
  assert.deepEqual(plan(farm), []);
});

test('a lease that keeps up with its forecast is not duplicated', () => {
  const job = jobOn('a/0', { clips: 10 });
  commit(job, 'job-1-lease', ...Array.from({ length: 9 }, (_, i) => i));
  const progress = { 'job-1-lease': { clip: 9, fraction: 0.1, movedAt: 500 } };
  assert.deepEqual(plan({ jobs: [job], paces: { 'a/0': 2, 'b/0': 1 }, progress, now: 1000 }), []);
});

test('a lease that stands still is duplicated long before it counts as hung', () => {
  const job = jobOn('a/0', { clips: 10 });
  commit(job, 'job-1-lease', ...Array.from({ length: 9 }, (_, i) => i));
  const progress = { 'job-1-lease': { clip: 9, fraction: 0.1, movedAt: 0 } };
  const farm = { jobs: [job], paces: { 'a/0': 2, 'b/0': 2 }, progress };
  assert.deepEqual(plan({ ...farm, now: 4000 }), []);
  assert.deepEqual(plan({ ...farm, now: 8000 }), ['b/0: 9-10 again']);
});

test('a lease that has not begun long after its warm-up is duplicated', () => {
  const job = jobOn('a/0', { clips: 1 });
  const slots = [freeSlot('a/0', { warmUpSeconds: 20 }), freeSlot('b/0')];
  const farm = { jobs: [job], paces: { 'a/0': 2, 'b/0': 2 }, slots };
  assert.deepEqual(plan({ ...farm, now: 21_000 }), []);
  assert.deepEqual(plan({ ...farm, now: 25_000 }), ['b/0: 0-1 again']);
});

test('a duplicate whose original is gone can be relieved like any other lease', () => {
  const job = jobOn('a/0');
  grantTo(job, 'again', 'b/0', 0, 100, true);
  const paces = { 'b/0': 1, 'c/0': 1 };
  const slots = [freeSlot('a/0', { available: false }), freeSlot('b/0'), freeSlot('c/0')];
  assert.deepEqual(plan({ jobs: [job], paces, slots }), []);
  fail(job, 'job-1-lease', 'node_lost', 0, 0);
  assert.deepEqual(plan({ jobs: [job], paces, slots }), ['again -> 51', 'c/0: 51-100']);
});

test('a higher priority is served first', () => {
  const jobs = [submitJob({ jobId: 'low' }), submitJob({ jobId: 'high', clips: 1 }, 5)];
  const actions = schedule(scheduleInput({ jobs, paces: { 'a/0': 1 } }));
  assert.deepEqual(
    actions.map((a) => a.jobId),
    ['high'],
  );
});

test('a free slot helps the job that goes first before it begins one that comes after it', () => {
  const high = jobOn('a/0', { jobId: 'high' }, 5);
  const actions = schedule(scheduleInput({ jobs: [submitJob({ jobId: 'low' }), high], paces: { 'a/0': 1, 'b/0': 1 } }));
  assert.deepEqual(
    actions.map((a) => a.jobId),
    ['high', 'high'],
  );
});

test('among equal owners the one that used less gets the free slot', () => {
  const jobs = [submitJob({ jobId: 'anns' }), submitJob({ jobId: 'bobs', owner: 'bob' }, 0, 9)];
  const actions = schedule(scheduleInput({ jobs, paces: { 'a/0': 1 }, usage: { ann: 50, bob: 20 } }));
  assert.deepEqual(
    actions.map((a) => a.jobId),
    ['bobs'],
  );
});

test('a higher priority takes slots after the clip in hand, as many as help it', () => {
  const low = submitJob({ jobId: 'low' });
  grantTo(low, 'l1', 'a/0', 0, 50);
  grantTo(low, 'l2', 'b/0', 50, 100);
  const progress = { l1: { clip: 3, fraction: 0.5 }, l2: { clip: 49, fraction: 0.5 } };
  const farm = { paces: { 'a/0': 1, 'b/0': 1 }, progress };
  const small = submitJob({ jobId: 'small', clips: 1 }, 5);
  assert.deepEqual(plan({ ...farm, jobs: [low, small] }), ['l1 -> 4'], 'one clip needs one slot');
  const large = submitJob({ jobId: 'large', clips: 90 }, 5);
  assert.deepEqual(plan({ ...farm, jobs: [low, large] }), ['l1 -> 4', 'l2 -> 50'], 'a pre-roll is not waited for');
});

test('preemption counts the slots that come free anyway', () => {
  const low = submitJob({ jobId: 'low' });
  grantTo(low, 'l1', 'a/0', 0, 50);
  grantTo(low, 'l2', 'b/0', 50, 100);
  const progress = { l1: { clip: 3, fraction: 0.5 }, l2: { clip: 99, fraction: 0.5 } };
  const small = submitJob({ jobId: 'small', clips: 1 }, 5);
  assert.deepEqual(plan({ jobs: [low, small], paces: { 'a/0': 1, 'b/0': 1 }, progress }), []);
});

test('an idle slot that does not fit does not keep a job from preempting one that does', () => {
  const low = jobOn('a/0', { jobId: 'low' });
  const high = submitJob({ jobId: 'high' }, 5);
  const fits: NonNullable<Farm['fits']> = (slot, { priority }) => priority < 5 || slot.key === 'a/0';
  const slots = [freeSlot('a/0'), freeSlot('b/0', { warmUpSeconds: 500 })];
  const progress = { 'low-lease': { clip: 3, fraction: 0 } };
  assert.deepEqual(plan({ jobs: [low, high], paces: { 'a/0': 1, 'b/0': 1 }, slots, fits, progress }), [
    'low-lease -> 4',
  ]);
});

test('only slots that fit and take new leases are preempted', () => {
  const low = submitJob({ jobId: 'low' });
  grantTo(low, 'l1', 'a/0', 0, 50);
  grantTo(low, 'l2', 'b/0', 50, 100);
  const high = submitJob({ jobId: 'high' }, 5);
  const slots = [freeSlot('a/0', { available: false }), freeSlot('b/0')];
  const fits: NonNullable<Farm['fits']> = (slot, { priority }) => priority < 5 || slot.key === 'a/0';
  assert.deepEqual(plan({ jobs: [low, high], paces: { 'a/0': 1, 'b/0': 1 }, slots, fits }), []);
});

test('a job whose priority is raised while it runs gets more slots', () => {
  const low = jobOn('a/0', { jobId: 'low' });
  const raised = jobOn('b/0', { jobId: 'raised' });
  execute(raised, { type: 'setPriority', priority: 5 });
  const progress = { 'low-lease': { clip: 10, fraction: 0.5 }, 'raised-lease': { clip: 10, fraction: 0.5 } };
  const farm = { jobs: [low, raised], paces: { 'a/0': 1, 'b/0': 1 }, progress };
  assert.deepEqual(plan(farm), ['low-lease -> 11']);
});

test('nobody is preempted for clips that their own slots will have done sooner', () => {
  const high = submitJob({ jobId: 'high' }, 5);
  grantTo(high, 'h1', 'b/0', 0, 99);
  commit(high, 'h1', ...Array.from({ length: 98 }, (_, i) => i));
  const low = jobOn('a/0', { jobId: 'low' });
  const progress = { h1: { clip: 98, fraction: 0.5 }, 'low-lease': { clip: 10, fraction: 0 } };
  const slots = [freeSlot('a/0', { warmUpSeconds: 60 }), freeSlot('b/0')];
  assert.deepEqual(plan({ jobs: [low, high], paces: { 'a/0': 1, 'b/0': 1 }, slots, progress }), []);
});

test('a slot is not taken for a job that would not be given it: it would go back and forth', () => {
  const high = jobOn('b/0', { jobId: 'high' }, 5);
  fail(high, 'high-lease', 'crash', 99, 0);
  grantTo(high, 'h2', 'b/0', 0, 100);
  fail(high, 'h2', 'crash', 98, 0);
  grantTo(high, 'h3', 'c/0', 0, 100);
  const low = jobOn('b/0', { jobId: 'low' });
  assert.deepEqual(plan({ jobs: [low, high], paces: { 'b/0': 1, 'c/0': 1 }, now: 60_000 }), []);
});

test('between owners of equal priority slots even out, one at a time, and no further', () => {
  const anns = submitJob({ jobId: 'anns' });
  for (const [n, key] of ['a/0', 'b/0', 'c/0', 'd/0'].entries()) grantTo(anns, `l${n}`, key, n * 25, n * 25 + 25);
  const bobs = submitJob({ jobId: 'bobs', owner: 'bob' });
  const paces = { 'a/0': 1, 'b/0': 1, 'c/0': 1, 'd/0': 1 };
  const usage = { ann: 100, bob: 0 };
  for (const _ of [1, 2]) {
    const actions = schedule(scheduleInput({ jobs: [anns, bobs], paces, usage }));
    assert.equal(actions.length, 1, actions.map(inWords).join('; '));
    carryOut([anns, bobs], actions);
    carryOut([anns, bobs], schedule(scheduleInput({ jobs: [anns, bobs], paces, usage })));
  }
  assert.deepEqual([anns.state.leases.size, bobs.state.leases.size], [2, 2]);
  assert.deepEqual(plan({ jobs: [anns, bobs], paces, usage }), []);
});

test('an owner who has as many slots as the other takes none from him, however little he used before', () => {
  const anns = jobOn('a/0', { jobId: 'anns' });
  const bobs = jobOn('b/0', { jobId: 'bobs', owner: 'bob' });
  const farm = { jobs: [anns, bobs], paces: { 'a/0': 1, 'b/0': 1 }, usage: { ann: 5000, bob: 0 } };
  assert.deepEqual(plan(farm), []);
});

test('a slot is not taken for an owner whom it would not be given to', () => {
  const anns = submitJob({ jobId: 'anns' });
  for (const [n, key] of ['a/0', 'b/0', 'c/0'].entries()) grantTo(anns, `l${n}`, key, n * 30, n * 30 + 30);
  const bobs = submitJob({ jobId: 'bobs', owner: 'bob' });
  const farm = { jobs: [anns, bobs], paces: { 'a/0': 1, 'b/0': 1, 'c/0': 1 } };
  assert.deepEqual(plan({ ...farm, usage: { ann: 10, bob: 5000 } }), []);
});

test('a clip in back-off waits, its neighbours do not', () => {
  const job = jobOn('a/0', { clips: 10 });
  fail(job, 'job-1-lease', 'crash', 4, 1000);
  const farm = { jobs: [job], paces: { 'b/0': 1, 'c/0': 1 } };
  const early = schedule(scheduleInput({ ...farm, now: 1400 }));
  assert.ok(
    early.every((a) => a.type === 'grant' && (a.end <= 4 || a.start > 4)),
    early.map(inWords).join('; '),
  );
  assert.equal(early.length, 2);
  const late = schedule(scheduleInput({ ...farm, now: 1500 }));
  assert.ok(late.some((a) => a.type === 'grant' && a.start <= 4 && a.end > 4));
});

test('a slot that ran out of memory on a job is left alone by that job, as long as there is another one', () => {
  const job = jobOn('a/0');
  fail(job, 'job-1-lease', 'out_of_memory', 0, 0);
  const farm = { paces: { 'a/0': 1, 'a/1': 1 }, now: 60_000 };
  assert.deepEqual(plan({ ...farm, jobs: [job] }), ['a/1: 0-100']);
  const other = jobOn('a/1', { jobId: 'other' }, 5);
  assert.deepEqual(plan({ ...farm, jobs: [job, other] }), ['other-lease -> 51', 'a/0: 51-100']);
});

test('a job that ran out of memory everywhere tries again, and fails in the end instead of waiting for ever', () => {
  const job = submitJob({ clips: 1 });
  let now = 0;
  while (job.state.status === 'active') {
    const actions = schedule(scheduleInput({ jobs: [job], paces: { 'a/0': 1, 'b/0': 1 }, now }));
    carryOut([job], actions, now);
    for (const leaseId of job.state.leases.keys()) fail(job, leaseId, 'out_of_memory', 0, now);
    now += 60_000;
    assert.ok(now < 3_600_000, 'it waits for ever');
  }
  assert.match(
    job.state.reason,
    /every slot that is left has run out of memory; 4 attempts at clip 0; last: out_of_memory/,
  );
});

test('a clip that failed on a node goes to another node that could try it', () => {
  const job = jobOn('a/0', { clips: 1 });
  fail(job, 'job-1-lease', 'crash', 0, 0);
  const now = 10_000;
  assert.deepEqual(plan({ jobs: [job], paces: { 'a/0': 1, 'a/1': 1, 'b/0': 9 }, now }), ['b/0: 0-1']);
  assert.deepEqual(plan({ jobs: [job], paces: { 'a/0': 1, 'a/1': 1 }, now }), ['a/0: 0-1'], 'when there is one');
});

test('a slow node that is the only one left to try a clip is not put off for fast ones that are not', () => {
  const job = jobOn('a/0', { clips: 1 });
  fail(job, 'job-1-lease', 'crash', 0, 0);
  const slots = [freeSlot('a/0'), freeSlot('b/0', { warmUpSeconds: 60 })];
  assert.deepEqual(plan({ jobs: [job], paces: { 'a/0': 1, 'b/0': 0.9 }, slots, now: 9000 }), ['b/0: 0-1']);
});

/** A job at whose first clip node `a` was lost so many times. */
function lostOn(times: number): LoggedJob {
  const job = submitJob({ clips: 1 });
  for (let n = 0; n < times; n++) {
    grantTo(job, `l${n}`, 'a/0', 0, 1);
    fail(job, `l${n}`, 'node_lost', 0, 0);
  }
  return job;
}

test('a node that was lost once gets its clip again at once; one that was lost at it again leaves it to others', () => {
  const busy = jobOn('b/0', { jobId: 'other' });
  const paces = { 'a/0': 1, 'b/0': 1 };
  assert.equal(plan({ jobs: [lostOn(1), busy], paces })[0], 'a/0: 0-1');
  const again = (now: number) => plan({ jobs: [lostOn(2), busy], paces, now }).includes('a/0: 0-1');
  assert.equal(again(10_000), false);
  assert.equal(again(60_500), true, 'the other has been busy for long');
  assert.deepEqual(plan({ jobs: [lostOn(2)], paces, now: 10_000 }), ['b/0: 0-1']);
  assert.deepEqual(plan({ jobs: [lostOn(2)], paces: { 'a/0': 1 }, now: 10_000 }), ['a/0: 0-1'], 'there is no other');
});

test('a node that dies at every lease does not end a job that a busy one renders in the end', () => {
  const busy = jobOn('b/0', { jobId: 'other', clips: 100 });
  const job = submitJob({ clips: 1 });
  const paces = { 'a/0': 1, 'b/0': 10 };
  for (let now = 0; job.state.status === 'active' && now < 3_600_000; now += 250) {
    carryOut([job, busy], schedule(scheduleInput({ jobs: [job, busy], paces, now })), now);
    for (const one of [job, busy]) {
      for (const { leaseId, nodeId, start, grantedAt } of [...one.state.leases.values()]) {
        if (nodeId === 'a') fail(one, leaseId, 'node_lost', start, now);
        else if (one === job) commit(one, leaseId, start);
        else if (now - grantedAt >= 1_000_000) commit(one, leaseId, ...Array.from({ length: 100 }, (_, n) => n));
      }
    }
  }
  assert.equal(job.state.status, 'stitching', job.state.reason);
});

test('the more often a node was lost at a clip, the longer the clip waits for another', () => {
  const busy = jobOn('b/0', { jobId: 'other' });
  const again = (times: number, now: number) =>
    plan({ jobs: [lostOn(times), busy], paces: { 'a/0': 1, 'b/0': 1 }, now }).includes('a/0: 0-1');
  assert.deepEqual([again(5, 480_000), again(5, 490_000)], [false, true]);
  assert.equal(again(20, 24 * 3_600_000), false);
});

test('a clip does not wait for ever for another node that is busy', () => {
  const job = jobOn('a/0', { clips: 1 });
  fail(job, 'job-1-lease', 'crash', 0, 0);
  const other = jobOn('b/0', { jobId: 'other' }, 5);
  const farm = { jobs: [job, other], paces: { 'a/0': 1000, 'b/0': 1 } };
  assert.deepEqual(plan({ ...farm, now: 30_000 }), []);
  assert.deepEqual(plan({ ...farm, now: 90_000 }), ['a/0: 0-1']);
});

test('a tail with a clip that failed on a node is not taken over by that node', () => {
  const job = jobOn('a/0');
  fail(job, 'job-1-lease', 'crash', 90, 0);
  grantTo(job, 'l2', 'b/0', 0, 100);
  const farm = { jobs: [job], paces: { 'a/0': 1, 'b/0': 1, 'c/0': 1 }, now: 10_000 };
  const [, grant] = plan({ ...farm, slots: [freeSlot('a/0'), freeSlot('b/0')] });
  assert.equal(grant, undefined);
  assert.deepEqual(plan(farm), ['l2 -> 51', 'c/0: 51-100']);
});

test('slots of nodes that are lost, drained or quarantined get nothing', () => {
  const slots = [freeSlot('a/0', { available: false })];
  assert.deepEqual(plan({ jobs: [submitJob()], paces: { 'a/0': 1 }, slots }), []);
});

test('a slot that will take nothing new is not counted on for clips that are pending', () => {
  const job = submitJob();
  grantTo(job, 'l1', 'a/0', 0, 10);
  const slots = [freeSlot('a/0', { available: false }), freeSlot('b/0', { warmUpSeconds: 30 })];
  assert.deepEqual(plan({ jobs: [job], paces: { 'a/0': 0.1, 'b/0': 1 }, slots }), ['b/0: 10-100']);
});

test('a paused job gets nothing and is not relieved', () => {
  const job = jobOn('a/0');
  const running = { 'job-1-lease': 99 };
  execute(job, { type: 'pause', reason: '', currentClips: new Map(Object.entries(running)) });
  assert.deepEqual(plan({ jobs: [job], paces: { 'a/0': 1, 'b/0': 1 } }), []);
});

test('the forecast of a job counts slots at work and slots that are free', () => {
  const job = submitJob();
  assert.equal(forecastFinish(scheduleInput({ jobs: [job], paces: {} }), job.state), Number.POSITIVE_INFINITY);
  const two = forecastFinish(scheduleInput({ jobs: [job], paces: { 'a/0': 1, 'b/0': 1 } }), job.state);
  assert.equal(two, 51);
  grantTo(job, 'l1', 'a/0', 0, 100);
  const input = scheduleInput({ jobs: [job], paces: { 'a/0': 2 }, progress: { l1: { clip: 40, fraction: 0.5 } } });
  const [lease] = job.state.leases.values();
  assert.equal(lease && forecastLease(input, job.state, lease), 119);
  assert.equal(forecastFinish(input, job.state), 119);
});

test('a clip that failed by a clock far ahead is granted at once by the next leader', () => {
  const job = jobOn('a/0', { clips: 10 });
  const failure = { failureClass: 'crash', message: '', clip: 0 } as const;
  execute(job, { type: 'failLease', leaseId: 'job-1-lease', ...failure }, 600_000);
  assert.deepEqual(plan({ jobs: [job], paces: { 'b/0': 1 }, now: 600_001 }), ['b/0: 1-10'], 'it waits');
  assert.deepEqual(plan({ jobs: [job], paces: { 'b/0': 1 }, now: 0 }), ['b/0: 0-10']);
});
