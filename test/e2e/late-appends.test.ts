import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { FarmError } from '@clipfarm/shared/errors';
import { JobSpec } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { callUnary } from '@clipfarm/shared/rpc/client-call';
import { Farm, SAMPLE, until } from '../harness/farm.ts';
import { cutAudio, prove } from '../harness/media.ts';
import { startNatsCluster } from '../harness/nats.ts';
import { freeze } from '../harness/os.ts';
import { OwnDirectory } from '../harness/owner.ts';
import { TcpProxy } from '../harness/tcp-proxy.ts';
import { openQuietly } from '../journal/open-quietly.ts';

/** A coordinator's way to NATS, on which an append can be held. */
class Door {
  readonly proxy: TcpProxy;
  readonly #watch: { subject: string | null; tail: string };

  private constructor(proxy: TcpProxy, watch: { subject: string | null; tail: string }) {
    this.proxy = proxy;
    this.#watch = watch;
  }

  static async open(to: number): Promise<Door> {
    const watch = { subject: null as string | null, tail: '' };
    const proxy: TcpProxy = await TcpProxy.start({
      to,
      seen: (data) => {
        // What is published may come in pieces.
        const text = watch.tail + data.toString('latin1');
        watch.tail = text.slice(-200);
        if (watch.subject === null || !text.includes(`HPUB clipfarm.events.${watch.subject}`)) return;
        proxy.lanes.forth.cut = true;
        watch.subject = null;
      },
    });
    return new Door(proxy, watch);
  }

  /** Keeps the next append to a stream whose name begins so, and everything after it. */
  hold(subject: string): void {
    this.#watch.tail = '';
    this.#watch.subject = subject;
  }

  get holds(): boolean {
    return this.#watch.subject === null;
  }

  letGo(): void {
    this.proxy.lanes.forth.cut = false;
  }
}

/** Streams of the journal as subjects begin: where a leader says what it is about to write, and jobs. */
const SAID = 'intents';
const WRITTEN = 'jobs=2f';

/** What the leader has in hand, which of its appends is on its way to NATS when it stands still, and what becomes of it. */
const rounds = [
  { asked: 'submit', held: SAID, fate: 'goes on' },
  { asked: 'submit', held: WRITTEN, fate: 'goes on' },
  { asked: 'submit', held: WRITTEN, fate: 'dies' },
  { asked: 'retry', held: SAID, fate: 'goes on' },
  { asked: 'retry', held: WRITTEN, fate: 'goes on' },
] as const;

