import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock, type Timer } from '@clipfarm/shared/clock';
import { createLogger } from '@clipfarm/shared/log';
import type { KvEntry } from 'nats';
import { Lease, type LeaseEntry } from './jetstream-lease.ts';

const entry: LeaseEntry = { id: 'one', address: 'one:7400', session: 's1' };
const TTL = 5000;

/** A bucket with one key, whose next answers can be lost or refused. */
class FakeBucket {
  value = JSON.stringify(entry);
  revision = 7;
  gone = false;
  /** What happens to the following updates; then they succeed. */
  readonly fates: ('lost before' | 'lost after')[] = [];
  readable = true;
  updates = 0;

  async update(_key: string, value: Uint8Array | string, revision: number): Promise<number> {
    this.updates++;
    const fate = this.fates.shift();
    if (fate === 'lost before') throw new Error('timeout');
    if (this.gone || revision !== this.revision) throw new Error('wrong last sequence');
    this.value = String(value);
    this.revision++;
    if (fate === 'lost after') throw new Error('timeout');
    return this.revision;
  }

  async delete(_key: string, options?: { previousSeq: number }): Promise<void> {
    if (options?.previousSeq !== this.revision) throw new Error('wrong last sequence');
    this.gone = true;
  }

  async get(): Promise<KvEntry | null> {
    if (!this.readable) throw new Error('timeout');
    if (this.gone) return null;
    const { value, revision } = this;
    const json = <T>() => JSON.parse(value) as T;
    const bytes = Buffer.from(value);
    const common = { bucket: 'b', key: 'k', created: new Date(0), operation: 'PUT' as const, length: bytes.length };
    return { ...common, value: bytes, revision, json, string: () => value };
  }
}

/** Of a process that has just gone on: time has passed, and no timer has run. */
class LateClock extends ManualClock {
  override setTimeout(): Timer {
    const cancel = () => {};
    return { cancel, [Symbol.dispose]: cancel };
  }
}

function held(clock = new ManualClock()) {
  const bucket = new FakeBucket();
  const link = { connected: async () => true };
  const log = createLogger({ name: 'test', level: 'silent' });
  const lease = new Lease({ link, kv: bucket, clock, log, ttlMillis: TTL }, entry, bucket.revision, clock.monotonic());
  /** Lets time go by in small steps, and everything that falls due be done. */
  const pass = async (ms: number) => {
    for (let left = ms; left > 0; left -= 50) {
      clock.advance(Math.min(50, left));
      for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
    }
  };
  return { clock, bucket, lease, pass };
}

test('a lease is renewed by revision five times in its lifetime and keeps its term', async () => {
  const { bucket, lease, pass } = held();
  await pass(4 * TTL);
  assert.equal(lease.lost.aborted, false);
  assert.ok(bucket.updates >= 17 && bucket.updates <= 20, `${bucket.updates} renewals`);
  assert.deepEqual(JSON.parse(bucket.value), { ...entry, term: 7 });
  assert.equal(lease.holds(), true);
  await lease.release();
  assert.equal(lease.holds(), false);
  assert.equal(bucket.gone, true);
});

test('without an answer the lead is given up before the server could have let it run out', async () => {
  const { clock, bucket, lease, pass } = held();
  await pass(1500);
  bucket.fates.push(...Array.from({ length: 1000 }, () => 'lost before' as const));
  bucket.readable = false;
  // The last renewal that was acknowledged was sent after 1000 ms.
  let lostAt = Number.NaN;
  lease.lost.addEventListener('abort', () => {
    lostAt = clock.monotonic();
  });
  await pass(2 * TTL);
  assert.equal(lostAt, 1000 + TTL * 0.9);
  assert.match(String(lease.lost.reason), /term 7 is lost: NATS did not acknowledge/);
  const sent = bucket.updates;
  await pass(TTL);
  assert.equal(bucket.updates, sent, 'nothing is renewed any more');
});

test('whoever stood still until the lease ran out knows it before a timer has run', async () => {
  const { clock, lease } = held(new LateClock());
  clock.advance(TTL * 0.9 - 1);
  assert.equal(lease.holds(), true);
  clock.advance(1);
  assert.equal(lease.lost.aborted, false, 'no timer has run');
  assert.equal(lease.holds(), false);
  assert.match(String(lease.lost.reason), /term 7 is lost: NATS did not acknowledge/);
});

test('the lead is lost at once when the key is another’s, or gone', async () => {
  for (const gone of [false, true]) {
    const { bucket, lease, pass } = held();
    bucket.gone = gone;
    bucket.revision = 9;
    bucket.value = JSON.stringify({ id: 'two', address: 'two:7400', session: 's2', term: 9 });
    await pass(TTL / 5 + 50);
    assert.equal(lease.lost.aborted, true);
    assert.match(String(lease.lost.reason), gone ? /it ran out/ : /two:7400 leads in term 9/);
    await lease.release();
    assert.equal(bucket.gone, gone, 'another’s key is left alone');
  }
});

test('a renewal that was stored although its answer was lost does not cost the lead', async () => {
  const { bucket, lease, pass } = held();
  bucket.fates.push('lost after', 'lost before', 'lost after');
  await pass(3 * TTL);
  assert.equal(lease.lost.aborted, false);
  await lease.release();
  assert.equal(bucket.gone, true, 'and it can be given back');
});

test('the lead is given back also when the revision of the last renewal is not known', async () => {
  const { bucket, lease, pass } = held();
  await pass(900);
  bucket.fates.push('lost after');
  bucket.readable = false;
  await pass(200);
  bucket.readable = true;
  await lease.release();
  assert.equal(bucket.gone, true);
  assert.equal(lease.lost.aborted, false);
});
