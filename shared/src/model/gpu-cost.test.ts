import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeSeconds, GIB, pipeMemoryBytes, singleMemoryBytes, stepSeconds, tppMemoryBytes } from './gpu-cost.ts';

/** Units, then peak GiB allocated on an H200 with bf16 and with fp8. */
const MEASURED_MEMORY = [
  [24, 47.9, 33.0],
  [60, 69.4, 54.5],
  [66, 73.2, 58.3],
  [70, 75.8, 60.9],
] as const;

for (const [units, bf16, fp8] of MEASURED_MEMORY) {
  test(`memory for ${units} units is what was measured and a reserve of 2.5 GiB`, () => {
    assert.ok(Math.abs(singleMemoryBytes('bf16', units) / GIB - bf16 - 2.5) < 0.3);
    assert.ok(Math.abs(singleMemoryBytes('fp8', units) / GIB - fp8 - 2.5) < 0.3);
  });
}

/** Units, denoising steps, seconds per clip measured on an H200: bf16 without compile. */
const MEASURED_EAGER = [
  [60, 4, 5.29],
  [60, 3, 3.94],
  [66, 4, 5.74],
  [66, 3, 4.23],
  [70, 4, 6.27],
  [70, 3, 4.7],
  [24, 4, 3.03],
] as const;

/** The same with fp8 and compile. */
const MEASURED_COMPILED = [
  [66, 4, 3.89],
  [66, 3, 3.05],
  [24, 4, 2.69],
] as const;

function assertWithin(share: number, found: number, measured: number): void {
  assert.ok(Math.abs(found / measured - 1) < share, `${found} is not within ${share} of ${measured}`);
}

test('step times are within five percent of what was measured', () => {
  for (const [units, steps, measured] of MEASURED_EAGER) {
    assertWithin(0.05, steps * stepSeconds('bf16-eager', units, 1), measured);
  }
  for (const [units, steps, measured] of MEASURED_COMPILED) {
    assertWithin(0.05, steps * stepSeconds('fp8-compiled', units, 1), measured);
  }
});

test('decoding times are within two percent of what was measured', () => {
  assertWithin(0.02, decodeSeconds(24, 1), 4 * 0.082);
  assertWithin(0.02, decodeSeconds(60, 1), 4 * 0.205);
  assertWithin(0.02, decodeSeconds(66, 1), 4 * 0.224);
});

test('a slower GPU does not slow the host that launches its kernels', () => {
  assert.equal(stepSeconds('fp8-compiled', 1, 5), stepSeconds('fp8-compiled', 1, 1));
  assertWithin(1e-9, stepSeconds('fp8-compiled', 66, 5), 5 * stepSeconds('fp8-compiled', 66, 1));
});

test('the 5-GPU mode meets the memory that was reported for it', () => {
  const reported = 47.6e9;
  assertWithin(0.01, tppMemoryBytes('fp8', 66) - 2.5 * GIB, reported);
});

test('layers split over more GPUs need less on each', () => {
  assert.ok(pipeMemoryBytes('bf16', 66, 1) > singleMemoryBytes('bf16', 66));
  assert.ok(pipeMemoryBytes('bf16', 66, 4) < pipeMemoryBytes('bf16', 66, 2));
});
