import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { writeWav } from '../testdata/media.ts';
import { mouthTrack, readSoundTrack } from './mouth-track.ts';

const hum = (t: number): number => 0.5 * Math.sin(2 * Math.PI * 200 * t);

test('the mouth opens on the frame that shows the sound, and closes after it', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'mouth-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const path = await writeWav(directory, 4, (time) => (time >= 1 && time < 2 ? hum(time) : 0));
  const { open } = mouthTrack(await readSoundTrack(path, 120));
  assert.equal(open.length, 120);
  assert.ok(open.subarray(0, 25).every((value) => value === 0));
  assert.ok((open[25] ?? 0) > 0.3, `frame 25 shows 1.00 s: ${open[25]}`);
  assert.ok((open[28] ?? 0) > 0.8);
  assert.ok((open[49] ?? 0) > 0.8);
  assert.ok((open[60] ?? 1) < 0.05);
  assert.ok(
    open.subarray(100).every((value) => value < 0.01),
    'silence past the end of the file',
  );
});

test('a hiss bares the teeth, a hum rounds the lips', () => {
  const rms = new Float32Array(50).fill(0.3);
  const hummed = mouthTrack({ rms, hiss: new Float32Array(50).fill(0.08) });
  const hissed = mouthTrack({ rms, hiss: new Float32Array(50).fill(1.3) });
  assert.ok((hissed.broad[30] ?? 0) > (hummed.broad[30] ?? 1) + 0.5);
  assert.ok((hissed.open[30] ?? 1) < (hummed.open[30] ?? 0));
});

test('a quiet talk moves the mouth as far as a loud one, noise in a room does not', () => {
  const words = (level: number): Float32Array => Float32Array.from({ length: 200 }, (_, i) => (i % 10 < 5 ? level : 0));
  const hiss = new Float32Array(200).fill(0.1);
  const widest = (level: number): number => Math.max(...mouthTrack({ rms: words(level), hiss }).open);
  assert.ok(Math.abs(widest(0.5) - widest(0.05)) < 0.01);
  assert.ok(widest(0.001) < 0.05);
});
