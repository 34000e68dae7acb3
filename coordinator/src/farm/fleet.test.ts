import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import { SlotInfo, type SlotState } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { GIB } from '@clipfarm/shared/model/gpu-cost';
import { PEAK_MILLIS } from '../core/forecast.ts';
import { schedule } from '../core/schedule.ts';
import { DEFAULT_POLICY } from '../core/schedule-model.ts';
import { attach, commit, grant, memoryFarm, submit } from './farm-fixture.ts';
import { Fleet } from './fleet.ts';
import { Jobs } from './jobs.ts';

/** A node `n` with two slots, and a lease of clips 10 to 20 on slot `n/0`. */
async function farmWithLease() {
  const farm = await memoryFarm(new ManualClock());
  await attach(farm, 'n', [{}, {}]);
  const job = await submit(farm);
  const leaseId = await grant(farm, job, { nodeId: 'n', slotId: '0', start: 10, end: 20 });
  const note = (clip: number, fraction: number) => farm.fleet.noteProgress('n', leaseId, { clip, fraction });
  const at = () => {
    const { clip, fraction } = farm.fleet.progressOf(leaseId) ?? {};
    return [clip, fraction];
  };
  return { ...farm, job, leaseId, note, at };
}

test('progress counts for a lease in force, from the node that has it', async () => {
  const { fleet, leaseId, note, at } = await farmWithLease();
  fleet.noteProgress('another', leaseId, { clip: 12, fraction: 0 });
  fleet.noteProgress('n', 'no such lease', { clip: 12, fraction: 0 });
  assert.equal(fleet.progressOf(leaseId), undefined);
  assert.equal(fleet.progressOf('no such lease'), undefined);
  note(12, 0.25);
  assert.deepEqual(at(), [12, 0.25]);
});

test('progress of a lease that is over is forgotten, and what comes late is not kept', async () => {
  const { fleet, jobs, leaseId, note } = await farmWithLease();
  note(12, 0);
  await jobs.execute('job-1', { type: 'endLease', leaseId, cause: 'returned', reason: '' });
  assert.equal(fleet.progressOf(leaseId), undefined);
  note(13, 0);
  assert.equal(fleet.progressOf(leaseId), undefined);
  assert.equal(fleet.scheduleInput().progress.size, 0);
});

test('progress stays within the lease, pre-roll included, and never goes back', async () => {
  const { note, at } = await farmWithLease();
  note(3, -1);
  assert.deepEqual(at(), [9, 0]);
  note(12, 7);
  assert.deepEqual(at(), [12, 1]);
  for (const [clip, fraction] of [
    [12, 0.5],
    [11, 0.9],
    [Number.NaN, 0],
    [15, Number.NaN],
  ] as const) {
    note(clip, fraction);
    assert.deepEqual(at(), [12, 1], `${clip} ${fraction}`);
  }
  note(4_000_000_000, 0);
  assert.deepEqual(at(), [20, 0]);
});

test('progress carries when it last moved; a repetition is no movement', async () => {
  const { fleet, clock, leaseId, note } = await farmWithLease();
  clock.advance(1000);
  note(12, 0.5);
  const at = clock.monotonic();
  clock.advance(1000);
  note(12, 0.5);
  assert.deepEqual(fleet.progressOf(leaseId), { clip: 12, fraction: 0.5, at });
});

test('healthy leases are left alone when the wall clock is set, or another coordinator takes over', async () => {
  for (const hours of [1, -1]) {
    const { clock, fleet, job, note } = await farmWithLease();
    const actions = () => schedule(fleet.scheduleInput([job])).filter((action) => action.type === 'grant');
    const later = (given = fleet) => {
      const [lease = assert.fail()] = job.leases.values();
      return given.scheduleInput().stillSeconds(lease);
    };
    const before = actions();
    assert.deepEqual([before.filter(({ speculative }) => speculative), later()], [[], 0]);
    clock.setWall(hours * 3_600_000);
    assert.deepEqual([actions(), later()], [before, 0], 'nobody has said yet how far it is');
    clock.advance(4000);
    assert.equal(later(), 4);
    note(12, 0.5);
    const moved = actions();
    clock.setWall(hours * 3_600_000);
    assert.deepEqual([actions(), later()], [moved, 0]);
    clock.advance(9000);
    assert.equal(later(), 9);
    fleet.takeOver();
    assert.equal(later(), 0, 'what it did before nobody here has seen');
    clock.advance(2000);
    assert.equal(later(), 2);
  }
});

