import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ManualClock } from '@clipfarm/shared/clock';
import { Hello } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { createLogger } from '@clipfarm/shared/log';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { createMetrics } from '../admin/metrics.ts';
import { openDirectoryStore } from '../artifacts/directory-store.ts';
import type { JobDefinition } from '../core/job-model.ts';
import { contentRef, jobDefinition } from '../core/test-jobs.ts';
import { openSqliteJournal } from '../journal/sqlite-journal.ts';
import { artifactKeys } from './artifact-keys.ts';
import { quietSnapshots } from './farm-fixture.ts';
import { InputKeeper } from './input-keeper.ts';
import { Jobs } from './jobs.ts';
import { Nodes } from './nodes.ts';
import { Office } from './office.ts';
import { Retention, type RetentionTimes } from './retention.ts';

const HOUR = 3_600_000;
const log = createLogger({ name: 'test', level: 'silent' });
const sha = (name: string) => createHash('sha256').update(name).digest('hex');

/** A journal and a store, and coordinators that share them. */
async function place(t: TestContext) {
  const dir = temporaryDirectory(t);
  const clock = new ManualClock();
  const journal = await openSqliteJournal({ path: join(dir, 'journal.db') });
  t.after(() => journal.close());
  const root = join(dir, 'artifacts');
  const store = await openDirectoryStore(root);
  let files = 0;
  /** Stores a file as if it had come at the clock's time. */
  const put = async (key: string) => {
    const path = join(store.tempDir(), `${files++}`);
    writeFileSync(path, key);
    await store.putFile(key, path, { sha256: sha(key), bytes: Buffer.byteLength(key) });
    utimesSync(join(root, 'files', key), clock.now() / 1000, clock.now() / 1000);
  };
  const coordinator = async (term: number | null, retention: RetentionTimes) => {
    const office = new Office(() => null);
    const snapshots = quietSnapshots();
    const kept = { journal, clock, office, snapshots };
    const [jobs, nodes] = [await Jobs.load(kept), await Nodes.load(kept)];
    if (term !== null) {
      office.enter(term);
      await jobs.takeOver();
    }
    const inputs = new InputKeeper({ store, clock, keepMillis: retention.inputMillis });
    const metrics = createMetrics();
    const parts = {
      jobs,
      nodes,
      inputs,
      audio: { drop: async () => {} },
      store,
      office,
      retention,
      metrics,
      clock,
      log,
    };
    return { jobs, nodes, office, inputs, snapshots, metrics, retention: new Retention(parts) };
  };
  const keys = async () => (await store.list('')).map(({ key }) => key);
  return { clock, journal, store, put, coordinator, keys };
}

type Coordinator = Awaited<ReturnType<Awaited<ReturnType<typeof place>>['coordinator']>>;

const inputsOf = (name: string, audio = `audio of ${name}`): Partial<JobDefinition> => ({
  jobId: name,
  imageSha256: sha(`image of ${name}`),
  audioSha256: sha(audio),
  reference: { sha256: sha(`reference of ${name}`), bytes: 1 },
  modelAudio: { sha256: sha(`model audio of ${name}`), bytes: 1 },
});

/** Submits a job of one clip whose files are in the store, and brings it to its end. */
async function job(
  { put }: Awaited<ReturnType<typeof place>>,
  { jobs }: Coordinator,
  given: Partial<JobDefinition>,
  end: 'completed' | 'cancelled' | 'paused' | 'live',
) {
  const definition = jobDefinition({ clips: 1, ...given });
  const { jobId, imageSha256, audioSha256, reference, modelAudio } = definition;
  await jobs.submit(definition, 0);
  for (const input of [imageSha256, audioSha256, reference.sha256, modelAudio.sha256])
    await put(artifactKeys.input(input));
  await put(artifactKeys.video(jobId, 'v'));
  if (end === 'cancelled') await jobs.execute(jobId, { type: 'cancel', reason: 'test' });
  if (end === 'paused') await jobs.execute(jobId, { type: 'pause', reason: 'test', currentClips: new Map() });
  if (end !== 'completed') return;
  const lease = { leaseId: 'l', nodeId: 'n', slotId: 's', profile: 'p', start: 0, end: 1, preRoll: 0 };
  await jobs.execute(jobId, { type: 'grant', lease: { ...lease, speculative: false }, reason: 'test' });
  const chunk = { leaseId: 'l', clip: 0, frames: 48, chunk: contentRef('c'), headerHash: 'h' };
  await jobs.execute(jobId, { type: 'commit', chunk });
  const result = { video: contentRef('v'), frames: 1, videoSeconds: 1, audioSeconds: 1, finishMillis: 1, checks: [] };
  await jobs.execute(jobId, { type: 'complete', result });
}

const day: RetentionTimes = { jobMillis: 24 * HOUR, inputMillis: HOUR };

