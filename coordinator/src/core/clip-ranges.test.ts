import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type ClipRange,
  type ClipSet,
  clipSet,
  countClips,
  hasClip,
  NO_CLIPS,
  prefixLength,
  unionOf,
  withoutRange,
  withoutSet,
  withRange,
} from './clip-ranges.ts';

const LIMIT = 24;

/** Ranges, empty and reversed ones included. */
const range: fc.Arbitrary<ClipRange> = fc.record({
  start: fc.integer({ min: 0, max: LIMIT }),
  end: fc.integer({ min: 0, max: LIMIT }),
});

const change = fc.record({ add: fc.boolean(), range });

/** A set made by any sequence of changes, beside a plain set of numbers that went through the same. */
const built = fc.array(change, { maxLength: 12 }).map((changes) => {
  let set: ClipSet = NO_CLIPS;
  const model = new Set<number>();
  for (const { add, range: r } of changes) {
    set = add ? withRange(set, r) : withoutRange(set, r);
    for (let clip = r.start; clip < r.end; clip++) {
      if (add) model.add(clip);
      else model.delete(clip);
    }
  }
  return { set, model };
});

function clipsOf(set: ClipSet): number[] {
  return set.flatMap((r) => Array.from({ length: r.end - r.start }, (_, i) => r.start + i));
}

function sorted(model: Iterable<number>): number[] {
  return [...model].sort((a, b) => a - b);
}

test('adding and removing ranges gives what a set of numbers gives', () => {
  fc.assert(fc.property(built, ({ set, model }) => assert.deepEqual(clipsOf(set), sorted(model))));
});

test('a set is sorted, its ranges are not empty and do not touch', () => {
  fc.assert(
    fc.property(built, ({ set }) => {
      for (const [index, r] of set.entries()) {
        assert.ok(r.start < r.end);
        const before = set[index - 1];
        if (before) assert.ok(before.end < r.start, `${before.end} touches ${r.start}`);
      }
    }),
  );
});

test('counting, membership and the prefix agree with the numbers', () => {
  fc.assert(
    fc.property(built, ({ set, model }) => {
      assert.equal(countClips(set), model.size);
      let prefix = 0;
      while (model.has(prefix)) prefix += 1;
      assert.equal(prefixLength(set), prefix);
      for (let clip = -1; clip <= LIMIT; clip++) assert.equal(hasClip(set, clip), model.has(clip));
    }),
  );
});

test('the difference of two sets is the difference of their numbers', () => {
  fc.assert(
    fc.property(built, built, (a, b) => {
      assert.deepEqual(clipsOf(withoutSet(a.set, b.set)), sorted([...a.model].filter((clip) => !b.model.has(clip))));
    }),
  );
});

test('the union of ranges is the union of their numbers, in whatever order they come', () => {
  fc.assert(
    fc.property(fc.array(range), (ranges) => {
      assert.deepEqual(unionOf(ranges), ranges.reduce(withRange, NO_CLIPS));
    }),
  );
});

test('no function changes the set that it is given', () => {
  fc.assert(
    fc.property(built, range, ({ set }, r) => {
      const before = structuredClone(set);
      withRange(set, r);
      withoutRange(set, r);
      assert.deepEqual(set, before);
    }),
  );
});

test('a range that ends before it starts is the empty set', () => {
  assert.deepEqual(clipSet(3, 3), NO_CLIPS);
  assert.deepEqual(clipSet(4, 3), NO_CLIPS);
  assert.deepEqual(clipSet(3, 5), [{ start: 3, end: 5 }]);
});
