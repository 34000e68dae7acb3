import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { FarmError } from '@clipfarm/shared/errors';
import { findFfmpeg } from '@clipfarm/shared/media/ffmpeg';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { putBytes } from '../artifacts/artifact-store-contract.ts';
import { openDirectoryStore } from '../artifacts/directory-store.ts';
import { makeSound } from '../media/media-fixtures.ts';
import { artifactKeys } from './artifact-keys.ts';
import { AudioLibrary } from './audio-library.ts';
import { WorkQueue } from './work-queue.ts';

const SHA256 = 'a'.repeat(64);

async function makeLibrary(t: TestContext): Promise<AudioLibrary> {
  return (await makeLibraryIn(t)).library;
}

async function makeLibraryIn(t: TestContext) {
  const dir = temporaryDirectory(t);
  const ffmpeg = await findFfmpeg();
  const store = await openDirectoryStore(join(dir, 'artifacts'));
  const sound = await makeSound(ffmpeg, join(dir, 'a.wav'), { seconds: 1, sampleRate: 16_000, channels: 1 });
  await putBytes(store, artifactKeys.input(SHA256), await readFile(sound));
  const decoded = join(dir, 'decoded');
  const needed = new Set<string>();
  const disk = { free: Number.POSITIVE_INFINITY, asked: [] as number[] };
  const hold = async <T>({ bytes }: { readonly bytes: number }, work: () => Promise<T>): Promise<T> => {
    disk.asked.push(bytes);
    if (bytes > disk.free) throw new FarmError('resource_exhausted', 'no room');
    return work();
  };
  const queue = new WorkQueue({ all: 1, notUrgent: 1 });
  const library = new AudioLibrary({
    dir: decoded,
    store,
    ffmpeg,
    room: { hold },
    queue,
    needed: () => needed,
    // Two of the sounds, a second each in mono.
    maxIdleBytes: 200_000,
  });
  /** Stores the sound as another upload. */
  const another = async (letter: string) => {
    const sha256 = letter.repeat(64);
    await putBytes(store, artifactKeys.input(sha256), await readFile(sound));
    return sha256;
  };
  return { library, decoded, needed, disk, another, queue };
}

/** Waits until so many wait in a queue. */
async function untilWaiting(queue: WorkQueue, count: number): Promise<void> {
  while (queue.waiting !== count) await new Promise((resolve) => setImmediate(resolve));
}

test('decoding waits for its turn; it is given up when nobody waits for it any more, and can be asked for anew', async (t) => {
  const { library, decoded, queue } = await makeLibraryIn(t);
  const place = Promise.withResolvers<void>();
  const taken = queue.run(() => place.promise);
  const [one, two] = [new AbortController(), new AbortController()];
  const first = library.get(SHA256, { signal: one.signal });
  const second = library.use(SHA256, async () => assert.fail('it was given up'), { signal: two.signal });
  const refused = [first, second].map((call) => assert.rejects(call, { code: 'unavailable' }));
  await untilWaiting(queue, 1);
  one.abort();
  await refused[0];
  assert.equal(queue.waiting, 1, 'the other one still waits');
  two.abort(new FarmError('unavailable', 'the client cancelled the call'));
  await refused[1];
  const again = library.get(SHA256);
  await untilWaiting(queue, 1);
  assert.deepEqual((await readdir(decoded)).length, 1, 'what was given up left nothing behind');
  place.resolve();
  await taken;
  assert.equal((await again).samples, 48_000);
  assert.deepEqual(await readdir(decoded), [SHA256]);
});

test('an FFmpeg whose work nobody waits for any more is killed', async (t) => {
  const { library, disk } = await makeLibraryIn(t);
  const abort = new AbortController();
  let asked = 0;
  // Room is asked for just before FFmpeg decodes.
  disk.asked.push = () => {
    asked += 1;
    abort.abort();
    return asked;
  };
  await assert.rejects(library.get(SHA256, { signal: abort.signal }), { code: 'unavailable' });
  assert.equal((await library.get(SHA256)).samples, 48_000);
  assert.equal(asked, 2, 'it had to be decoded anew');
});

test('of what no job needs decoded, only so much is kept as has room, and what was asked for last', async (t) => {
  const { library, decoded, needed, another } = await makeLibraryIn(t);
  const [first, second, third] = [await another('1'), await another('2'), await another('3')];
  needed.add(SHA256);
  for (const sha256 of [SHA256, first, second, first, third]) await library.get(sha256);
  assert.deepEqual((await readdir(decoded)).sort(), [first, third, SHA256]);
  needed.add(first);
  await library.get(second);
  assert.deepEqual((await readdir(decoded)).sort(), [first, second, third, SHA256]);
});

test('room is asked for before anything is decoded; without it nothing stays behind', async (t) => {
  const { library, decoded, disk } = await makeLibraryIn(t);
  disk.free = 100;
  await assert.rejects(library.get(SHA256), { code: 'resource_exhausted' });
  assert.deepEqual(await readdir(decoded), []);
  disk.free = 400_000;
  await library.get(SHA256);
  const bytes = 48_000 * 2 * 4;
  assert.deepEqual(disk.asked, [bytes, bytes], 'a second, with a margin, and one to tell whether there is more');
});

test('what is only kept makes room for what is asked for', async (t) => {
  const { library, decoded, disk, another } = await makeLibraryIn(t);
  const first = await another('1');
  await library.get(first);
  disk.free = 100;
  const drop = library.drop.bind(library);
  library.drop = async (sha256) => {
    await drop(sha256);
    disk.free = Number.POSITIVE_INFINITY;
  };
  await library.get(SHA256);
  assert.deepEqual(await readdir(decoded), [SHA256]);
});

test('what no job needs, and what a killed process left half decoded, is removed; what is being decoded stays', async (t) => {
  const { library, decoded } = await makeLibraryIn(t);
  const other = 'b'.repeat(64);
  await mkdir(join(decoded, 'decoding-left-by-a-killed-one'), { recursive: true });
  await mkdir(join(decoded, other));
  const decoding = library.get(SHA256);
  await library.keepOnly(new Set([SHA256]));
  await decoding;
  assert.deepEqual(await readdir(decoded), [SHA256]);
  await library.use(SHA256, () => library.keepOnly(new Set()));
  assert.deepEqual(await readdir(decoded), [SHA256]);
  await library.keepOnly(new Set());
  assert.deepEqual(await readdir(decoded), []);
});

test('decoded audio stays while it is used, although the last job that needed it is over', async (t) => {
  const library = await makeLibrary(t);
  const path = await library.use(SHA256, async ({ deliveryWav }) => {
    await library.drop(SHA256);
    assert.ok(existsSync(deliveryWav));
    return deliveryWav;
  });
  await library.drop(SHA256);
  assert.ok(!existsSync(path));
});

test('audio that is asked for while it is dropped is there', async (t) => {
  const library = await makeLibrary(t);
  for (let i = 0; i < 20; i += 1) {
    await library.get(SHA256);
    const [, found] = await Promise.all([
      library.drop(SHA256),
      library.use(SHA256, async ({ deliveryWav, samples }) => ({ samples, exists: existsSync(deliveryWav) })),
    ]);
    assert.deepEqual(found, { samples: 48_000, exists: true });
  }
});