test('a finished job goes after its time with all that only it needed; live and paused ones stay', async (t) => {
  const farm = await place(t);
  const leader = await farm.coordinator(1, day);
  await job(farm, leader, inputsOf('done', 'a talk'), 'completed');
  await job(farm, leader, inputsOf('off'), 'cancelled');
  await job(farm, leader, inputsOf('held', 'a talk'), 'paused');
  await job(farm, leader, inputsOf('live'), 'live');
  farm.clock.advance(24 * HOUR - 1);
  await leader.retention.sweep();
  assert.equal(leader.jobs.all().length, 4);
  farm.clock.advance(1);
  await leader.retention.sweep();
  assert.deepEqual(
    leader.jobs.all().map(({ definition }) => definition.jobId),
    ['held', 'live'],
  );
  const names = ['held', 'live'];
  const parts = ['image', 'reference', 'model audio'].flatMap((part) => names.map((name) => `${part} of ${name}`));
  const inputs = [...parts, 'a talk', 'audio of live'].map((name) => artifactKeys.input(sha(name)));
  const videos = names.map((name) => artifactKeys.video(name, 'v'));
  assert.deepEqual(await farm.keys(), [...inputs, ...videos].sort());
  const streams = (await farm.journal.streams()).map(({ stream }) => stream);
  assert.deepEqual(streams, ['expired', 'intents', 'jobs/held', 'jobs/live']);
});

test('who asks for a job that expired is told so, also after a restart, and by a prefix', async (t) => {
  const farm = await place(t);
  const leader = await farm.coordinator(1, day);
  await job(farm, leader, { ...inputsOf('3f9a-1'), idempotencyKey: 'k' }, 'completed');
  const follower = await farm.coordinator(null, day);
  farm.clock.advance(25 * HOUR);
  await leader.retention.sweep();
  const restarted = await farm.coordinator(2, day);
  const told = { code: 'not_found', message: /job 3f9a-1 expired at 2030-01-02T01:00Z: it ended at 2030-01-01T00:00Z/ };
  for (const { jobs } of [leader, follower, restarted]) {
    for (const name of ['3f9a-1', '3f9']) assert.throws(() => jobs.find(name), told);
    assert.throws(() => jobs.find('4'), { code: 'not_found', message: /there is no job "4"/ });
    assert.deepEqual(jobs.all(), []);
    assert.equal(jobs.byIdempotencyKey('ann', 'k'), undefined);
  }
});

test('a job that expired can not be retried, and a coordinator that follows removes nothing', async (t) => {
  const farm = await place(t);
  const leader = await farm.coordinator(1, day);
  await job(farm, leader, inputsOf('off'), 'cancelled');
  const follower = await farm.coordinator(null, day);
  farm.clock.advance(25 * HOUR);
  await assert.rejects(follower.retention.sweep(), { code: 'unavailable' });
  assert.equal((await farm.keys()).length, 5);
  await leader.jobs.execute('off', { type: 'expire', keepMillis: 24 * HOUR });
  assert.equal((await leader.jobs.execute('off', { type: 'retry' })).outcome, 'refused');
  await assert.rejects(follower.jobs.remove('off'), { code: 'unavailable' });
});

test('wherever a leader ends while it removes a job, the next one goes on from there', async (t) => {
  for (const end of ['decided', 'files removed', 'recorded']) {
    const farm = await place(t);
    const first = await farm.coordinator(1, day);
    await job(farm, first, inputsOf('done'), 'completed');
    farm.clock.advance(25 * HOUR);
    await first.jobs.execute('done', { type: 'expire', keepMillis: 24 * HOUR });
    if (end !== 'decided') await farm.store.removePrefix('jobs/done');
    if (end === 'recorded') {
      t.mock.method(farm.journal, 'remove', async () => assert.fail('killed'), { times: 1 });
      await assert.rejects(first.jobs.remove('done'), /killed/);
    }
    const next = await farm.coordinator(2, { ...day, inputMillis: 0 });
    await next.retention.sweep();
    assert.deepEqual(await farm.keys(), [], end);
    assert.ok(!(await farm.journal.streams()).some(({ stream }) => stream === 'jobs/done'), end);
    assert.throws(() => next.jobs.find('done'), /expired/);
    await assert.rejects(first.jobs.execute('done', { type: 'retry' }), FARM_ERROR, 'a deposed leader changes nothing');
  }
});

const FARM_ERROR = { name: 'FarmError' };

