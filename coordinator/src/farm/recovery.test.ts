import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { systemClock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import { Hello } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { JOB_SNAPSHOT_VERSION } from '../core/job-snapshot.ts';
import { contentRef, jobDefinition } from '../core/test-jobs.ts';
import { type Journal, MAX_EVENT_BYTES, type Snapshot } from '../journal/journal.ts';
import { openSqliteJournal } from '../journal/sqlite-journal.ts';
import { deaf, quietSnapshots } from './farm-fixture.ts';
import { Jobs } from './jobs.ts';
import { Nodes } from './nodes.ts';
import { Office } from './office.ts';

const result = { video: contentRef('v'), frames: 1, videoSeconds: 1, audioSeconds: 1, finishMillis: 1, checks: [] };

async function journalFor(t: TestContext): Promise<Journal> {
  const journal = await openSqliteJournal({ path: join(temporaryDirectory(t), 'journal.db') });
  t.after(() => journal.close());
  return journal;
}

/** A coordinator's view of a journal, and the positions at which it began to read each stream. */
async function coordinator(journal: Journal, term: number | null) {
  const begins = new Map<string, number>();
  const read = journal.read.bind(journal);
  journal.read = (stream, from) => {
    if (!begins.has(stream)) begins.set(stream, from);
    return read(stream, from);
  };
  const office = new Office(() => null);
  const parts = { journal, clock: systemClock, office, snapshots: quietSnapshots() };
  const jobs = await Jobs.load(parts);
  const nodes = await Nodes.load(parts);
  if (term !== null) office.enter(term);
  return { jobs, nodes, office, begins, snapshots: parts.snapshots };
}

type Coordinator = Awaited<ReturnType<typeof coordinator>>;

async function render({ jobs }: Coordinator, jobId: string, clips: number) {
  await jobs.submit(jobDefinition({ jobId, clips, idempotencyKey: `key of ${jobId}` }), 0);
  const lease = { leaseId: `lease-${jobId}`, nodeId: 'n', slotId: 's', profile: 'p', start: 0, end: clips, preRoll: 0 };
  await jobs.execute(jobId, { type: 'grant', lease: { ...lease, speculative: false }, reason: 'test' });
  await commit(jobs, jobId, 0, clips - 1);
}

async function commit(jobs: Jobs, jobId: string, start: number, end: number) {
  for (let clip = start; clip < end; clip++) {
    const chunk = { leaseId: `lease-${jobId}`, clip, frames: 48, chunk: contentRef(`c${clip}`), headerHash: 'h' };
    await jobs.execute(jobId, { type: 'commit', chunk });
  }
}

test('a restart reads a job from its snapshot on, a finished one from its end, and has what it had', async (t) => {
  const journal = await journalFor(t);
  const first = await coordinator(journal, 1);
  await render(first, 'live', 700);
  await render(first, 'done', 10);
  await commit(first.jobs, 'done', 9, 10);
  await first.jobs.execute('done', { type: 'complete', result });
  await first.snapshots.settled();
  await commit(first.jobs, 'live', 699, 700);
  const second = await coordinator(journal, null);
  assert.deepEqual(second.jobs.all(), first.jobs.all());
  const from = second.begins.get('jobs/live') ?? 0;
  assert.ok(from > 350 && from <= 704, `read from ${from}`);
  const [end] = (await journal.streams()).filter(({ stream }) => stream === 'jobs/done');
  assert.equal(second.begins.get('jobs/done'), (end?.position ?? 0) + 1);
  assert.equal(second.jobs.byIdempotencyKey('ann', 'key of live')?.definition.jobId, 'live');
});

test('a restored job goes on where it was, and a leader that was deposed before the snapshot stays deposed', async (t) => {
  const journal = await journalFor(t);
  const first = await coordinator(journal, 3);
  await render(first, 'live', 300);
  await first.snapshots.settled();
  const second = await coordinator(journal, 2);
  await assert.rejects(second.jobs.execute('live', { type: 'cancel', reason: 'x' }), { code: 'unavailable' });
  second.office.enter(4);
  await commit(second.jobs, 'live', 299, 300);
  assert.equal(second.jobs.find('live').status, 'stitching');
});

test('a snapshot of another version is passed over: the job is folded from its events', async (t) => {
  const journal = await journalFor(t);
  const first = await coordinator(journal, 1);
  await render(first, 'live', 300);
  await first.snapshots.settled();
  const { position, data } = (await journal.loadSnapshot('jobs/live')) ?? assert.fail('no snapshot');
  const { term, state } = data as { term: number; state: object };
  const newer = { ...state, version: JOB_SNAPSHOT_VERSION + 1, plain: 'in a form that is not known yet' };
  await journal.saveSnapshot('jobs/live', position, { term, state: newer });
  const second = await coordinator(journal, null);
  assert.deepEqual(second.jobs.all(), first.jobs.all());
  assert.equal(second.begins.get('jobs/live'), 1);
});

test('a coordinator that follows saves no snapshots', async (t) => {
  const journal = await journalFor(t);
  const follower = await coordinator(journal, null);
  const leader = await coordinator(journal, 1);
  const saved: string[] = [];
  t.mock.method(journal, 'saveSnapshot', async (stream: string) => void saved.push(stream));
  await render(leader, 'live', 300);
  await Promise.all([leader.snapshots.settled(), follower.snapshots.settled()]);
  assert.deepEqual(follower.jobs.all(), leader.jobs.all());
  assert.deepEqual(saved, ['jobs/live']);
});

test('nodes, operators’ commands and the farm’s identity are restored from a snapshot', async (t) => {
  const journal = await journalFor(t);
  const first = await coordinator(journal, 1);
  await first.nodes.takeOver();
  for (const name of ['a', 'b']) await first.nodes.register(Hello.fromPartial({ nodeId: name, name, pool: 'p' }));
  await first.nodes.drain('a', 'a new card');
  for (let n = 0; n < 150; n++) {
    await first.nodes.drain('b', `reason ${n}`);
    await first.nodes.undrain('b');
  }
  await first.snapshots.settled();
  const second = await coordinator(journal, null);
  assert.ok((second.begins.get('farm') ?? 0) > 256);
  assert.equal(second.nodes.farmId, first.nodes.farmId);
  assert.deepEqual(
    second.nodes.all().map(({ name, pool, drainReason }) => ({ name, pool, drainReason })),
    [
      { name: 'a', pool: 'p', drainReason: 'a new card' },
      { name: 'b', pool: 'p', drainReason: null },
    ],
  );
});

test('when a power cut takes the last snapshot of the nodes, the one before and what came after it are still there', async (t) => {
  const journal = await journalFor(t);
  const first = await coordinator(journal, 1);
  const saved: Snapshot[] = [];
  const save = journal.saveSnapshot.bind(journal);
  t.mock.method(journal, 'saveSnapshot', async (stream: string, position: number, data: unknown) => {
    saved.push({ position, data: structuredClone(data) });
    await save(stream, position, data);
  });
  await first.nodes.takeOver();
  await first.nodes.register(Hello.fromPartial({ nodeId: 'a', name: 'a' }));
  while (saved.length < 3) {
    await first.nodes.drain('a', `after ${saved.length} snapshots`);
    await first.nodes.undrain('a');
  }
  await first.nodes.drain('a', 'a new card');
  await first.snapshots.settled();
  await assert.rejects(Array.fromAsync(journal.read('farm', 1)), /are gone/);
  t.mock.method(journal, 'loadSnapshot', async (stream: string) => (stream === 'farm' ? saved.at(-2) : null));
  const second = await coordinator(journal, null);
  assert.equal(second.nodes.find('a').drainReason, 'a new card');
  assert.equal(second.nodes.farmId, first.nodes.farmId);
});

test('an order that is given again because the journal could not say whether it is stored is the same job', async (t) => {
  const journal = await journalFor(t);
  const leader = await coordinator(deaf(journal), 1);
  await leader.jobs.takeOver();
  const append = journal.append.bind(journal);
  const definition = (jobId: string) => jobDefinition({ jobId, idempotencyKey: 'key' });
  // A disk that is full when it is asked a second time says nothing of the first.
  const answers = ['unavailable', 'resource_exhausted'] as const;
  const cases = answers.flatMap((code) => [{ code, fate: 'stored' } as const, { code, fate: 'lost' } as const]);
  for (const [round, { code, fate }] of cases.entries()) {
    const owner = `owner ${round}`;
    const mock = t.mock.method(journal, 'append', async (...args: Parameters<Journal['append']>) => {
      if (!args[0].startsWith('jobs/')) return append(...args);
      if (fate === 'stored') await append(...args);
      throw new FarmError(code, 'no answer');
    });
    const first = { ...definition(`first-${round}`), owner };
    await assert.rejects(leader.jobs.submit(first, 0), { code });
    mock.mock.restore();
    assert.equal(leader.jobs.byIdempotencyKey(owner, 'key'), undefined, 'it is not known yet');
    const { job, alreadyExisted } = await leader.jobs.submit({ ...definition(`second-${round}`), owner }, 0);
    assert.deepEqual([job.definition, alreadyExisted], [first, fate === 'stored']);
    const { jobs } = await coordinator(journal, null);
    assert.equal(jobs.all().filter((one) => one.definition.owner === owner).length, 1);
  }
});

test('an order that can be no event is not in doubt: its key is free for another one', async (t) => {
  const leader = await coordinator(await journalFor(t), 1);
  await leader.jobs.takeOver();
  const definition = (jobId: string, prompt: string) => jobDefinition({ jobId, prompt, idempotencyKey: 'key' });
  const large = definition('first', 'x'.repeat(2 * MAX_EVENT_BYTES));
  await assert.rejects(leader.jobs.submit(large, 0), { code: 'invalid_argument' });
  const { job } = await leader.jobs.submit(definition('second', 'x'), 0);
  assert.equal(job.definition.jobId, 'second');
});

test('an order that was in doubt in an earlier term is given anew in the next', async (t) => {
  const journal = await journalFor(t);
  const leader = await coordinator(journal, 1);
  await leader.jobs.takeOver();
  const append = journal.append.bind(journal);
  const mock = t.mock.method(journal, 'append', async (...args: Parameters<Journal['append']>) => {
    if (!args[0].startsWith('jobs/')) return append(...args);
    throw new FarmError('unavailable', 'no answer');
  });
  const definition = (jobId: string) => jobDefinition({ jobId, idempotencyKey: 'key' });
  await assert.rejects(leader.jobs.submit(definition('first'), 0), { code: 'unavailable' });
  mock.mock.restore();
  leader.office.leave();
  leader.office.enter(2);
  await leader.jobs.takeOver();
  const { job } = await leader.jobs.submit(definition('second'), 0);
  assert.equal(job.definition.jobId, 'second', 'the place of the first is taken');
  assert.deepEqual((await coordinator(journal, null)).jobs.all(), [job]);
});

test('the idempotency key of a job outlives a restart beside an expired job that had it before', async (t) => {
  const journal = await journalFor(t);
  const { jobs } = await coordinator(journal, 1);
  const submit = (jobId: string, idempotencyKey: string) => jobs.submit(jobDefinition({ jobId, idempotencyKey }), 0);
  await submit('a', 'key');
  await jobs.execute('a', { type: 'cancel', reason: 'x' });
  await jobs.execute('a', { type: 'expire', keepMillis: 0 });
  await submit('z', 'key');
  // So many that the streams of the two are not read at the same time.
  for (let n = 10; n < 50; n++) await submit(`other-${n}`, `key-${n}`);
  const again = await coordinator(journal, null);
  assert.equal(again.jobs.byIdempotencyKey('ann', 'key')?.definition.jobId, 'z');
});
