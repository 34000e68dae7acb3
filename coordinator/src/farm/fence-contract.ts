import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { systemClock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import { Hello } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import type { JobState } from '../core/job-model.ts';
import { contentRef, jobDefinition } from '../core/test-jobs.ts';
import type { Journal } from '../journal/journal.ts';
import { deaf, quietSnapshots } from './farm-fixture.ts';
import { Jobs } from './jobs.ts';
import { Nodes } from './nodes.ts';
import { Office } from './office.ts';

/** A journal that is empty at first. */
export interface JournalPlace {
  /** Opens it once more, as another coordinator does; where only one can have it, that one's. It is closed after the test. */
  open(): Promise<Journal>;
}

/** A coordinator's journal whose process can stand still in the middle of an append. */
interface Standing {
  readonly journal: Journal;
  /** Appends so far. */
  appends(): number;
  /** Has the append after so many more stand still, with its message not sent yet, or stored and its answer not read. */
  standAt(append: number, when: 'before' | 'after'): void;
  /** Resolves when it stands still. */
  readonly stands: Promise<void>;
  goOn(): void;
}

function standing(journal: Journal): Standing {
  const stands = Promise.withResolvers<void>();
  const goneOn = Promise.withResolvers<void>();
  let appends = 0;
  let at = { append: Number.NaN, when: 'before' };
  const stand = (number: number, when: string) => {
    if (number !== at.append || when !== at.when) return undefined;
    stands.resolve();
    return goneOn.promise;
  };
  const append: Journal['append'] = async (...args) => {
    const number = ++appends;
    await stand(number, 'before');
    const position = await journal.append(...args);
    await stand(number, 'after');
    return position;
  };
  const get = (target: Journal, property: string | symbol): unknown => {
    if (property === 'append') return append;
    const value: unknown = Reflect.get(target, property);
    return typeof value === 'function' ? value.bind(target) : value;
  };
  return {
    journal: new Proxy(journal, { get }),
    appends: () => appends,
    standAt: (more, when) => {
      at = { append: appends + more, when };
    },
    stands: stands.promise,
    goOn: goneOn.resolve,
  };
}

/** A coordinator's view of a journal. */
async function coordinator(journal: Journal) {
  const office = new Office(() => null);
  const parts = { journal, clock: systemClock, office, snapshots: quietSnapshots() };
  const jobs = await Jobs.load(parts);
  const nodes = await Nodes.load(parts);
  const takeOver = async (term: number) => {
    office.enter(term);
    await jobs.takeOver();
    await nodes.takeOver();
    office.taken();
  };
  return { jobs, nodes, office, takeOver };
}

type Coordinator = Awaited<ReturnType<typeof coordinator>>;

const keyOf = (jobId: string) => `order of ${jobId}`;

/** What a leader may have in hand when it stands still; `jobId` is that of a job for whose state it is meant. */
interface Deed {
  readonly name: string;
  readonly do: (leader: Coordinator, jobId: string) => Promise<unknown>;
}

const deeds: readonly Deed[] = [
  {
    name: 'accepts a job',
    do: ({ jobs }, jobId) => jobs.submit(jobDefinition({ jobId: `${jobId}-new`, idempotencyKey: keyOf(jobId) }), 0),
  },
  { name: 'has a job that is over retried', do: ({ jobs }, jobId) => jobs.execute(jobId, { type: 'retry' }) },
  {
    name: 'counts a chunk of a job that is over',
    do: ({ jobs }, jobId) => jobs.execute(jobId, { type: 'superfluous', leaseId: 'second', clip: 0 }),
  },
  {
    name: 'decides that a job has expired',
    do: ({ jobs }, jobId) => jobs.execute(jobId, { type: 'expire', keepMillis: 0 }),
  },
  {
    name: 'retries a job and cancels it again',
    do: async ({ jobs }, jobId) => {
      await jobs.execute(jobId, { type: 'retry' });
      await jobs.execute(jobId, { type: 'cancel', reason: 'test' });
      await jobs.execute(jobId, { type: 'retry' });
    },
  },
  {
    name: 'accepts a job and cancels it',
    do: async ({ jobs }, jobId) => {
      await jobs.submit(jobDefinition({ jobId: `${jobId}-new`, idempotencyKey: keyOf(jobId) }), 0);
      await jobs.execute(`${jobId}-new`, { type: 'cancel', reason: 'test' });
    },
  },
  {
    name: 'pauses a live job and drains a node',
    do: async ({ jobs, nodes }, jobId) => {
      await jobs.execute(`${jobId}-live`, { type: 'pause', reason: 'test', currentClips: new Map() });
      await nodes.drain(`${jobId}-node`, 'test');
    },
  },
  {
    name: 'removes a job',
    do: async ({ jobs }, jobId) => {
      await jobs.execute(jobId, { type: 'expire', keepMillis: 0 });
      await jobs.remove(jobId);
    },
  },
];

/**
 * What must hold with any journal of a leader that stands still at any moment and goes on when another one leads: it
 * changes nothing, those who asked it hear so, and what it has acknowledged stays.
 */
export function fenceContract(name: string, create: (t: TestContext) => Promise<JournalPlace>): void {
  describe(`a deposed leader with ${name}`, () => {
    for (const deed of deeds) {
      for (const when of ['before', 'after'] as const) {
        test(`changes nothing that ${deed.name} and stands still ${when} an append, whichever it is`, async (t) => {
          const place = await create(t);
          const appends = await appendsOf(place, deed);
          assert.ok(appends > 0);
          for (let append = 1; append <= appends; append++) await standStill(place, deed, append, when);
        });
      }
    }

    test('changes nothing when it was about to take over itself', async (t) => {
      const place = await create(t);
      const deed: Deed = { name: 'takes over', do: ({ office, takeOver }) => takeOver(office.term + 1) };
      const appends = await appendsOf(place, deed);
      assert.ok(appends >= 4, `${appends} appends`);
      for (let append = 1; append <= appends; append++) {
        for (const when of ['before', 'after'] as const) await standStill(place, deed, append, when);
      }
    });

    for (const deed of deeds) {
      test(`is known to have done what it did, or can't, that ${deed.name} while another takes over`, async (t) => {
        const place = await create(t);
        const appends = await appendsOf(place, { name: '', do: ({ office, takeOver }) => takeOver(office.term + 1) });
        for (let append = 1; append <= appends; append++) {
          for (const when of ['before', 'after'] as const) await overlap(place, deed, append, when);
        }
      });
    }

    test('leaves the way free for the same order at the new leader, which is one job', async (t) => {
      const place = await create(t);
      const journal = await place.open();
      const definition = (jobId: string) => jobDefinition({ jobId, idempotencyKey: 'an order' });
      for (const [round, when] of (['before', 'after'] as const).entries()) {
        for (const append of [1, 2]) {
          const owner = `owner-${round}-${append}`;
          const old = standing(deaf(await place.open()));
          const deposed = await coordinator(old.journal);
          const term = await nextTerm(journal);
          await deposed.takeOver(term);
          old.standAt(append, when);
          const atOld = settled(deposed.jobs.submit({ ...definition(`old-${owner}`), owner }, 0));
          await old.stands;
          const next = await coordinator(journal);
          await next.takeOver(term + 1);
          const { job, alreadyExisted } = await next.jobs.submit({ ...definition(`new-${owner}`), owner }, 0);
          old.goOn();
          // It was stored in time, and whoever asked is told of the same job; or it never will be.
          const inTime = append === 2 && when === 'after';
          assert.deepEqual([alreadyExisted, job.definition.jobId], [inTime, `${inTime ? 'old' : 'new'}-${owner}`]);
          const answer = await atOld;
          assert.equal(answer, inTime ? 'done' : 'unavailable');
          const later = await coordinator(await place.open());
          for (const view of [next, later]) {
            assert.deepEqual(
              view.jobs.all().filter((one) => one.definition.owner === owner),
              [job],
            );
          }
        }
      }
    });
  });
}

/** How many appends a deed takes. */
async function appendsOf(place: JournalPlace, deed: Deed): Promise<number> {
  const { old, leader, jobId } = await prepared(place);
  const before = old.appends();
  await deed.do(leader, jobId);
  return old.appends() - before;
}

/** Has a leader stand still at one of a deed's appends, another take over, and the first go on. */
async function standStill(place: JournalPlace, deed: Deed, append: number, when: 'before' | 'after'): Promise<void> {
  const says = (what: string) => `append ${append}, ${when}: ${what}`;
  const { old, leader, jobId, term } = await prepared(place);
  const journal = await place.open();
  // It follows before it leads, as coordinators do.
  const next = await coordinator(journal);
  const before = old.appends();
  old.standAt(append, when);
  const asked = settled(deed.do(leader, jobId));
  const stands = await Promise.race([old.stands.then(() => 'it stands still'), asked]);
  assert.equal(stands, 'it stands still', says(deed.name));
  await next.takeOver(term + 2);
  const [ends, states] = [await journal.streams(), stateOf(next)];
  old.goOn();
  const answer = await asked;
  assert.ok(answer === 'unavailable' || (answer === 'done' && when === 'after'), says(`it was told ${answer}`));
  // Removing what is decided to be removed is no matter of who leads.
  const isJobOver = (stream: string) => stream === `jobs/${jobId}` && leader.jobs.get(jobId) === undefined;
  const kept = (await journal.streams()).filter(({ stream }) => !isJobOver(stream));
  assert.deepEqual(
    kept,
    ends.filter(({ stream }) => !isJobOver(stream)),
    says('the journal is as it was'),
  );
  assert.ok(old.appends() > before);
  const later = await coordinator(await place.open());
  assert.deepEqual(stateOf(later), states, says('and tells the same'));
  // The new leader can do whatever the old one could not.
  await next.jobs.execute(`${jobId}-live`, { type: 'cancel', reason: 'test' });
  await next.jobs.submit(jobDefinition({ jobId: `${jobId}-next`, idempotencyKey: `next ${keyOf(jobId)}` }), 0);
  await assert.rejects(leader.jobs.submit(jobDefinition({ jobId: `${jobId}-late` }), 0), { code: 'unavailable' });
}

/** Has a leader's deed be done while another one takes over, between two appends of that one. */
async function overlap(place: JournalPlace, deed: Deed, append: number, when: 'before' | 'after'): Promise<void> {
  const says = (what: string) => `append ${append} of the take-over, ${when}: ${what}`;
  const { leader, jobId, term } = await prepared(place);
  const journal = await place.open();
  const entering = standing(deaf(journal));
  const next = await coordinator(entering.journal);
  entering.standAt(append, when);
  const taken = next.takeOver(term + 2);
  await entering.stands;
  const answer = await settled(deed.do(leader, jobId));
  entering.goOn();
  await taken;
  const states = stateOf(next);
  assert.deepEqual(stateOf(await coordinator(await place.open())), states, says(`its deed was ${answer}`));
  const ends = await journal.streams();
  // What is so already is said to be done, and takes no append.
  for (const again of deeds) await settled(again.do(leader, jobId));
  await assert.rejects(leader.jobs.submit(jobDefinition({ jobId: `${jobId}-late` }), 0), { code: 'unavailable' });
  const isRemoved = ({ stream }: { stream: string }) => stream === `jobs/${jobId}` && !leader.jobs.get(jobId);
  const left = (await journal.streams()).filter((one) => !isRemoved(one));
  assert.deepEqual(
    left,
    ends.filter((one) => !isRemoved(one)),
    says('the journal is as it was'),
  );
}

/** A leader that stood still since it took over, with a live job, a node and a job that is over. */
async function prepared(place: JournalPlace) {
  const journal = await place.open();
  const term = await nextTerm(journal);
  const old = standing(deaf(journal));
  const leader = await coordinator(old.journal);
  await leader.takeOver(term);
  const jobId = `over-${term}`;
  await leader.jobs.submit(jobDefinition({ jobId: `${jobId}-live` }), 0);
  await leader.nodes.register(Hello.fromPartial({ nodeId: `${jobId}-node`, name: 'n' }));
  await leader.jobs.submit(jobDefinition({ jobId }), 0);
  for (const leaseId of ['first', 'second']) {
    const lease = { leaseId, nodeId: 'n', slotId: leaseId, profile: 'p', start: 0, end: 10, preRoll: 0 };
    const speculative = leaseId === 'second';
    await leader.jobs.execute(jobId, { type: 'grant', lease: { ...lease, speculative }, reason: 'test' });
  }
  const chunk = { leaseId: 'first', clip: 0, frames: 48, chunk: contentRef('c'), headerHash: 'h' };
  await leader.jobs.execute(jobId, { type: 'commit', chunk });
  await leader.jobs.execute(jobId, { type: 'cancel', reason: 'test' });
  return { old, leader, jobId, term };
}

/** Terms rise by three, one of which is for a leader that does not get to lead. */
async function nextTerm(journal: Journal): Promise<number> {
  const end = (await journal.streams()).find(({ stream }) => stream === 'farm');
  return 10 * ((end?.position ?? 0) + 1);
}

/** What became of a call. */
function settled(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => 'done',
    (error: unknown) => FarmError.from(error).code,
  );
}

/** All that a coordinator knows of jobs, by their identity, and of nodes. */
function stateOf({ jobs, nodes }: Coordinator): unknown {
  const byId = (job: JobState) => [job.definition.jobId, job] as const;
  return structuredClone({
    jobs: [...jobs.all(), ...jobs.expired()].map(byId).sort(([a], [b]) => (a < b ? -1 : 1)),
    nodes: nodes.all().map(({ nodeId, drainReason }) => [nodeId, drainReason]),
  });
}
