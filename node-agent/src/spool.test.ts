import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { createLogger } from '@clipfarm/shared/log';
import { smallDisk, temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { Spool, type SpoolDraft, type SpoolEntry } from './spool.ts';

const silent = createLogger({ name: 'test', level: 'silent' });
const never = new AbortController().signal;

function chunk(clip: number, farmId: string): SpoolDraft {
  return {
    kind: 'chunk',
    farmId,
    jobId: 'j',
    leaseId: 'l',
    clip,
    frames: 48,
    renderSeconds: 0.5,
    peakMemoryBytes: 0,
    reservedMemoryBytes: 0,
    hostBytes: 0,
  };
}

function open(dir: string, maxBytes = 2 ** 30): Promise<Spool> {
  return Spool.open({ dir, maxBytes, log: silent });
}

function add(spool: Spool, clip: number, content = `clip ${clip}`, farmId = 'farm-1') {
  const scratch = spool.scratchPath('mp4');
  writeFileSync(scratch, content);
  return spool.add(scratch, chunk(clip, farmId));
}

function clips(spool: Spool): number[] {
  return spool.entries.map(({ manifest }) => (manifest.kind === 'chunk' ? manifest.clip : -1));
}

test('files survive a restart in the order of production, with their manifests', async (t) => {
  const dir = temporaryDirectory(t);
  const before = await open(dir);
  for (const clip of [7, 3, 5]) await add(before, clip);
  const after = await open(dir);
  assert.deepEqual(clips(after), [7, 3, 5]);
  assert.deepEqual(after.entries, before.entries);
  assert.equal(after.bytes, 18);
  const next = await add(after, 9);
  assert.deepEqual(clips(await open(dir)), [7, 3, 5, 9]);
  assert.equal(readFileSync(next.path, 'utf8'), 'clip 9');
});

test('anchors are kept like chunks but not counted as such', async (t) => {
  const spool = await open(temporaryDirectory(t));
  const scratch = spool.scratchPath('png');
  writeFileSync(scratch, 'picture');
  const entry = await spool.add(scratch, { kind: 'anchor', farmId: 'farm-1', jobId: 'j', leaseId: 'l' });
  await add(spool, 0);
  assert.match(entry.path, /\.png$/);
  assert.equal(spool.chunkCount, 1);
  assert.equal(spool.entries.length, 2);
});

test('a removed file is gone from disk and from the next start; a repeat does nothing', async (t) => {
  const dir = temporaryDirectory(t);
  const spool = await open(dir);
  const entry = await add(spool, 1);
  await spool.remove(entry);
  await spool.remove(entry);
  assert.equal(spool.bytes, 0);
  assert.deepEqual(readdirSync(dir), ['scratch']);
  assert.deepEqual(clips(await open(dir)), []);
});

test('leftovers that are incomplete or damaged are deleted, whole files stay', async (t) => {
  const dir = temporaryDirectory(t);
  const spool = await open(dir);
  const entries = [];
  for (const clip of [0, 1, 2, 3]) entries.push(await add(spool, clip));
  const [, shortened, flipped, unnamed] = entries;
  assert.ok(shortened && flipped && unnamed);
  writeFileSync(shortened.path, 'clip');
  writeFileSync(flipped.path, 'clip X');
  writeFileSync(unnamed.path.replace('.mp4', '.json'), '{"kind":"chunk"');
  writeFileSync(join(dir, '00000099.mp4'), 'without a manifest');
  writeFileSync(join(dir, 'scratch', 'half.mp4'), 'cut off');
  writeFileSync(join(dir, 'stray'), '');
  const lines: string[] = [];
  const log = createLogger({ name: 'test', level: 'warn', destination: { write: (line) => lines.push(line) } });
  const after = await Spool.open({ dir, maxBytes: 2 ** 30, log });
  assert.deepEqual(clips(after), [0]);
  assert.deepEqual(readdirSync(dir).sort(), ['00000001.json', '00000001.mp4', 'scratch']);
  assert.deepEqual(readdirSync(join(dir, 'scratch')), []);
  assert.equal(lines.filter((line) => line.includes('incomplete or damaged')).length, 8);
});

test('a full spool lets nothing more begin until a file leaves it', async (t) => {
  const spool = await open(temporaryDirectory(t), 10);
  await spool.whenRoom(never);
  const entry = await add(spool, 0, 'ten bytes!');
  let room = false;
  const waiting = spool.whenRoom(never).then(() => {
    room = true;
  });
  const stop = new AbortController();
  const given = spool.whenRoom(stop.signal);
  stop.abort(new Error('the lease is over'));
  await assert.rejects(given, /the lease is over/);
  assert.equal(room, false);
  await spool.remove(entry);
  await waiting;
});

test('files of other farms stay until the room is needed, then the oldest go first, and own ones never', async (t) => {
  const dir = temporaryDirectory(t);
  const before = await open(dir, 40);
  await add(before, 0, 'ten bytes!', 'farm-1');
  await add(before, 1, 'ten bytes!', 'farm-2');
  await add(before, 2, 'ten bytes!', 'farm-1');
  await add(before, 3, 'ten bytes!', '');
  const spool = await open(dir, 40);
  const displaced: number[] = [];
  const note = ({ manifest }: SpoolEntry) => void displaced.push(manifest.kind === 'chunk' ? manifest.clip : -1);
  assert.equal(spool.foreignChunkCount, 0, 'nobody leads yet');
  // Full, and nothing is another farm's: it waits until one leads whose files the oldest are not.
  const waiting = spool.whenRoom(never);
  spool.serve('farm-2', note);
  await waiting;
  assert.deepEqual([displaced, clips(spool), spool.foreignChunkCount], [[0], [1, 2, 3], 1]);
  await add(spool, 4, 'ten bytes!', 'farm-2');
  await spool.whenRoom(never);
  assert.deepEqual([displaced, clips(spool), spool.foreignChunkCount], [[0, 2], [1, 3, 4], 0]);
  await add(spool, 5, 'ten bytes!', 'farm-2');
  const stop = new AbortController();
  const full = spool.whenRoom(stop.signal);
  stop.abort(new Error('the lease is over'));
  await assert.rejects(full, /the lease is over/);
  spool.serve('', note);
  assert.equal(spool.foreignChunkCount, 0, 'a farm that does not tell who it is may be any');
  assert.deepEqual(clips(await open(dir, 40)), [1, 3, 4, 5]);
});

test('where the disk is full files of other farms go, as long as too little is free', async (t) => {
  const spool = await open(temporaryDirectory(t), 2 ** 30);
  for (const [clip, farmId] of ['farm-1', 'farm-2', 'farm-1'].entries()) await add(spool, clip, 'ten bytes!', farmId);
  const displaced: string[] = [];
  spool.serve('farm-2', ({ manifest }) => void displaced.push(manifest.farmId));
  assert.ok((await spool.makeRoom(1)) > 0);
  assert.deepEqual([displaced, clips(spool)], [[], [0, 1, 2]]);
  const free = await spool.makeRoom(Number.POSITIVE_INFINITY);
  assert.ok(Number.isFinite(free));
  assert.deepEqual([displaced, clips(spool)], [['farm-1', 'farm-1'], [1]]);
});

test('a manifest of an agent that knew no farms is of any', async (t) => {
  const dir = temporaryDirectory(t);
  const entry = await add(await open(dir), 0);
  const { farmId: _, ...older } = entry.manifest;
  writeFileSync(entry.path.replace('.mp4', '.json'), JSON.stringify(older));
  const spool = await open(dir);
  spool.serve('farm-2', () => {});
  assert.deepEqual([clips(spool), spool.foreignChunkCount], [[0], 0]);
});

test('damage after the fact is noticed', async (t) => {
  const spool = await open(temporaryDirectory(t));
  const entry = await add(spool, 0);
  assert.equal(await spool.intact(entry), true);
  writeFileSync(entry.path, 'clip 1');
  assert.equal(await spool.intact(entry), false);
});

test('a full disk is said so and loses nothing that was spooled', async (t) => {
  const disk = smallDisk(t, 64, 12);
  if (disk === undefined) return;
  const spool = await open(join(disk, 'spool'));
  const kept = await add(spool, 0);
  await assert.rejects(
    async () => {
      for (let clip = 1; clip < 20; clip += 1) await add(spool, clip);
    },
    (error: unknown) => error instanceof Error && 'code' in error,
  );
  assert.ok(existsSync(kept.path));
  assert.ok(clips(await open(join(disk, 'spool'))).includes(0));
});