test('uploads that no job needs go after their time, not while somebody is about to submit them', async (t) => {
  const farm = await place(t);
  const leader = await farm.coordinator(1, { jobMillis: null, inputMillis: HOUR });
  const [forgotten = '', wanted = ''] = ['forgotten', 'wanted'].map(sha);
  for (const input of [forgotten, wanted]) await farm.put(artifactKeys.input(input));
  await farm.put('inputs/notes.txt');
  farm.clock.advance(HOUR - 1);
  await leader.inputs.use(wanted);
  await leader.retention.sweep();
  assert.equal((await farm.keys()).length, 3);
  farm.clock.advance(1);
  await leader.retention.sweep();
  assert.deepEqual(await farm.keys(), [artifactKeys.input(wanted), 'inputs/notes.txt']);
  farm.clock.advance(leader.inputs.inUseMillis + 1);
  await leader.retention.sweep();
  assert.deepEqual(await farm.keys(), ['inputs/notes.txt'], 'what is no input is not touched');
});

test('a leader removes no inputs before it can know who uses them, nor after it stood still', async (t) => {
  const farm = await place(t);
  await farm.put(artifactKeys.input(sha('a')));
  farm.clock.advance(10 * HOUR);
  const leader = await farm.coordinator(1, day);
  await leader.retention.sweep();
  assert.equal((await farm.keys()).length, 1);
  const decided = farm.clock.monotonic();
  farm.clock.advance(5000);
  assert.deepEqual(await leader.inputs.remove([sha('a')], { decidedAt: decided, mayGoOn: () => true }), []);
  farm.clock.advance(leader.inputs.inUseMillis);
  await leader.retention.sweep();
  assert.deepEqual(await farm.keys(), []);
});

test('a deposed leader decides no removal, whether or not it has heard of the new one', async (t) => {
  const farm = await place(t);
  const old = await farm.coordinator(1, day);
  await farm.coordinator(2, day);
  await assert.rejects(old.jobs.recordInputsExpired([sha('a')]), { code: 'unavailable', message: /term 2/ });
});

test('a leader that stands still while its decision is stored, or is deposed meanwhile, removes no input', async (t) => {
  for (const what of ['stands still', 'is deposed'] as const) {
    const farm = await place(t);
    const leader = await farm.coordinator(1, { jobMillis: null, inputMillis: HOUR });
    await farm.put(artifactKeys.input(sha('a')));
    farm.clock.advance(10 * HOUR);
    const append = farm.journal.append.bind(farm.journal);
    const stored = async (...given: Parameters<typeof append>) => {
      const position = await append(...given);
      if (what === 'stands still') farm.clock.advance(5000);
      else leader.office.leave();
      return position;
    };
    t.mock.method(farm.journal, 'append', stored, { times: 1 });
    await leader.retention.sweep();
    assert.equal((await farm.keys()).length, 1, what);
  }
});

test('what is left of a job whose history could not be removed goes with the next look', async (t) => {
  const farm = await place(t);
  const leader = await farm.coordinator(1, day);
  await leader.retention.sweep();
  await job(farm, leader, inputsOf('done'), 'completed');
  farm.clock.advance(25 * HOUR);
  t.mock.method(farm.journal, 'remove', async () => assert.fail('no answer'), { times: 2 });
  await assert.rejects(leader.retention.sweep(), /no answer/);
  await leader.retention.sweep();
  assert.ok(!(await farm.journal.streams()).some(({ stream }) => stream === 'jobs/done'));
});

test('a key whose job has expired makes another job, also before the first one is removed', async (t) => {
  const farm = await place(t);
  const { jobs } = await farm.coordinator(1, day);
  const given = { clips: 1, idempotencyKey: 'k' };
  await jobs.submit(jobDefinition({ jobId: 'first', ...given }), 0);
  await jobs.execute('first', { type: 'cancel', reason: 'test' });
  await jobs.execute('first', { type: 'expire', keepMillis: 0 });
  const again = await jobs.submit(jobDefinition({ jobId: 'second', ...given }), 0);
  assert.equal(again.alreadyExisted, false);
  await jobs.remove('first');
  assert.equal(jobs.byIdempotencyKey('ann', 'k')?.definition.jobId, 'second');
});

test('no snapshot of a job is saved once its history is removed', async (t) => {
  const farm = await place(t);
  const leader = await farm.coordinator(1, day);
  await job(farm, leader, inputsOf('done'), 'completed');
  await leader.snapshots.settled();
  const held = Promise.withResolvers<void>();
  const order: string[] = [];
  const { saveSnapshot, remove } = farm.journal;
  t.mock.method(farm.journal, 'saveSnapshot', async (...given: Parameters<typeof saveSnapshot>) => {
    await held.promise;
    await saveSnapshot.apply(farm.journal, given);
    order.push('saved');
  });
  t.mock.method(farm.journal, 'remove', async (stream: string) => {
    order.push('removed');
    await remove.call(farm.journal, stream);
  });
  await leader.jobs.execute('done', { type: 'expire', keepMillis: 0 });
  const removal = leader.jobs.remove('done');
  while (leader.jobs.get('done')) await nextTurn();
  for (let turn = 0; turn < 20; turn++) await nextTurn();
  held.resolve();
  await removal;
  await leader.snapshots.settled();
  assert.deepEqual(order, ['saved', 'removed']);
});

