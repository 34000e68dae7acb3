import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { findFfmpeg } from '@clipfarm/shared/media/ffmpeg';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { putBytes } from '../artifacts/artifact-store-contract.ts';
import { openDirectoryStore } from '../artifacts/directory-store.ts';
import { makeSound } from '../media/media-fixtures.ts';
import { artifactKeys } from './artifact-keys.ts';
import { AudioLibrary } from './audio-library.ts';

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
  return { library: new AudioLibrary(decoded, store, ffmpeg), decoded };
}

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