test('a slot is found by its name and is the same as in the list, with the lease that it holds', async () => {
  const { fleet, leaseId } = await farmWithLease();
  assert.deepEqual([fleet.slot('n', '0'), fleet.slot('n', '1')], fleet.slots());
  assert.deepEqual(
    fleet.slots().map((slot) => slot.leaseId),
    [leaseId, null],
  );
  assert.equal(fleet.slot('n', '2'), undefined);
  assert.equal(fleet.slot('m', '0'), undefined);
});

test('leases are found as long as they are in force, with their ends as they are', async () => {
  const { fleet, jobs, job, leaseId } = await farmWithLease();
  assert.deepEqual(fleet.holder(leaseId), { job, lease: job.leases.get(leaseId) });
  await jobs.execute('job-1', { type: 'shrink', leaseId, end: 15, reason: '' });
  assert.equal(fleet.holder(leaseId)?.lease.end, 15);
  await jobs.execute('job-1', { type: 'cancel', reason: '' });
  assert.equal(fleet.holder(leaseId), null);
  assert.equal(fleet.slot('n', '0')?.leaseId, null);
});

test('a slot that has finished its lease shows the next one', async () => {
  const farm = await farmWithLease();
  const { fleet, job } = farm;
  await commit(farm, job, farm.leaseId, 10, 20);
  const next = await grant(farm, job, { nodeId: 'n', slotId: '0', start: 30, end: 40 });
  assert.equal(fleet.slot('n', '0')?.leaseId, next);
});

test('a coordinator that starts finds the leases that the journal holds', async () => {
  const { journal, office, snapshots, nodes, clock, leaseId } = await farmWithLease();
  const jobs = await Jobs.load({ journal, clock, office, snapshots });
  const fleet = new Fleet(jobs, nodes, clock, DEFAULT_POLICY);
  assert.equal(fleet.holder(leaseId)?.lease.leaseId, leaseId);
  assert.equal(fleet.slot('n', '0')?.leaseId, leaseId);
});

test('slots that load, recover or drain take nothing, nor do those of a node that hands in its spool', async () => {
  const { fleet, nodes } = await farmWithLease();
  const available = (state: SlotState) => {
    const nothing = { leaseId: '', currentClip: 0, clipProgress: 0, stateReason: '', openLeaseId: '' };
    nodes.reported('n', [{ slotId: '1', state, ...nothing }]);
    return fleet.slot('n', '1')?.available;
  };
  assert.equal(available('SLOT_STATE_IDLE'), true);
  assert.equal(available('SLOT_STATE_LOADING'), false);
  assert.equal(available('SLOT_STATE_RECOVERING'), false);
  assert.equal(available('SLOT_STATE_DRAINING'), false);
  nodes.disconnected('n');
  assert.equal(available('SLOT_STATE_IDLE'), false);
});

test('what fits is what the slot says of itself since it last attached', async () => {
  const farm = await memoryFarm(new ManualClock());
  const job = await submit(farm);
  const fits = () => {
    const input = farm.fleet.scheduleInput();
    return input.slots.map((slot) => input.fits(slot, job));
  };
  await attach(farm, 'n', [{ profile: 'single-80g', memoryBytes: 79.6 * GIB, maxUnits: 70 }]);
  assert.deepEqual([...fits(), ...fits()], [true, true]);
  await attach(farm, 'n', [{ profile: 'single-80g', memoryBytes: 40 * GIB, maxUnits: 70 }]);
  assert.deepEqual(fits(), [false]);
  assert.match(farm.fleet.fits(job.definition)[0]?.detail ?? '', /GiB per GPU/);
});

test('a slot starts from a prior and then goes by what it measured; nonsense is no measurement', async () => {
  const farm = await memoryFarm(new ManualClock());
  const { definition } = await submit(farm);
  await attach(farm, 'n', [{ profile: 'single-80g', declaredSecondsPerClip: 0 }]);
  const slot = farm.fleet.slot('n', '0') ?? assert.fail('no slot');
  const prior = farm.fleet.secondsPerClip(slot, definition);
  assert.ok(prior > 1 && prior < 20);
  for (const nonsense of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
    farm.fleet.noteClip(slot, definition, nonsense, 0);
    assert.equal(farm.fleet.secondsPerClip(slot, definition), prior);
  }
  farm.fleet.noteClip(slot, definition, 7, 0);
  assert.equal(farm.fleet.secondsPerClip(slot, definition), 7);
  assert.equal(farm.fleet.scheduleInput().secondsPerClip(slot, definition), 7);
});