test('asking for inputs takes no memory where none is removed, nor for those that are not there', async (t) => {
  const farm = await place(t);
  const forEver = await farm.coordinator(1, { jobMillis: null, inputMillis: null });
  await forEver.inputs.use(sha('a'));
  const { inputs } = await farm.coordinator(2, day);
  for (const name of ['a', 'b']) await inputs.use(sha(name));
  inputs.absent(sha('b'));
  assert.deepEqual([forEver.inputs.noted, inputs.noted], [0, 1]);
});

test('nodes that stayed away for a week are forgotten; drained ones, and those that are there, are not', async (t) => {
  const farm = await place(t);
  const { nodes, metrics, retention } = await farm.coordinator(1, day);
  for (const name of ['gone', 'drained', 'here']) await nodes.register(Hello.fromPartial({ nodeId: name, name }));
  await nodes.drain('drained', 'a new card');
  for (const name of ['gone', 'drained']) nodes.disconnected(name);
  const known = () => nodes.all().map(({ name }) => name);
  farm.clock.advance(7 * 24 * HOUR + 1);
  nodes.seen('here');
  nodes.expire(5000);
  await retention.sweep();
  assert.deepEqual(known(), ['drained', 'here']);
  assert.equal((await metrics.nodesForgotten.get()).values[0]?.value, 1);
  const next = await farm.coordinator(2, day);
  assert.deepEqual(
    next.nodes.all().map(({ name }) => name),
    ['drained', 'here'],
  );
  await next.nodes.register(Hello.fromPartial({ nodeId: 'gone', name: 'gone' }));
  assert.equal(next.nodes.status(next.nodes.find('gone')), 'online');
});

test('a job whose files can not be removed keeps no other thing', async (t) => {
  const farm = await place(t);
  const leader = await farm.coordinator(1, day);
  for (const name of ['stuck', 'done']) await job(farm, leader, inputsOf(name), 'completed');
  farm.clock.advance(25 * HOUR);
  const { removePrefix } = farm.store;
  t.mock.method(farm.store, 'removePrefix', async (prefix: string) => {
    if (prefix === 'jobs/stuck') throw new Error('permission denied');
    await removePrefix.call(farm.store, prefix);
  });
  await leader.retention.sweep();
  const streams = (await farm.journal.streams()).map(({ stream }) => stream);
  assert.ok(streams.includes('jobs/stuck') && !streams.includes('jobs/done'));
});

test('what is kept for ever stays', async (t) => {
  const farm = await place(t);
  const leader = await farm.coordinator(1, { jobMillis: null, inputMillis: null });
  await job(farm, leader, inputsOf('done'), 'completed');
  await farm.put(artifactKeys.input(sha('forgotten')));
  farm.clock.advance(100 * 365 * 24 * HOUR);
  await leader.retention.sweep();
  assert.equal(leader.jobs.all().length, 1);
  assert.equal((await farm.keys()).length, 6);
});

test('a clock that is far ahead for one look removes nothing, nor one with which a coordinator starts', async (t) => {
  const farm = await place(t);
  const leader = await farm.coordinator(1, day);
  await job(farm, leader, inputsOf('done'), 'completed');
  await farm.put(artifactKeys.input(sha('upload')));
  farm.clock.advance(HOUR - 1);
  farm.clock.setWall(40 * 24 * HOUR);
  const started = await farm.coordinator(2, day);
  for (const { retention } of [leader, started]) await retention.sweep();
  assert.equal((await farm.keys()).length, 6);
  farm.clock.setWall(-40 * 24 * HOUR);
  for (const hours of [1, 22]) {
    farm.clock.advance(hours * HOUR);
    await started.retention.sweep();
    assert.deepEqual(
      started.jobs.all().map(({ definition }) => definition.jobId),
      ['done'],
    );
  }
  farm.clock.advance(HOUR);
  await started.retention.sweep();
  assert.deepEqual(started.jobs.all(), []);
});

test('a job that can not be expired keeps no other one', async (t) => {
  const farm = await place(t);
  const leader = await farm.coordinator(1, day);
  await job(farm, leader, inputsOf('broken'), 'completed');
  await job(farm, leader, inputsOf('done'), 'completed');
  farm.clock.advance(24 * HOUR);
  const execute = leader.jobs.execute.bind(leader.jobs);
  t.mock.method(leader.jobs, 'execute', async (...args: Parameters<typeof execute>) => {
    if (args[0] === 'broken') throw new Error('its stream is full');
    return execute(...args);
  });
  await leader.retention.sweep();
  assert.deepEqual(
    leader.jobs.all().map(({ definition }) => definition.jobId),
    ['broken'],
  );
});
