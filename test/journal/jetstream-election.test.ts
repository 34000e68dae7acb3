import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Election, Leader, Leadership } from '../../coordinator/src/journal/election.ts';
import { JournalConflict } from '../../coordinator/src/journal/journal.ts';
import { FreezableClock } from './freezable-clock.ts';
import { events, meta, natsFor } from './nats-fixture.ts';

/** Short, where a test waits until it runs out; long enough for a busy machine to renew it. */
const leaseMillis = 2500;

/** So many times in a row a machine does not stand still for seconds. */
const ATTEMPTS = 3;

/** Why a leader that tries to renew its lease has lost it. */
const NOT_RENEWED = /NATS did not acknowledge its renewal in time/;

function campaign(election: Election, id: string): Promise<Leadership> {
  return election.campaign({ id, address: `${id}:7400` }, new AbortController().signal);
}

const aborted = (signal: AbortSignal) => (signal.aborted ? Promise.resolve() : once(signal, 'abort'));

/** Resolves with the leader when the election knows one that fits. */
function known(election: Election, fits: (leader: Leader) => boolean): Promise<Leader> {
  return new Promise((resolve) => {
    const check = (leader: Leader | null) => {
      if (!leader || !fits(leader)) return;
      stop();
      resolve(leader);
    };
    const stop = election.onChange(check);
    check(election.current());
  });
}