test('a picture that has peaked above the memory of a card is not given to it again, nor to its like', async () => {
  const farm = await memoryFarm(new ManualClock());
  const job = await submit(farm);
  const own = { profile: 'own', runnerKind: 'live-avatar', dtype: 'bf16', declaredSecondsPerClip: 0 };
  await attach(farm, 'large', [{ ...own, memoryBytes: 140 * GIB }]);
  await attach(farm, 'small', [{ ...own, memoryBytes: 82 * GIB }]);
  const fits = () => farm.fleet.slots().map((slot) => farm.fleet.canRender(slot, job.definition));
  assert.deepEqual(fits(), [true, true]);
  const slot = farm.fleet.slot('large', '0') ?? assert.fail('no slot');
  farm.fleet.noteClip(slot, job.definition, 5, 83 * GIB);
  farm.fleet.noteClip(slot, job.definition, 5, 70 * GIB);
  assert.deepEqual(fits(), [true, false]);
  const [ofLarge, ofSmall] = farm.fleet.fits(job.definition);
  assert.match(ofLarge?.detail ?? '', /about 5\.0 s a clip as measured/);
  assert.match(ofSmall?.detail ?? '', /took 83\.0 GiB per GPU, card has 82\.0 GiB/);
});

test('what was measured elsewhere keeps a picture from a slot for a time, and longer where the slot runs out of memory', async () => {
  const farm = await memoryFarm(new ManualClock());
  const job = await submit(farm);
  const own = { profile: 'own', runnerKind: 'live-avatar', dtype: 'bf16', declaredSecondsPerClip: 0 };
  await attach(farm, 'large', [{ ...own, memoryBytes: 140 * GIB }]);
  await attach(farm, 'small', [{ ...own, memoryBytes: 82 * GIB }]);
  const slot = (node: string) => farm.fleet.slot(node, '0') ?? assert.fail('no slot');
  const fits = () => farm.fleet.canRender(slot('small'), job.definition);
  farm.fleet.noteClip(slot('large'), job.definition, 5, 83 * GIB);
  assert.equal(fits(), false);
  farm.clock.advance(PEAK_MILLIS);
  farm.fleet.noteClip(slot('large'), job.definition, 5, 83 * GIB);
  assert.equal(fits(), true);
  const leaseId = await grant(farm, job, { nodeId: 'small', slotId: '0', start: 0, end: 2 });
  const failure = { failureClass: 'out_of_memory', message: 'CUDA out of memory', clip: 0 } as const;
  await farm.jobs.execute(job.definition.jobId, { type: 'failLease', leaseId, ...failure });
  assert.equal(fits(), false);
  farm.clock.advance(PEAK_MILLIS);
  farm.fleet.noteClip(slot('small'), job.definition, 9, 70 * GIB);
  farm.fleet.noteClip(slot('large'), job.definition, 5, 84 * GIB);
  assert.equal(fits(), true, 'it has rendered the picture');
});

test('figures that can not be spoil nobody’s forecast, and a slot keeps a picture that it has rendered', async () => {
  const farm = await memoryFarm(new ManualClock());
  const job = await submit(farm);
  const own = { profile: 'own', runnerKind: 'live-avatar', dtype: 'bf16', declaredSecondsPerClip: 0 };
  await attach(farm, 'a', [{ ...own, memoryBytes: 82 * GIB }]);
  await attach(farm, 'b', [{ ...own, memoryBytes: 82 * GIB }]);
  await attach(farm, 'large', [{ ...own, memoryBytes: 140 * GIB }]);
  const slot = (node: string) => farm.fleet.slot(node, '0') ?? assert.fail('no slot');
  const fits = () => farm.fleet.slots().map((one) => farm.fleet.canRender(one, job.definition));
  const before = farm.fleet.secondsPerClip(slot('b'), job.definition);
  for (const seconds of [Number.NaN, Number.POSITIVE_INFINITY, 1e300, -1])
    farm.fleet.noteClip(slot('a'), job.definition, seconds, Number.NaN);
  assert.equal(farm.fleet.secondsPerClip(slot('b'), job.definition), before);
  // What others use of the card is in some runners' figure, and not in what the slot may use.
  farm.fleet.noteClip(slot('a'), job.definition, 5, 2 ** 50);
  assert.deepEqual(fits(), [true, true, true]);
  farm.fleet.noteClip(slot('large'), job.definition, 5, 100 * GIB);
  assert.deepEqual(fits(), [true, false, true]);
});

