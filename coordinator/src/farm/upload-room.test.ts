import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import { createLogger } from '@clipfarm/shared/log';
import { createMetrics } from '../admin/metrics.ts';
import { KEPT_FREE_BYTES, UploadRoom } from './upload-room.ts';

const GB = 1_000_000_000;

/** A room on a disk with so many bytes beside those that are kept free; tests write to the disk. */
function roomOf(free: number) {
  const disk = { free: free + KEPT_FREE_BYTES, freeBytes: async () => disk.free };
  const clock = new ManualClock();
  const metrics = createMetrics();
  const log = createLogger({ name: 'test', level: 'silent' });
  const refusals = async () =>
    Object.fromEntries((await metrics.uploadsRefused.get()).values.map(({ labels, value }) => [labels.reason, value]));
  return { room: new UploadRoom({ store: disk, clock, metrics, log }), disk, clock, refusals };
}

function never(): AsyncIterable<Buffer> {
  return { [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) }) };
}

async function* piecesOf(...sizes: number[]): AsyncGenerator<Buffer> {
  for (const size of sizes) yield Buffer.alloc(size);
}

const upload = (bytes: number, pieces: AsyncIterable<Buffer> = never()) => ({
  bytes,
  field: 'audio',
  pieces,
  abort: (reason: FarmError) => assert.fail(reason),
});

/** An upload that holds its room until it is told to end. */
function held(room: UploadRoom, bytes: number) {
  const begun = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<void>();
  const over = room.during(upload(bytes), () => {
    begun.resolve();
    return ended.promise;
  });
  return { begun: Promise.race([begun.promise, over]), over, ended };
}

test('of ten uploads that come at once, those have room that fit together; the others are told the numbers', async () => {
  const { room, refusals } = roomOf(3 * GB);
  const uploads = Array.from({ length: 10 }, () => held(room, 2 * GB));
  const [first, ...others] = await Promise.allSettled(uploads.map(({ begun }) => begun));
  assert.equal(first?.status, 'fulfilled');
  for (const other of others) {
    assert.equal(other.status, 'rejected');
    const { code, field, message } = FarmError.from(other.reason);
    assert.deepEqual({ code, field }, { code: 'resource_exhausted', field: 'audio' });
    assert.match(message, /2000000000 bytes .* 3067108864 are free, 2000000000 of them reserved by other uploads/);
  }
  uploads[0]?.ended.resolve();
  await uploads[0]?.over;
  assert.deepEqual(await refusals(), { room: 9, stalled: 0, slow: 0 });
});

test('room is given back however an upload ends', async () => {
  const { room } = roomOf(3 * GB);
  const fails = held(room, 2 * GB);
  await fails.begun;
  fails.ended.reject(new Error('the client is gone'));
  await assert.rejects(fails.over, /the client is gone/);
  const ends = held(room, 2 * GB);
  await ends.begun;
  ends.ended.resolve();
  await ends.over;
  await room.during(upload(3 * GB), () => Promise.resolve());
});

test('what is made of an upload holds its room until it is made, on the disk that it is written to', async () => {
  const { room, refusals } = roomOf(100);
  const request = { bytes: 60, field: 'audio', what: 'bytes of decoded sound' };
  const made = await room.hold(request, async () => {
    await assert.rejects(held(room, 41).begun, { code: 'resource_exhausted' });
    await assert.rejects(
      room.hold(request, () => assert.fail('there is no room')),
      { field: 'audio', message: /^audio: 60 bytes of decoded sound have no room .* 60 of them reserved/ },
    );
    return 'made';
  });
  assert.equal(made, 'made');
  await assert.rejects(
    room.hold({ ...request, freeBytes: async () => 59 + KEPT_FREE_BYTES }, () => assert.fail('there is no room')),
    { code: 'resource_exhausted' },
  );
  const fails = room.hold(request, () => Promise.reject(new Error('damaged')));
  await assert.rejects(fails, /damaged/);
  await room.during(upload(100), () => Promise.resolve());
  assert.deepEqual(await refusals(), { room: 3, stalled: 0, slow: 0 });
});

test('what is written is the disk’s to count, what is not yet written the room’s', async () => {
  const { room, disk } = roomOf(100);
  const wrote = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<void>();
  const first = room.during(upload(60, piecesOf(40, 20)), async (pieces) => {
    for await (const piece of pieces) {
      if (piece.length === 20) {
        wrote.resolve();
        await goOn.promise;
      }
      disk.free -= piece.length;
    }
  });
  await wrote.promise;
  // 60 bytes free, 20 of them to be written by the other one.
  await assert.rejects(
    room.during(upload(41), () => Promise.resolve()),
    new RegExp(`${60 + KEPT_FREE_BYTES} are free, 20 of them reserved`),
  );
  await room.during(upload(40), () => Promise.resolve());
  goOn.resolve();
  await first;
  await room.during(upload(40), () => Promise.resolve());
  await assert.rejects(
    room.during(upload(41), () => Promise.resolve()),
    { code: 'resource_exhausted' },
  );
});

