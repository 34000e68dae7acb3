import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PHASES } from './call-progress.ts';
import { callShare, silenceLimit } from './phase-limits.ts';

test('the share of a call grows through all phases and never arrives', () => {
  const seconds = fc.array(fc.double({ min: 0, max: 1e5, noNaN: true }), { minLength: 2, maxLength: 5 });
  fc.assert(
    fc.property(fc.boolean(), fc.double({ min: 0, max: 1e5, noNaN: true }), seconds, (tpp, denoiseSeconds, times) => {
      const rising = times.toSorted((a, b) => a - b);
      const phases = tpp ? PHASES.filter((phase) => phase !== 'decoding') : PHASES;
      const shares = phases.flatMap((phase) =>
        rising.map((phaseSeconds, i) =>
          callShare({ phase, tpp, denoiseSeconds, phaseSeconds, denoised: i / rising.length }),
        ),
      );
      assert.ok(
        shares.every((share, i) => share >= (shares[i - 1] ?? 0) && share >= 0 && share < 1),
        String(shares),
      );
    }),
  );
});

test('patience depends on what upstream does', () => {
  const limit = (change: object) =>
    silenceLimit({ phase: 'denoising', clips: 100, warm: true, denoiseSeconds: 600, ...change });
  assert.ok(limit({ warm: false }) > limit({}), 'the first block compiles');
  // Decoding took 1.9 times as long as denoising on an H200 at 704x384, and says nothing meanwhile.
  assert.ok(limit({ phase: 'decoding' }) > 1.9 * 600);
  assert.ok(limit({ phase: 'decoding', denoiseSeconds: 1 }) >= 600);
  assert.ok(limit({ phase: 'saving', clips: 700 }) > limit({ phase: 'saving', clips: 1 }));
});