test("upstream's script gets only as many clips as its host can keep, and no job that its host can't load", async () => {
  const farm = await memoryFarm(new ManualClock());
  const job = await submit(farm);
  const script = {
    profile: 'script',
    runnerKind: 'live-avatar-cli',
    dtype: 'fp8',
    memoryBytes: 80 * GIB,
    fixedEnd: true,
  };
  const hosts = [0.9 * 128, 35, 30].map((gib) => ({ ...script, hostMemoryBytes: gib * GIB }));
  await attach(farm, 'n', hosts);
  const input = farm.fleet.scheduleInput();
  assert.deepEqual(
    input.slots.map((slot) => [slot.fixedEnd, input.fits(slot, job), input.leaseLimit(slot, job)]),
    [
      [true, true, 166],
      [true, true, 28],
      [true, false, 19],
    ],
  );
});

test('a slot keeps the call of its last lease open until it says otherwise or gets the next one', async () => {
  const farm = await farmWithLease();
  const { fleet, nodes, job, leaseId } = farm;
  const open = () => fleet.slot('n', '0')?.openCall ?? null;
  await attach(farm, 'n', [{ continues: true }, {}]);
  await commit(farm, job, leaseId, 10, 20);
  const call = { jobId: 'job-1', leaseId, begin: 9, end: 20 };
  assert.deepEqual(open(), call);
  const says = (state: SlotState, openLeaseId: string) => {
    const status = { slotId: '0', state, leaseId: '', currentClip: 0, clipProgress: 0, stateReason: '', openLeaseId };
    nodes.reported('n', [status]);
    return open();
  };
  // What was sent before the lease ended says nothing yet.
  assert.deepEqual(says('SLOT_STATE_RENDERING', ''), call);
  assert.deepEqual(says('SLOT_STATE_IDLE', leaseId), call);
  assert.equal(says('SLOT_STATE_IDLE', ''), null);
  says('SLOT_STATE_IDLE', leaseId);
  nodes.slotChanged('n', SlotInfo.fromPartial({ slotId: '0', profile: 'synthetic', continues: false }));
  assert.equal(open(), null);
});

test('who holds slots is charged for them, and is forgotten some time after the last one', async () => {
  const { fleet, clock, jobs, leaseId } = await farmWithLease();
  const used = () => fleet.scheduleInput().usage.get('ann');
  for (let n = 0; n < 40; n++) {
    clock.advance(250);
    fleet.tickUsage();
  }
  assert.ok(Math.abs((used() ?? 0) - 10) < 0.1, `${used()}`);
  await jobs.execute('job-1', { type: 'endLease', leaseId, cause: 'returned', reason: '' });
  clock.advance(600_000);
  fleet.tickUsage();
  assert.ok(Math.abs((used() ?? 0) - 5) < 0.1, `${used()}`);
  clock.advance(2_400_000);
  fleet.tickUsage();
  assert.equal(used(), undefined);
});

test('a new term begins without progress, and charges nobody for the time before', async () => {
  const { fleet, clock, leaseId, note } = await farmWithLease();
  note(12, 0.5);
  clock.advance(3_600_000);
  fleet.takeOver();
  assert.equal(fleet.progressOf(leaseId), undefined);
  clock.advance(250);
  fleet.tickUsage();
  assert.equal(fleet.scheduleInput().usage.get('ann'), 0.25);
  note(11, 0);
  assert.equal(fleet.progressOf(leaseId)?.clip, 11);
});

test('what was measured on the slots of a node goes with it when it is forgotten; of its profile it still holds', async () => {
  const farm = await farmWithLease();
  const { clock, fleet, nodes, job, leaseId } = farm;
  await attach(farm, 'n', [{ continues: true }]);
  const slot = () => fleet.slot('n', '0') ?? assert.fail();
  const old = slot();
  fleet.noteClip(old, job.definition, 7, 0);
  await commit(farm, job, leaseId, 10, 20);
  assert.deepEqual([fleet.secondsPerClip(slot(), job.definition), slot().openCall?.end], [7, 20]);
  nodes.disconnected('n');
  clock.advance(10_000);
  nodes.expire(5000);
  clock.advance(1);
  assert.equal((await nodes.forgetAway(5000)).length, 1);
  assert.equal(fleet.secondsPerClip(old, job.definition), 1, 'what it declares');
  assert.equal(fleet.secondsPerClip({ ...old, declaredSecondsPerClip: 0 }, job.definition), 7);
  await attach(farm, 'n', [{ continues: true }]);
  assert.equal(slot().openCall, null);
});
