import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import type { Election, Leader, Leadership } from './election.ts';

/** One place where an election is held, again and again. */
export interface ElectionFixture {
  /** Joins the election as a process does that starts. `close` ends both the election and what it stands on. */
  open(): Promise<{ readonly election: Election; close(): Promise<void> }>;
}

const candidate = (id: string) => ({ id, address: `${id}.example:7400` });
const patient = () => new AbortController().signal;

/** Whether a promise is still unsettled after the event loop came round a few times. */
async function pending(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const note = () => {
    settled = true;
  };
  promise.then(note, note);
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
  return !settled;
}

/** What every election must do. `create` gives each test a fresh place without a leader. */
export function electionContract(name: string, create: (t: TestContext) => Promise<ElectionFixture>): void {
  describe(`${name} as an election`, () => {
    test('a lone candidate is elected, is known as the leader, and no longer once it has released', async (t) => {
      const { election } = await (await create(t)).open();
      const changes: (Leader | null)[] = [];
      election.onChange(() => assert.fail('a handler that was ended'))();
      const stop = election.onChange((leader) => changes.push(leader));
      assert.equal(election.current(), null);
      const leadership = await election.campaign(candidate('one'), patient());
      const leader = { ...candidate('one'), term: leadership.term };
      assert.ok(Number.isSafeInteger(leadership.term) && leadership.term > 0);
      assert.deepEqual(election.current(), leader);
      assert.equal(leadership.holds(), true);
      await leadership.release();
      await leadership.release();
      assert.equal(leadership.holds(), false);
      assert.equal(election.current(), null);
      assert.equal(leadership.lost.aborted, false, 'the holder gave it back itself');
      stop();
      await (await election.campaign(candidate('one'), patient())).release();
      assert.deepEqual(changes, [leader, null]);
    });

    test('a second candidate waits for the release, then leads with a higher term', async (t) => {
      const { election } = await (await create(t)).open();
      const first = await election.campaign(candidate('one'), patient());
      const second = election.campaign(candidate('two'), patient());
      assert.ok(await pending(second));
      assert.equal(election.current()?.id, 'one');
      await first.release();
      assert.ok((await second).term > first.term);
      assert.deepEqual(election.current(), { ...candidate('two'), term: (await second).term });
      assert.equal((await second).lost.aborted, false);
    });

    test('a candidate that gives up leaves the way free', async (t) => {
      const { election } = await (await create(t)).open();
      const reason = new Error('changed its mind');
      await assert.rejects(election.campaign(candidate('none'), AbortSignal.abort(reason)), reason);
      const first = await election.campaign(candidate('one'), patient());
      const giveUp = new AbortController();
      const second = election.campaign(candidate('two'), giveUp.signal);
      const third = election.campaign(candidate('three'), patient());
      assert.ok(await pending(second));
      giveUp.abort(reason);
      await assert.rejects(second, reason);
      await first.release();
      assert.ok((await third).term > first.term);
    });

    test('terms rise over releases and restarts', async (t) => {
      const place = await create(t);
      const terms: number[] = [];
      for (let round = 0; round < 3; round++) {
        const { election, close } = await place.open();
        for (const id of ['one', 'two']) {
          const leadership = await election.campaign(candidate(id), patient());
          terms.push(leadership.term);
          // Every other time the lead is given back by closing.
          if (id === 'one') await leadership.release();
        }
        await close();
      }
      assert.deepEqual(
        terms,
        [...new Set(terms)].sort((a, b) => a - b),
      );
    });

    test('closing gives the lead back and refuses those who wait or come later', async (t) => {
      const place = await create(t);
      const { election, close } = await place.open();
      const held: Leadership = await election.campaign(candidate('one'), patient());
      const waiting = assert.rejects(election.campaign(candidate('two'), patient()), { code: 'failed_precondition' });
      await close();
      await waiting;
      await held.release();
      await assert.rejects(election.campaign(candidate('late'), patient()), { code: 'failed_precondition' });
      const next = await (await place.open()).election.campaign(candidate('three'), patient());
      assert.ok(next.term > held.term);
    });
  });
}
