import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ManualClock } from '@clipfarm/shared/clock';
import { Hello } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { jobDefinition } from '../core/test-jobs.ts';
import type { Journal } from '../journal/journal.ts';
import { readAll } from '../journal/journal-contract.ts';
import { DepartedJobs, REMEMBERED } from './departed-jobs.ts';
import { deaf, quietSnapshots } from './farm-fixture.ts';
import { Jobs } from './jobs.ts';
import { Nodes } from './nodes.ts';
import { Office } from './office.ts';
import { type WriteIntent, WriteIntents } from './write-intents.ts';

/** Two events each: enough for two snapshots that a follower misses, the second of which removes what the first covers. */
const ROUNDS = 280;

const ignore = () => {};

/** Far more than anything takes on a busy machine. */
const PATIENCE_MILLIS = 60_000;

/** What the streams of a farm must do that last as long as the farm, with any journal. `create` opens a fresh, empty one. */
export function keptStreamsContract(name: string, create: (t: TestContext) => Promise<Journal>): void {
  describe(`${name} with the streams that are as old as the farm`, () => {
    test('what was decided about nodes is kept and its history is not, also for a follower that missed it', async (t) => {
      const journal = await create(t);
      const leader = leaderOf(journal, 1);
      const nodes = await Nodes.load(leader);
      await nodes.takeOver();
      const register = (nodeId: string) => nodes.register(Hello.fromPartial({ nodeId, name: nodeId }));
      for (const nodeId of ['a', 'b']) await register(nodeId);
      await nodes.left('b', 'the agent got SIGTERM');
      const follower = await Nodes.load(leaderOf(deaf(journal), 2));
      const known = follower.find('a');
      for (let round = 0; round < ROUNDS; round++) {
        await nodes.drain('a', `round ${round}`);
        await nodes.undrain('a');
      }
      await nodes.drain('a', 'a new card');
      await register('c');
      await leader.snapshots.settled();
      await assertTrimmed(journal, 'farm', 2 * ROUNDS);
      await follower.takeOver();
      assert.equal(follower.find('a'), known, 'whoever holds a node goes on with it');
      const later = await Nodes.load(leaderOf(journal, 3));
      for (const view of [follower, later]) {
        assert.equal(view.farmId, nodes.farmId);
        assert.equal(view.get('b')?.left?.reason, 'the agent got SIGTERM');
        assert.deepEqual(
          view.all().map(({ nodeId, drainReason, left }) => [nodeId, drainReason, left]),
          [
            ['a', 'a new card', null],
            ['b', null, nodes.get('b')?.left],
            ['c', null, null],
          ],
        );
      }
      await assert.rejects(nodes.drain('b', 'by a deposed leader'), { code: 'unavailable', message: /term 2/ });
    });

    test('a follower that missed what was removed meanwhile goes on with the next event that it hears of', async (t) => {
      const journal = await create(t);
      const leader = leaderOf(journal, 1);
      const nodes = await Nodes.load(leader);
      await nodes.takeOver();
      const register = (nodeId: string) => nodes.register(Hello.fromPartial({ nodeId, name: nodeId }));
      await register('a');
      let hears = false;
      const follower = await Nodes.load(
        leaderOf(
          deaf(journal, () => hears),
          2,
        ),
      );
      for (let round = 0; round < ROUNDS; round++) {
        await nodes.drain('a', `round ${round}`);
        await nodes.undrain('a');
      }
      await nodes.drain('a', 'a new card');
      await leader.snapshots.settled();
      await assertTrimmed(journal, 'farm', 2 * ROUNDS);
      hears = true;
      await register('b');
      for (const deadline = Date.now() + PATIENCE_MILLIS; !follower.get('b'); await sleep(10)) {
        assert.ok(Date.now() < deadline, 'the follower has not heard of the new node');
      }
      assert.equal(follower.get('a')?.drainReason, 'a new card');
    });

    test('whoever asks for a removed job is told so, though the history of removals is gone', async (t) => {
      const journal = await create(t);
      const leader = leaderOf(journal, 1);
      const departed = new DepartedJobs(leader, ignore, ignore);
      await departed.load();
      await departed.takeOver();
      const dropped: string[] = [];
      const follower = new DepartedJobs(leaderOf(deaf(journal), 2), (jobId) => dropped.push(jobId), ignore);
      await follower.load();
      const jobIds = Array.from({ length: ROUNDS }, (_, n) => `job-${n}`);
      for (const jobId of jobIds) {
        await departed.record({ jobId, finishedAt: 1000, expiredAt: 2000 });
        await departed.recordInputsExpired(['00']);
      }
      await leader.snapshots.settled();
      await assertTrimmed(journal, DepartedJobs.stream, 2 * ROUNDS);
      await follower.takeOver();
      assert.deepEqual(dropped, jobIds, 'each of them once');
      const later = new DepartedJobs(leaderOf(journal, 3), ignore, ignore);
      await later.load();
      for (const view of [follower, later]) {
        for (const jobId of jobIds) assert.match(view.missing(jobId)?.message ?? '', /expired at 1970-01-01/);
        assert.equal(view.missing('another'), null);
      }
      await assert.rejects(departed.recordInputsExpired(['11']), { code: 'unavailable', message: /term 2/ });
    });

    test('a job that was removed before those that are remembered is forgotten by whoever missed it', async (t) => {
      const journal = await create(t);
      const jobs = await Jobs.load(leaderOf(journal, 1));
      await jobs.takeOver();
      for (const jobId of ['gone', 'kept']) await jobs.submit(jobDefinition({ jobId }), 0);
      let hears = false;
      const follower = await Jobs.load(
        leaderOf(
          deaf(journal, () => hears),
          2,
        ),
      );
      const deafOne = await Jobs.load(leaderOf(deaf(journal), 2));
      for (const view of [follower, deafOne]) assert.ok(view.get('gone'));
      const others = Array.from({ length: REMEMBERED }, (_, n) => `job-${n}`);
      const removals = ['gone', ...others].map((jobId) => ({ jobId, finishedAt: 1000, expiredAt: 2000 }));
      let position = (await journal.streams()).find(({ stream }) => stream === DepartedJobs.stream)?.position ?? 0;
      const append = async (some: typeof removals) => {
        const events = some.map((job) => ({ type: 'JobRemoved', data: { type: 'JobRemoved', ...job } }));
        position = await journal.append(DepartedJobs.stream, position, events, { at: 2000, term: 1 });
      };
      for (let at = 0; at < removals.length; at += 500) await append(removals.slice(at, at + 500));
      const state = { version: 1, jobs: removals.slice(1) };
      await journal.saveSnapshot(DepartedJobs.stream, position, { term: 1, state });
      await journal.trim(DepartedJobs.stream, position);
      await journal.remove('jobs/gone');
      await deafOne.takeOver();
      assert.equal(deafOne.get('gone'), undefined);
      hears = true;
      position += 1; // The term that was opened.
      await append([{ jobId: 'one more', finishedAt: 1000, expiredAt: 2000 }]);
      for (const deadline = Date.now() + PATIENCE_MILLIS; follower.get('gone'); await sleep(10)) {
        assert.ok(Date.now() < deadline, 'the follower still has the job');
      }
      for (const view of [follower, deafOne]) assert.ok(view.get('kept'));
    });

    test('where leaders may still write is kept, and the history of where they have written is not', async (t) => {
      const journal = await create(t);
      const isWritten = ({ jobId }: WriteIntent) => jobId.startsWith('written');
      const leader = leaderOf(journal, 1);
      const intents = new WriteIntents(leader, isWritten);
      await intents.load();
      await intents.takeOver();
      const follower = new WriteIntents(leaderOf(deaf(journal), 2), isWritten);
      await follower.load();
      await intents.say({ jobId: 'open', position: 0 });
      for (let round = 0; round < 2 * ROUNDS; round++)
        await intents.say({ jobId: `written-${round}`, position: round });
      for (const position of [3, 9]) await intents.say({ jobId: 'twice', position });
      const end = (await journal.streams()).find(({ stream }) => stream === WriteIntents.stream)?.position;
      await intents.say({ jobId: 'twice', position: 9 });
      await leader.snapshots.settled();
      await assertTrimmed(journal, WriteIntents.stream, 2 * ROUNDS);
      assert.equal((await journal.streams()).find(({ stream }) => stream === WriteIntents.stream)?.position, end);
      await follower.takeOver();
      const later = new WriteIntents(leaderOf(journal, 3), isWritten);
      await later.load();
      for (const view of [intents, follower, later]) assert.deepEqual(view.open(), ['open', 'twice']);
      await assert.rejects(intents.say({ jobId: 'late', position: 0 }), { code: 'unavailable', message: /term 2/ });
    });
  });
}

/** What a coordinator keeps its streams with that leads in a term. */
function leaderOf(journal: Journal, term: number) {
  const office = new Office(() => null);
  office.enter(term);
  return { journal, clock: new ManualClock(), office, snapshots: quietSnapshots() };
}

/** The beginning is gone, and what remains are fewer events than `most`. */
async function assertTrimmed(journal: Journal, stream: string, most: number): Promise<void> {
  await assert.rejects(readAll(journal, stream), { message: new RegExp(`of stream ${stream} are gone`) });
  const covered = (await journal.loadSnapshot(stream))?.position ?? 0;
  const end = (await journal.streams()).find((one) => one.stream === stream)?.position ?? 0;
  assert.ok(end - covered < most, `${end - covered} events after the snapshot at ${covered}`);
  assert.equal((await readAll(journal, stream, covered + 1)).length, end - covered);
}
