import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { GIB } from './gpu-cost.ts';
import { fitSlot, PROFILES, peakMemoryBytes, priorSecondsPerClip, profileOf, slotFits } from './profiles.ts';
import { MAX_UNITS_SINGLE, MAX_UNITS_TPP } from './size.ts';

const small = { width: 384, height: 256, sampleSteps: 4, clips: 10 };
const large = { width: 704, height: 384, sampleSteps: 4, clips: 32 };

function slot(profile: string, memoryGib = 0, maxUnits = 0) {
  return { profile, memoryBytes: memoryGib * GIB, maxUnits };
}

test('the five built-in profiles are there', () => {
  assert.deepEqual(
    PROFILES.map((profile) => profile.name),
    ['single-80g', 'single-48g-fp8', 'tpp-5x80g', 'pipe-4x24g', 'synthetic'],
  );
});

test('the largest picture of every profile is the largest that its cards and the model hold', () => {
  for (const profile of PROFILES.filter((candidate) => candidate.dtype !== null)) {
    const cap = profile.kind === 'tpp' ? MAX_UNITS_TPP : MAX_UNITS_SINGLE;
    const needed = (units: number) => peakMemoryBytes(profile.name, { width: 64, height: 64 * units });
    assert.ok(needed(profile.maxUnits) <= profile.memoryBytesPerGpu, profile.name);
    assert.ok(profile.maxUnits === cap || needed(profile.maxUnits + 1) > profile.memoryBytesPerGpu, profile.name);
  }
});

test('memory is planned by the profile', () => {
  assert.equal((peakMemoryBytes('single-80g', large) / GIB).toFixed(1), '75.7');
  assert.equal((peakMemoryBytes('single-48g-fp8', large) / GIB).toFixed(1), '60.8');
  assert.equal((peakMemoryBytes('single-48g-fp8', small) / GIB).toFixed(1), '35.4');
  assert.equal(peakMemoryBytes('synthetic', large), 0);
  assert.equal(peakMemoryBytes('our-own', large), peakMemoryBytes('single-80g', large));
  assert.equal(peakMemoryBytes('our-own-fp8', large), peakMemoryBytes('single-48g-fp8', large));
});

test('seconds per clip start from what was measured', () => {
  assert.equal(priorSecondsPerClip('single-80g', large).toFixed(1), '4.8');
  assert.equal(priorSecondsPerClip('single-80g', small).toFixed(1), '3.0');
  assert.equal(priorSecondsPerClip('our-own', large).toFixed(1), '6.7');
  assert.ok(Math.abs(priorSecondsPerClip('tpp-5x80g', large) - 1.06) < 0.15);
});

test('declared seconds per clip go before every formula', () => {
  assert.equal(priorSecondsPerClip('synthetic', large, 0.25), 0.25);
  assert.equal(priorSecondsPerClip('single-80g', large, 7), 7);
  assert.ok(priorSecondsPerClip('synthetic', large) > 0);
});

test('forecasts are positive and grow with picture and steps', () => {
  const steps = fc.integer({ min: 1, max: 3 });
  const name = fc.constantFrom('single-80g', 'single-48g-fp8', 'tpp-5x80g', 'pipe-4x24g', 'our-own');
  fc.assert(
    fc.property(name, fc.integer({ min: 1, max: 69 }), steps, (profile, units, sampleSteps) => {
      const at = (height: number, count: number) =>
        priorSecondsPerClip(profile, { width: 64, height: 64 * height, sampleSteps: count });
      assert.ok(at(units, sampleSteps) > 0);
      assert.ok(at(units + 1, sampleSteps) >= at(units, sampleSteps));
      assert.ok(at(units, sampleSteps + 1) >= at(units, sampleSteps));
    }),
  );
});

test('a slot that fits says what it needs, has and takes', () => {
  assert.deepEqual(fitSlot(slot('single-80g', 79.6, 70), large), {
    fits: true,
    detail:
      '704x384 (66 units) needs 75.7 of 79.6 GiB per GPU; about 4.8 s a clip before measurement, 153 s for 32 clips',
  });
});

test('a card that is too small is told the size, or else the profile, that fits it', () => {
  assert.deepEqual(fitSlot(slot('single-48g-fp8', 44.5, 38), large), {
    fits: false,
    detail:
      '704x384 (66 units) needs 60.8 GiB per GPU, card has 44.5 GiB: use size 384*256 or a slot of single-80g, tpp-5x80g, pipe-4x24g',
  });
  assert.deepEqual(fitSlot(slot('single-80g', 44.5, 70), small), {
    fits: false,
    detail: '384x256 (24 units) needs 50.3 GiB per GPU, card has 44.5 GiB: use profile single-48g-fp8',
  });
});

test('a slot that takes only small pictures is not told to use its own profile', () => {
  assert.deepEqual(fitSlot(slot('single-80g', 79.6, 30), large), {
    fits: false,
    detail:
      '704x384 (66 units) is larger than the 30 units that the slot takes: use size 384*256 or a slot of single-80g, tpp-5x80g, pipe-4x24g',
  });
});