test('more than was announced never counts as room given back', async () => {
  const { room } = roomOf(100);
  await room.during(upload(10, piecesOf(50, 50)), async (pieces) => {
    for await (const _ of pieces);
  });
  await assert.rejects(
    room.during(upload(101), () => Promise.resolve()),
    { code: 'resource_exhausted' },
  );
});

test('an upload of which nothing comes any more is ended after a minute and gives its room back', async () => {
  const { room, clock, refusals } = roomOf(100);
  const call = Promise.withResolvers<never>();
  const arrived = Promise.withResolvers<void>();
  async function* pieces(): AsyncGenerator<Buffer> {
    yield Buffer.alloc(10);
    arrived.resolve();
    await call.promise;
  }
  const stalled = room.during({ ...upload(90, pieces()), abort: call.reject }, async (counted) => {
    for await (const _ of counted);
  });
  await arrived.promise;
  clock.advance(60_000);
  await assert.rejects(stalled, { code: 'timeout', field: 'audio', message: /no data came for 60 s/ });
  assert.equal(clock.pending, 0);
  await room.during(upload(100), () => Promise.resolve());
  assert.deepEqual(await refusals(), { room: 0, stalled: 1, slow: 0 });
});

test('an upload that comes too slowly is ended, however steadily it comes, and gives its room back', async () => {
  const { room, clock, refusals } = roomOf(100 * 65_536);
  const call = Promise.withResolvers<never>();
  let ended = false;
  const reject = (reason: FarmError) => {
    ended = true;
    call.reject(reason);
  };
  // A byte a second never stalls. That it is too slow is known after ten minutes, however much is still to come.
  async function* drops(): AsyncGenerator<Buffer> {
    for (;;) {
      yield Buffer.alloc(1);
      clock.advance(1000);
      if (ended) await call.promise;
    }
  }
  const slow = room.during({ ...upload(100 * 65_536, drops()), abort: reject }, async (counted) => {
    for await (const _ of counted);
  });
  await assert.rejects(slow, {
    code: 'timeout',
    field: 'audio',
    message:
      'audio: 601 of 6553600 bytes came in 600 s; an upload must come with 65536 bytes per second, and 600 s on top',
    hint: /faster connection/,
  });
  assert.equal(clock.pending, 0);
  await room.during(upload(100 * 65_536), () => Promise.resolve());
  assert.deepEqual(await refusals(), { room: 0, stalled: 0, slow: 1 });
});

test('an upload of the least speed accepted comes through', async () => {
  const { room, clock, refusals } = roomOf(1000 * 65_536);
  async function* steady(): AsyncGenerator<Buffer> {
    for (let second = 0; second < 1000; second += 1) {
      clock.advance(1000);
      yield Buffer.alloc(65_536);
    }
  }
  await room.during(upload(1000 * 65_536, steady()), async (counted) => {
    for await (const _ of counted);
  });
  assert.equal(clock.pending, 0);
  assert.deepEqual(await refusals(), { room: 0, stalled: 0, slow: 0 });
});

test('an upload that comes fast and then trickles is ended once its average is too slow, long before its size would allow', async () => {
  const { room, clock, refusals } = roomOf(4 * GB);
  const call = Promise.withResolvers<never>();
  const ended: number[] = [];
  const reject = (reason: FarmError) => {
    ended.push(clock.monotonic());
    call.reject(reason);
  };
  const begun = clock.monotonic();
  async function* pieces(): AsyncGenerator<Buffer> {
    for (let second = 0; second < 100; second += 1) {
      yield Buffer.alloc(65_536);
      clock.advance(1000);
    }
    for (; ended.length === 0; ) {
      yield Buffer.alloc(1);
      clock.advance(59_000);
    }
    await call.promise;
  }
  const slow = room.during({ ...upload(4 * GB, pieces()), abort: reject }, async (counted) => {
    for await (const _ of counted);
  });
  await assert.rejects(slow, { code: 'timeout', field: 'audio', message: /an upload must come with 65536 bytes/ });
  // 100 s for what came, ten minutes, and the few bytes that trickled in; the announced size would allow 17 hours.
  assert.equal(ended.length, 1);
  const seconds = ((ended[0] ?? 0) - begun) / 1000;
  assert.ok(seconds >= 700 && seconds < 701, `${seconds} s`);
  assert.equal(clock.pending, 0);
  assert.deepEqual(await refusals(), { room: 0, stalled: 0, slow: 1 });
});
