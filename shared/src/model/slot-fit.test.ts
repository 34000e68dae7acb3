import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MAX_CLIPS_PER_CALL } from './clip.ts';
import { GIB } from './gpu-cost.ts';
import { hostBytes } from './host-cost.ts';
import { peakMemoryBytes, pretendedMemoryBytes, profileOf } from './profiles.ts';
import { fitSlot, longestCallOn, longestJobOn, slotFits } from './slot-fit.ts';

const small = { width: 384, height: 256, sampleSteps: 4, clips: 10 };
const large = { width: 704, height: 384, sampleSteps: 4, clips: 32 };

function slot(profile: string, memoryGib = 0, maxUnits = 0) {
  return { profile, memoryBytes: memoryGib * GIB, maxUnits };
}

test('a slot that fits says what it needs, has and takes', () => {
  assert.deepEqual(fitSlot(slot('single-80g', 79.6, 70), large), {
    fits: true,
    detail:
      '704x384 (66 units) needs 66.3 of 79.6 GiB per GPU; about 4.8 s a clip before measurement, 153 s for 32 clips',
  });
});

test('a single clip is one', () => {
  assert.match(fitSlot(slot('single-80g', 79.6, 70), { ...large, clips: 1 }).detail, /, 5 s for 1 clip$/);
});

test('a card that is too small is told the size, or else the profile, that fits it', () => {
  assert.deepEqual(fitSlot(slot('single-48g-fp8', 44.5, 38), large), {
    fits: false,
    detail:
      '704x384 (66 units) needs 66.3 GiB per GPU, card has 44.5 GiB: use size 384*256 or a slot of single-80g, tpp-5x80g',
  });
  const bf16 = { runnerKind: 'live-avatar', dtype: 'bf16' };
  assert.deepEqual(fitSlot({ ...slot('single-80g', 44.5, 70), ...bf16 }, small), {
    fits: false,
    detail: '384x256 (24 units) needs 52.5 GiB per GPU, card has 44.5 GiB: use dtype fp8',
  });
  assert.deepEqual(fitSlot({ ...slot('single-80g', 79.6, 70), ...bf16 }, large), {
    fits: false,
    detail: '704x384 (66 units) needs 81.2 GiB per GPU, card has 79.6 GiB: use size 688*368 or dtype fp8',
  });
});

test('a slot that takes only small pictures is not told to use its own profile', () => {
  assert.deepEqual(fitSlot(slot('single-80g', 79.6, 30), large), {
    fits: false,
    detail:
      '704x384 (66 units) is larger than the 30 units that the slot takes: use size 384*256 or a slot of single-80g, tpp-5x80g',
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
  assert.equal(fitSlot(slot('our-own-fp8', 67, 70), large).fits, true);
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

test('a synthetic slot with a declared memory is judged as the card that it pretends to be', () => {
  const fit = fitSlot(slot('synthetic', 64), large);
  assert.deepEqual(fit, {
    fits: false,
    detail:
      '704x384 (66 units) needs 66.3 GiB per GPU, card has 64.0 GiB: use size 688*368 or a slot of single-80g, tpp-5x80g',
  });
  assert.equal(fitSlot(slot('synthetic', 80), large).fits, true);
  assert.ok(pretendedMemoryBytes(large) <= 80 * GIB);
});

test('a picture that has peaked above the memory of a card does not fit it, whatever the formula says', () => {
  const measured = { secondsPerClip: 5, peakBytes: 79 * GIB };
  assert.equal(fitSlot(slot('single-80g', 79.6), large, measured).fits, true);
  assert.match(fitSlot(slot('single-80g', 79.6), large, measured).detail, /about 5\.0 s a clip as measured/);
  const small = fitSlot(slot('single-80g', 78.5), large, measured);
  assert.match(small.detail, /took 79\.0 GiB per GPU, card has 78\.5 GiB: use size 688\*368/);
  assert.equal(slotFits(slot('single-80g', 78.5), large, measured), false);
});

test('what calls were seen to take is told beside the need, and what their allocator kept in reserve beside that', () => {
  const seen = { bytes: 64.9 * GIB, reservedBytes: 71.2 * GIB };
  const measured = { secondsPerClip: 5, peakBytes: 0, seen };
  const { detail } = fitSlot(slot('single-80g', 79.6), large, measured);
  const words = 'needs 66.3 of 79.6 GiB per GPU, seen: 64.9 GiB (71.2 GiB with what its allocator kept in reserve);';
  assert.ok(detail.includes(words), detail);
  const unknown = fitSlot(slot('single-80g', 79.6), large, { ...measured, seen: { ...seen, reservedBytes: 0 } });
  assert.ok(unknown.detail.includes('per GPU, seen: 64.9 GiB;'), unknown.detail);
  const small = fitSlot(slot('single-80g', 60), large, measured);
  assert.match(small.detail, /card has 60\.0 GiB, seen: 64\.9 GiB \(71\.2 GiB with .* reserve\): use size/);
  const taken = fitSlot(slot('single-80g', 66.5), large, { ...measured, peakBytes: 67 * GIB, seen });
  assert.match(taken.detail, /took 67\.0 GiB per GPU \(71\.2 GiB with .* reserve\), card has 66\.5 GiB: use/);
  assert.equal(slotFits(slot('single-80g', 70), large, measured), true, 'the reserve keeps nobody away');
});

test('a host must have the memory to load the model, and to keep what a job leaves in it', () => {
  const on = (hostGib: number, runnerKind = 'live-avatar') => {
    return { ...slot('single-80g', 140), runnerKind, hostMemoryBytes: hostGib * GIB };
  };
  const low = fitSlot(on(23), large);
  assert.match(
    low.detail,
    /loading the model needs 23\.7 GiB of the host's memory, the slot may use 23\.0 GiB: use fewer/,
  );
  assert.equal(fitSlot(on(24), large).fits, true);
  // Ten hours: 18,750 clips of 2.3 MiB of features.
  const day = { ...large, clips: 18_750 };
  assert.match(fitSlot(on(32), day).detail, /18750 clips needs 59\.4 GiB of the host's memory/);
  assert.equal(longestJobOn(on(23), large), 0);
  for (const host of [24, 40, 58, 64]) {
    const longest = longestJobOn(on(host), large);
    assert.equal(slotFits(on(host), { ...large, clips: longest }), true);
    assert.equal(slotFits(on(host), { ...large, clips: longest + 1 }), false);
  }
  assert.equal(longestJobOn(slot('single-80g'), large), Number.POSITIVE_INFINITY);
});

test("upstream's script gets ranges that its host can keep until they are written", () => {
  const script = { ...slot('single-80g', 79.6), runnerKind: 'live-avatar-cli' };
  const on = (bytes: number) => ({ ...script, hostMemoryBytes: bytes });
  const longest = longestCallOn(on(0.9 * 128 * GIB), large);
  assert.equal(longest, 166);
  assert.ok(hostBytes('upstream', 66, longest) <= 0.9 * 128 * GIB);
  assert.ok(hostBytes('upstream', 66, longest + 1) > 0.9 * 128 * GIB);
  assert.equal(longestCallOn(script, large), MAX_CLIPS_PER_CALL);
  assert.equal(longestCallOn({ ...on(32 * GIB), runnerKind: 'live-avatar' }, large), MAX_CLIPS_PER_CALL);
  assert.equal(longestJobOn(on(64 * GIB), large), Number.POSITIVE_INFINITY);
});