test('what a leader had sent when it was frozen, and comes when another leads, changes nothing: one order is one job', async () => {
  using dir = new OwnDirectory();
  await using nats = await startNatsCluster({ size: 1, dir: join(dir.path, 'nats') });
  const port = nats.servers[0]?.port ?? assert.fail('no NATS');
  await using doors = new AsyncDisposableStack();
  const ways = await Promise.all([0, 1].map(() => Door.open(port)));
  for (const way of ways) doors.use(way.proxy);
  let started = 0;
  const args = async () => {
    const way = ways[started++ % 2] ?? assert.fail('no way');
    return ['--journal', `nats://${way.proxy.address}`, '--artifacts', join(dir.path, 'artifacts')];
  };
  await using farm = await Farm.start([], { args });
  await farm.startCoordinator(1);
  const { journal, election } = await openQuietly({ servers: nats.urls });
  doors.defer(async () => {
    await election.close();
    await journal.close();
  });
  const ends = async () => new Map((await journal.streams()).map(({ stream, position }) => [stream, position]));
  const after = async (before: ReadonlyMap<string, number>) => {
    const streams = [...(await ends()).keys()];
    const read = streams.map((stream) => Array.fromAsync(journal.read(stream, (before.get(stream) ?? 0) + 1)));
    return (await Promise.all(read)).flat();
  };

  await farm.findLeader();
  const audio = await cutAudio(join(farm.dir, 'talk.wav'), { seconds: 4 });
  const imageSha256 = await farm.upload(SAMPLE.image, 'INPUT_KIND_IMAGE');
  const audioSha256 = await farm.upload(audio, 'INPUT_KIND_AUDIO');
  const settings = { preset: 'delivery', size: '384*256' };
  const spec = JobSpec.fromPartial({ prompt: 'a person talks', imageSha256, audioSha256, settings });
  const expected: string[] = [];
  for (const [round, { asked, held, fate }] of rounds.entries()) {
    const says = (what: string) => `${asked}, ${held} held, the leader ${fate}: ${what}`;
    const old = await farm.findLeader();
    const { client: oldClient, process: oldProcess } = farm.coordinators[old] ?? assert.fail();
    const way = ways[old] ?? assert.fail();
    const order = { spec, idempotencyKey: `order ${round}` };
    const cancelled = asked === 'retry' ? (await farm.submit(audio)).jobId : '';
    if (asked === 'retry') await farm.call(farm.client.cancelJob, { jobId: cancelled, reason: 'test' });

    way.hold(held);
    const options = { timeoutMs: 240_000 };
    const inHand = (
      asked === 'submit'
        ? callUnary(oldClient, oldClient.submitJob, order, options)
        : callUnary(oldClient, oldClient.retryJob, { jobId: cancelled }, options)
    ).then(
      () => 'done',
      (error: unknown) => FarmError.from(error).code,
    );
    await until(() => way.holds, says('its append is on the way'));
    if (fate === 'dies') await oldProcess.kill();
    else await freeze(oldProcess.child.pid ?? assert.fail());
    const next = await farm.findLeader();
    assert.notEqual(next, old);

    // The same is asked of the new leader, and what the old one has sent comes after that.
    if (asked === 'submit') {
      const { job, alreadyExisted } = await farm.call(farm.client.submitJob, order);
      assert.equal(alreadyExisted, false, says('nobody has accepted it yet'));
      expected.push(job?.jobId ?? assert.fail());
    } else {
      // It is so already. The answer comes once the farm is taken over; until then the old leader might still be in time.
      const { job } = await farm.call(farm.client.cancelJob, { jobId: cancelled, reason: 'test' });
      assert.equal(job?.state, 'JOB_STATE_CANCELLED');
      expected.push(cancelled);
    }
    const before = await ends();
    const { term = 0 } = (await Array.fromAsync(journal.read('farm', 1))).at(-1) ?? {};
    way.letGo();
    if (fate === 'dies') await farm.startCoordinator(old);
    else oldProcess.signal('SIGCONT');
    assert.equal(await inHand, 'unavailable', says('whoever asked hears that it was not done'));

    // What is heard of this one came after everything that was held.
    const marker = (await farm.submit(audio)).jobId;
    const { client } = farm.coordinators[old] ?? assert.fail();
    const heard = () => callUnary(client, client.getJob, { jobId: marker }).then(Boolean, () => false);
    await until(heard, says('the old leader follows'));
    await farm.call(farm.client.cancelJob, { jobId: marker, reason: 'test' });
    const found = await after(before);
    // On a slow machine yet another leader may have taken over meanwhile.
    const isTakeOver = (event: { readonly type: string; readonly term: number }) =>
      event.type === 'TermOpened' && event.term > term;
    assert.deepEqual(
      found.filter((event) => !isTakeOver(event)).map(({ stream, type }) => [stream, type]),
      [
        [SAID, 'WriteIntended'],
        [`jobs/${marker}`, 'JobSubmitted'],
        [`jobs/${marker}`, 'JobCancelled'],
      ],
      says('nothing else has changed'),
    );
    if (asked === 'retry') {
      const { job } = await farm.call(farm.client.retryJob, { jobId: cancelled });
      assert.equal(job?.state, 'JOB_STATE_QUEUED');
    }
  }

  for (const [index, { client }] of farm.coordinators.entries()) {
    const live = async () => {
      const { jobs } = await callUnary(client, client.listJobs, { pageSize: 100, pageToken: '', states: [] });
      return jobs.filter(({ state }) => state !== 'JOB_STATE_CANCELLED').map(({ jobId }) => jobId);
    };
    // A follower hears of the last retry in its own time.
    await until(async () => (await live()).length >= expected.length, `coordinator ${index} knows every job`);
    assert.deepEqual((await live()).sort(), [...expected].sort());
  }
  await farm.startAgent({ name: 'one', pace: 0.1 });
  for (const jobId of [expected[1], expected.at(-1)]) await prove(farm, jobId ?? assert.fail());
});
