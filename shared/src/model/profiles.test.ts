import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { GIB } from './gpu-cost.ts';
import { PROFILES, peakMemoryBytes, priorSecondsPerClip } from './profiles.ts';
import { MAX_UNITS_SINGLE, MAX_UNITS_TPP } from './size.ts';

const small = { width: 384, height: 256, sampleSteps: 4, clips: 10 };
const large = { width: 704, height: 384, sampleSteps: 4, clips: 32 };

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
  assert.equal((peakMemoryBytes('single-80g', large) / GIB).toFixed(1), '66.3');
  assert.equal((peakMemoryBytes('single-48g-fp8', large) / GIB).toFixed(1), '66.3');
  assert.equal((peakMemoryBytes('single-48g-fp8', small) / GIB).toFixed(1), '37.6');
  const script = { profile: 'single-80g', runnerKind: 'live-avatar-cli', dtype: 'bf16' };
  assert.equal((peakMemoryBytes(script, large) / GIB).toFixed(1), '75.7');
  assert.equal(peakMemoryBytes('synthetic', large), 0);
  const bf16 = { profile: 'single-80g', runnerKind: 'live-avatar', dtype: 'bf16' };
  assert.equal((peakMemoryBytes(bf16, large) / GIB).toFixed(1), '81.2');
  assert.equal(peakMemoryBytes('our-own', large), peakMemoryBytes(bf16, large));
  assert.equal(peakMemoryBytes('our-own-fp8', large), peakMemoryBytes('single-48g-fp8', large));
});

test('seconds per clip start from what was measured', () => {
  assert.equal(priorSecondsPerClip('single-80g', large).toFixed(1), '4.8');
  assert.equal(priorSecondsPerClip('single-80g', small).toFixed(1), '3.0');
  assert.equal(priorSecondsPerClip('our-own', large).toFixed(1), '6.7');
  const script = { profile: 'single-80g', runnerKind: 'live-avatar-cli' };
  // Upstream's default script and plain bf16, measured: 14.8 and 16.7.
  assert.equal(priorSecondsPerClip({ ...script, dtype: 'fp8', compiled: true }, large).toFixed(1), '14.8');
  assert.equal(priorSecondsPerClip({ ...script, dtype: 'bf16' }, large).toFixed(1), '16.7');
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
