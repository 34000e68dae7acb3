import assert from 'node:assert/strict';
import { chmodSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { systemClock } from '@clipfarm/shared/clock';
import type { FarmError } from '@clipfarm/shared/errors';
import { createLogger } from '@clipfarm/shared/log';
import { smallDisk, temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { ClipPipeline } from './clip-pipeline.ts';
import type { LeaseTask } from './lease-task.ts';
import { Spool, type SpoolEntry } from './spool.ts';

const log = createLogger({ name: 'test', level: 'silent' });
const SIDE = 64;
const FRAME_BYTES = SIDE * SIDE * 3;
const ref = { sha256: 'a'.repeat(64), bytes: 1 };

const lease: LeaseTask = {
  ...{
    farmId: 'farm-1',
    leaseId: 'l',
    jobId: 'j',
    slotId: 's',
    span: 0,
    start: 1,
    end: 4,
    preRoll: 1,
    continues: null,
    clips: 4,
    frames: 180,
  },
  ...{ width: SIDE, height: SIDE, sampleSteps: 4, baseSeed: 0, prompt: '', reference: ref, audio: ref },
  ...{ anchor: null, makeAnchor: false, hangSeconds: 10 },
};

interface Bench {
  readonly pipeline: ClipPipeline;
  readonly spool: Spool;
  readonly spooled: SpoolEntry[];
  readonly failures: { readonly error: FarmError; readonly fault: string }[];
  wantedEnd: number;
}

async function bench(
  t: TestContext,
  options: { lease?: LeaseTask; continued?: boolean; dir?: string; ffmpeg?: string; maxBytes?: number } = {},
) {
  const dir = join(options.dir ?? temporaryDirectory(t), 'spool');
  const spool = await Spool.open({ dir, maxBytes: options.maxBytes ?? 2 ** 30, log });
  const task = options.lease ?? lease;
  const spooled: SpoolEntry[] = [];
  const failures: Bench['failures'] = [];
  const found: Bench = {
    ...{ spool, spooled, failures, wantedEnd: task.end },
    pipeline: new ClipPipeline({
      ...{ lease: task, spool, ffmpeg: options.ffmpeg ?? 'ffmpeg', clock: systemClock },
      wantedEnd: () => found.wantedEnd,
      onSpooled: (entry) => spooled.push(entry),
      onFailed: (error, fault) => failures.push({ error, fault }),
    }),
  };
  found.pipeline.started({ continued: options.continued ?? false, span: 9 });
  t.after(async () => {
    found.pipeline.close();
    await found.pipeline.flushed();
  });
  return found;
}

const figures = { renderSeconds: 0.5, peakMemoryBytes: 7, reservedMemoryBytes: 0, hostBytes: 8 };

/** Frames of different brightness, so that encoding is not trivial. */
function frames(count: number): Uint8Array {
  return Uint8Array.from({ length: count * FRAME_BYTES }, (_, i) => (i * 7 + Math.floor(i / FRAME_BYTES)) % 256);
}

/** What the runner sends for one clip of its call: 45 frames for the first, then 48. */
async function render({ pipeline }: Bench, clip: number, nth: number): Promise<void> {
  const produced = nth === 0 ? 0 : 48 * nth - 3;
  const count = nth === 0 ? 45 : 48;
  for (let at = 0; at < count; at += 15)
    await pipeline.frames(produced + at, Math.min(15, count - at), frames(Math.min(15, count - at)));
  await pipeline.clipDone(clip, figures);
}

function manifests({ spooled }: Bench): (readonly [number, number])[] {
  return spooled.map(({ manifest }) => (manifest.kind === 'chunk' ? [manifest.clip, manifest.frames] : [-1, 0]));
}

test('pre-roll is dropped, whole clips are spooled in order, the last one is cut to the job', async (t) => {
  const now = await bench(t);
  for (const nth of [0, 1, 2, 3]) await render(now, nth, nth);
  await now.pipeline.flushed();
  assert.deepEqual(manifests(now), [
    [1, 48],
    [2, 48],
    [3, 36],
  ]);
  assert.deepEqual(now.failures, []);
  assert.deepEqual(readdirSync(join(now.spool.scratchPath('mp4'), '..')), []);
});

test('a clip is not finished before its predecessor is in the spool', async (t) => {
  const now = await bench(t);
  const add = now.spool.add.bind(now.spool);
  const disk = Promise.withResolvers<void>();
  t.mock.method(now.spool, 'add', async (...given: Parameters<Spool['add']>) => {
    await disk.promise;
    return add(...given);
  });
  await render(now, 0, 0);
  await render(now, 1, 1);
  let second = false;
  const rendering = render(now, 2, 2).then(() => {
    second = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 300));
  const early = second;
  disk.resolve();
  await rendering;
  assert.equal(early, false, 'clip 2 waits for clip 1');
  await now.pipeline.flushed();
  assert.deepEqual(
    manifests(now).map(([clip]) => clip),
    [1, 2],
  );
});

test('a full spool holds the runner up until there is room', async (t) => {
  const now = await bench(t, { maxBytes: 1 });
  await render(now, 0, 0);
  await render(now, 1, 1);
  await now.pipeline.flushed();
  const asked = Promise.withResolvers<void>();
  const whenRoom = now.spool.whenRoom.bind(now.spool);
  t.mock.method(now.spool, 'whenRoom', (signal: AbortSignal) => {
    asked.resolve();
    return whenRoom(signal);
  });
  const begun = t.mock.method(now.spool, 'scratchPath');
  const next = render(now, 2, 2);
  await asked.promise;
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(begun.mock.callCount(), 0);
  const [kept] = now.spooled;
  assert.ok(kept);
  await now.spool.remove(kept);
  await next;
  assert.equal(begun.mock.callCount(), 1);
  await now.pipeline.flushed();
  assert.equal(now.spooled.length, 2);
});

test('closing throws the clip in hand away and keeps the finished one', async (t) => {
  const now = await bench(t);
  await render(now, 0, 0);
  await render(now, 1, 1);
  await now.pipeline.frames(93, 10, frames(10));
  now.pipeline.close();
  await now.pipeline.frames(103, 10, frames(10));
  await now.pipeline.flushed();
  assert.deepEqual(manifests(now), [[1, 48]]);
  assert.deepEqual(now.failures, []);
  assert.deepEqual(readdirSync(join(now.spool.scratchPath('mp4'), '..')), []);
});

test('clips behind a shrunk end are dropped', async (t) => {
  const now = await bench(t);
  now.wantedEnd = 2;
  for (const nth of [0, 1, 2]) await render(now, nth, nth);
  await now.pipeline.flushed();
  assert.deepEqual(manifests(now), [[1, 48]]);
});

test('the first frame of the job becomes the anchor, before the clip, and fills the frames before it', async (t) => {
  const now = await bench(t, { lease: { ...lease, start: 0, preRoll: 0, makeAnchor: true } });
  await render(now, 0, 0);
  await now.pipeline.flushed();
  assert.deepEqual(
    now.spooled.map(({ manifest }) => manifest.kind),
    ['anchor', 'chunk'],
  );
  assert.deepEqual(manifests(now)[1], [0, 48]);
});

test('a runner that leaves frames out, sends too few bytes or skips a clip is at fault', async (t) => {
  const missing = await bench(t);
  await render(missing, 0, 0);
  await missing.pipeline.frames(45, 40, frames(40));
  await missing.pipeline.clipDone(1, figures);
  const short = await bench(t);
  await short.pipeline.frames(45, 2, frames(1));
  const skipped = await bench(t);
  await render(skipped, 0, 0);
  await skipped.pipeline.frames(45, 48, frames(48));
  await skipped.pipeline.frames(93, 1, frames(1));
  for (const [now, message] of [
    [missing, 'the runner sent 40 of the 48 frames of clip 1'],
    [short, 'the runner sent 12288 bytes for 2 frames of 64x64'],
    [skipped, 'the runner sent frames of clip 2 before clip 1 was done'],
  ] as const) {
    assert.deepEqual(
      now.failures.map(({ fault, error }) => [fault, error.message]),
      [['runner', message]],
    );
    assert.deepEqual(now.spooled, []);
  }
});

test('an encoder that fails is the fault of the host, with its own words', async (t) => {
  const dir = temporaryDirectory(t);
  const ffmpeg = join(dir, 'ffmpeg');
  writeFileSync(ffmpeg, '#!/bin/sh\necho "Unknown encoder libx264" >&2\nexit 3\n');
  chmodSync(ffmpeg, 0o755);
  const broken = await bench(t, { ffmpeg });
  const missing = await bench(t, { ffmpeg: join(dir, 'nothing') });
  for (const now of [broken, missing]) {
    await render(now, 0, 0);
    await render(now, 1, 1);
    await now.pipeline.flushed();
    assert.deepEqual(
      now.failures.map(({ fault }) => fault),
      ['host'],
    );
  }
  assert.match(broken.failures[0]?.error.message ?? '', /ffmpeg ended with status 3: Unknown encoder libx264/);
  assert.match(missing.failures[0]?.error.message ?? '', /cannot run .*ENOENT/);
});

test('a full disk is told apart, whoever of ffmpeg and the spool meets it', async (t) => {
  const dir = smallDisk(t, 16);
  if (dir === undefined) return;
  const now = await bench(t, { dir });
  await render(now, 0, 0);
  for (const nth of [1, 2, 3]) await render(now, nth, nth);
  await now.pipeline.flushed();
  assert.equal(now.failures[0]?.fault, 'host');
  assert.equal(now.failures[0]?.error.code, 'resource_exhausted', now.failures[0]?.error.message);
});