describe('an election in JetStream', { concurrency: 3 }, () => {
  test('other coordinators know the leader, and one of them leads at once when it hands over', async (t) => {
    const nats = await natsFor(t);
    const lease = { leaseMillis: 60_000 };
    const [one, two, three] = [await nats.open(lease), await nats.open(lease), await nats.open(lease)];
    const first = await campaign(one.election, 'one');
    await known(two.election, (leader) => leader.id === 'one' && leader.address === 'one:7400');
    const others = [campaign(two.election, 'two'), campaign(three.election, 'three')];
    await known(three.election, (leader) => leader.term === first.term);
    // The lease would last for a minute: only being told can be the reason for what follows.
    await first.release();
    const second = await Promise.race(others);
    assert.ok(second.term > first.term);
    for (const { election } of [one, two, three]) await known(election, (leader) => leader.term === second.term);
    await second.release();
    const terms = (await Promise.all(others)).map(({ term }) => term);
    assert.equal(new Set(terms).size, 2);
    assert.equal(Math.min(...terms), second.term);
  });

  test('when the leader is killed, another one leads with a higher term', async (t) => {
    const nats = await natsFor(t);
    const { election } = await nats.open({ leaseMillis });
    const script = fileURLToPath(new URL('./leader-process.ts', import.meta.url));
    const options = JSON.stringify({ servers: nats.urls, leaseMillis });
    const child = spawn(process.execPath, [script, options], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.after(() => child.kill('SIGKILL'));
    const childLeads = known(election, (leader) => leader.id === 'child');
    const [line] = await once(child.stdout, 'data');
    assert.equal((await childLeads).term, Number(line));
    const second = campaign(election, 'second');
    child.kill('SIGKILL');
    assert.ok((await second).term > Number(line));
  });

  test('a leader that is stopped for longer than its lease is told so, and its appends fail', async (t) => {
    const nats = await natsFor(t);
    const clock = new FreezableClock();
    const stopped = await nats.open({ leaseMillis }, clock);
    const other = await nats.open({ leaseMillis });
    const first = await campaign(stopped.election, 'stopped');
    await stopped.journal.append('jobs/1', 0, events(1), { ...meta, term: first.term });
    clock.freeze();
    const second = await campaign(other.election, 'other');
    assert.equal(first.lost.aborted, false, 'nothing ran in the stopped process');
    assert.ok(second.term > first.term);
    await other.journal.append('jobs/1', 1, events(2), { ...meta, term: second.term });
    clock.thaw();
    await assert.rejects(
      stopped.journal.append('jobs/1', 1, events(9), { ...meta, term: first.term }),
      JournalConflict,
    );
    await aborted(first.lost);
    assert.match(String(first.lost.reason), /the lead of term \d+ is lost/);
    await first.release();
    await known(stopped.election, (leader) => leader.term === second.term);
    // A machine on which nothing was renewed in time is no fault of the election.
    if (second.lost.aborted) assert.match(String(second.lost.reason), NOT_RENEWED);
  });

  test('a leader that keeps renewing leads beyond the lifetime of its lease', async (t) => {
    const nats = await natsFor(t);
    const long = { leaseMillis: 2 * leaseMillis };
    const [one, two] = [await nats.open(long), await nats.open(long)];
    const leadsOn = async () => {
      const first = await campaign(one.election, 'one');
      let elected = false;
      const second = campaign(two.election, 'two').then((leadership) => {
        elected = true;
        return leadership;
      });
      await new Promise((resolve) => setTimeout(resolve, 1.2 * long.leaseMillis));
      const held = !first.lost.aborted && !elected;
      await first.release();
      const next = await second;
      assert.ok(next.term > first.term);
      await next.release();
      return held;
    };
    // A machine that stands still for seconds keeps it from renewing now and then; one that does not renew never leads on.
    let held = false;
    for (let attempt = 1; !held && attempt <= ATTEMPTS; attempt++) held = await leadsOn();
    assert.ok(held, `it has lost its lead ${ATTEMPTS} times`);
  });

  test('while NATS is gone the lead is given up; when it is back somebody leads with a higher term', async (t) => {
    const nats = await natsFor(t);
    const [one, two] = [await nats.open({ leaseMillis }), await nats.open({ leaseMillis })];
    const first = await campaign(one.election, 'one');
    const waiting = campaign(two.election, 'two');
    const [server] = nats.servers;
    await server?.kill();
    await aborted(first.lost);
    assert.match(String(first.lost.reason), NOT_RENEWED);
    const again = campaign(one.election, 'one');
    await server?.start();
    const next = await Promise.race([waiting, again]);
    assert.ok(next.term > first.term);
    await next.release();
    assert.ok(Math.max((await waiting).term, (await again).term) > next.term);
  });

  test('terms go on rising when the bucket of the lease was deleted, and a coordinator that starts waits for nobody', async (t) => {
    const nats = await natsFor(t);
    const one = await nats.open({ leaseMillis });
    for (let round = 0; round < 3; round++) await (await campaign(one.election, 'one')).release();
    const { term } = await campaign(one.election, 'one');
    await one.close();
    const two = await nats.open({ leaseMillis });
    await (await two.connection.jetstreamManager()).streams.delete('KV_CLIPFARM_LEADER');
    const three = await nats.open({ leaseMillis });
    assert.ok((await campaign(three.election, 'three')).term > term);
  });

  test('of the record of terms the last hundred are kept, and no event is removed with the others', async (t) => {
    const nats = await natsFor(t);
    const one = await nats.open({ leaseMillis: 60_000 });
    await one.journal.append('jobs/a', 0, events(1), meta);
    for (let term = 1; term <= 150; term++) {
      await one.connection.jetstream().publish('clipfarm.terms', JSON.stringify({ v: 1, term }));
    }
    await one.journal.append('jobs/b', 0, events(1), meta);
    const { term, release } = await campaign(one.election, 'one');
    const { streams } = await one.connection.jetstreamManager();
    const records = async () => {
      const { state } = await streams.info('CLIPFARM_EVENTS', { subjects_filter: 'clipfarm.terms' });
      return state.subjects?.['clipfarm.terms'];
    };
    for (let found = await records(); found !== 100; found = await records()) assert.equal(found, 151);
    const last = await streams.getMessage('CLIPFARM_EVENTS', { last_by_subj: 'clipfarm.terms' });
    assert.equal(last.json<{ term: number }>().term, term);
    await release();
    const two = await nats.open({ leaseMillis: 60_000 });
    for (const stream of ['jobs/a', 'jobs/b']) {
      const read = await Array.fromAsync(two.journal.read(stream, 1));
      assert.equal(read.length, 1);
    }
  });

  test('what the last leader wrote is seen by the next one as soon as it leads', async (t) => {
    const nats = await natsFor(t, { size: 3 });
    // Only what is given back changes hands.
    const lease = { leaseMillis: 60_000 };
    const [one, two] = [await nats.open(lease), await nats.open(lease)];
    for (let round = 0; round < 5; round++) {
      const [writer, reader] = round % 2 === 0 ? [one, two] : [two, one];
      const leadership = await campaign(writer.election, 'writer');
      const next = campaign(reader.election, 'reader');
      await writer.journal.append(`jobs/${round}`, 0, events(1), meta);
      await leadership.release();
      const follower = await next;
      const streams = await reader.journal.streams();
      assert.equal(streams.length, round + 1);
      await follower.release();
    }
  });
});