test('the 5-GPU mode takes four steps only', () => {
  assert.deepEqual(fitSlot(slot('tpp-5x80g', 79.6, 75), { ...large, sampleSteps: 3 }), {
    fits: false,
    detail: 'tpp-5x80g renders with 4 denoising steps, the job asks for 3: use sample_steps 4 or profile single-80g',
  });
  assert.equal(fitSlot(slot('tpp-5x80g', 79.6, 75), large).fits, true);
});

test('four cards of 24 GB take a picture that none of them could alone', () => {
  assert.equal(fitSlot(slot('pipe-4x24g', 23.99, 70), large).fits, true);
  assert.equal(fitSlot(slot('our-own', 23.99, 70), large).fits, false);
});

test('what a built-in slot leaves open comes from its profile', () => {
  assert.equal(fitSlot(slot('single-80g'), large).fits, true);
  assert.equal(fitSlot(slot('single-48g-fp8'), small).fits, true);
  assert.equal(fitSlot(slot('single-48g-fp8'), large).fits, false);
});

test("an operator's own profile is judged by its memory and its largest picture", () => {
  assert.equal(fitSlot(slot('our-own', 140, 70), large).fits, true);
  assert.equal(fitSlot(slot('our-own', 60, 70), large).fits, false);
  assert.equal(fitSlot(slot('our-own-fp8', 61, 70), large).fits, true);
  assert.equal(fitSlot(slot('our-own', 0, 70), large).fits, true);
  const refused = fitSlot(slot('our-own', 140, 30), large);
  assert.equal(refused.fits, false);
  assert.match(refused.detail, /larger than the 30 units .*use size 384\*256/);
});

test('no slot with a model takes more than upstream can, whatever it declares', () => {
  const tooLarge = { width: 832, height: 448, sampleSteps: 4, clips: 1 };
  const between = { width: 576, height: 512, sampleSteps: 4, clips: 1 };
  for (const profile of ['single-80g', 'tpp-5x80g', 'pipe-4x24g', 'our-own']) {
    assert.equal(fitSlot(slot(profile, 999, 999), tooLarge).fits, false, profile);
  }
  assert.equal(fitSlot(slot('single-80g', 999, 999), between).fits, false);
  assert.equal(fitSlot(slot('tpp-5x80g', 999, 999), between).fits, true);
});

test('a synthetic slot takes every picture that it declares and its declared time', () => {
  const fit = fitSlot({ ...slot('synthetic'), declaredSecondsPerClip: 0.5 }, large);
  assert.deepEqual(fit, {
    fits: true,
    detail: '704x384 (66 units) fits by its number of units; about 0.5 s a clip before measurement, 16 s for 32 clips',
  });
  assert.equal(fitSlot(slot('synthetic', 0, 20), large).fits, false);
  assert.equal(fitSlot(slot('synthetic', 0, 200), { ...large, width: 1280, height: 640 }).fits, true);
});

test('whatever is refused is refused with numbers and a way out or the lack of one', () => {
  const name = fc.constantFrom('single-80g', 'single-48g-fp8', 'tpp-5x80g', 'pipe-4x24g', 'our-own');
  const sides = fc.integer({ min: 1, max: 20 });
  fc.assert(
    fc.property(name, fc.integer({ min: 0, max: 140 }), sides, sides, (profile, memoryGib, w, h) => {
      const work = { width: 64 * w, height: 64 * h, sampleSteps: 4, clips: 1 };
      const fit = fitSlot(slot(profile, memoryGib), work);
      const memory = memoryGib * GIB || profileOf(profile).memoryBytesPerGpu;
      if (fit.fits && memory > 0) assert.ok(peakMemoryBytes(profile, work) <= memory);
      if (!fit.fits) assert.match(fit.detail, /\d.*: (use .|nothing fits)/);
    }),
  );
});

test('the answer without words is the same as the one with them', () => {
  const name = fc.constantFrom('single-80g', 'single-48g-fp8', 'tpp-5x80g', 'pipe-4x24g', 'synthetic', 'our-own');
  const units = fc.integer({ min: 0, max: 99 });
  const sides = fc.integer({ min: 1, max: 12 });
  const steps = fc.integer({ min: 1, max: 5 });
  const answers = new Set<boolean>();
  fc.assert(
    fc.property(name, fc.integer({ min: 0, max: 140 }), units, sides, sides, steps, (profile, gib, most, w, h, n) => {
      const work = { width: 64 * w, height: 64 * h, sampleSteps: n, clips: 1 };
      const { fits } = fitSlot(slot(profile, gib, most), work);
      answers.add(fits);
      assert.equal(slotFits(slot(profile, gib, most), work), fits);
    }),
  );
  assert.equal(answers.size, 2);
});
