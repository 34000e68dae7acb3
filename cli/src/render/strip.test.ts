import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { bar, type StripClip, strip, stripLegend } from './strip.ts';

const clip = fc.record({
  owner: fc.option(fc.nat(5), { nil: undefined }),
  done: fc.double({ min: 0, max: 1, noNaN: true }),
});

test('the strip is exactly as wide as asked, whatever the number of clips', () => {
  fc.assert(
    fc.property(fc.array(clip, { minLength: 1, maxLength: 500 }), fc.integer({ min: 1, max: 200 }), (clips, width) => {
      assert.equal(strip(clips, width).length, width);
    }),
  );
  assert.deepEqual(strip([], 80), []);
});

test('a cell is full only when every clip behind it is committed', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 120 }), fc.nat(), (count, width, seed) => {
      const missing = seed % count;
      const clips: StripClip[] = Array.from({ length: count }, (_, index) => ({
        owner: 0,
        done: index === missing ? 0.99 : 1,
      }));
      const cells = strip(clips, width);
      assert.ok(
        cells.some(({ glyph }) => glyph !== '█'),
        'the clip that is not committed shows',
      );
      assert.ok(
        strip(
          clips.map((each) => ({ ...each, done: 1 })),
          width,
        ).every(({ glyph }) => glyph === '█'),
      );
    }),
  );
});

test('every clip shows in some cell, and cells keep the order of clips', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 120 }), (count, width) => {
      const clips: StripClip[] = Array.from({ length: count }, (_, owner) => ({ owner, done: 0 }));
      const owners = strip(clips, width).map(({ owner }) => owner ?? -1);
      assert.deepEqual(
        owners,
        [...owners].sort((a, b) => a - b),
      );
      if (count <= width) assert.equal(new Set(owners).size, count);
    }),
  );
});

test('the legend has a letter where the owner changes', () => {
  const owners = [0, 0, undefined, 1, 1, 0];
  const cells = strip(
    owners.map((owner) => ({ owner, done: 0 })),
    6,
  );
  assert.equal(stripLegend(cells, ['A', 'B']), 'A  B A');
});

test('a bar fills in eighths and always has its width', () => {
  assert.deepEqual(bar(0, 4), { filled: '', rest: '░░░░' });
  assert.deepEqual(bar(0.5, 4), { filled: '██', rest: '░░' });
  assert.deepEqual(bar(0.54, 4), { filled: '██▏', rest: '░' });
  assert.deepEqual(bar(1, 4), { filled: '████', rest: '' });
  assert.deepEqual(bar(2, 4), { filled: '████', rest: '' });
});
