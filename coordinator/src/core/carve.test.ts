import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { bestSteal, carveCount, finishTime, type Participant, secondsLeft, type Victim } from './carve.ts';

const seconds = (max: number) => fc.double({ min: 0, max, noNaN: true });
const pace = fc.double({ min: 0.05, max: 60, noNaN: true });
const participant: fc.Arbitrary<Participant> = fc.record({ readyIn: seconds(200), secondsPerClip: pace });
const participants = fc.array(participant, { minLength: 1, maxLength: 10 });
const clipCount = fc.integer({ min: 1, max: 2000 });

/** Clips, whole and in part, that are done by `time` when everyone works until then. */
function clipsBy(time: number, all: readonly Participant[]): number {
  return all.reduce((sum, p) => sum + Math.max(0, time - p.readyIn) / p.secondsPerClip, 0);
}

/** The same by halving an interval that holds the answer. */
function searchedFinishTime(clips: number, all: readonly Participant[]): number {
  let low = 0;
  let high = 200 + 60 * clips;
  for (let i = 0; i < 200; i++) {
    const middle = (low + high) / 2;
    if (clipsBy(middle, all) < clips) low = middle;
    else high = middle;
  }
  return high;
}

function assertClose(actual: number, expected: number): void {
  assert.ok(Math.abs(actual - expected) <= 1e-6 * Math.max(1, Math.abs(expected)), `${actual} is not ${expected}`);
}

test('finishTime is the time that a search finds', () => {
  fc.assert(
    fc.property(clipCount, participants, (clips, all) => {
      assertClose(finishTime(clips, all), searchedFinishTime(clips, all));
    }),
  );
});

test('finishTime does not depend on the order of the participants', () => {
  fc.assert(
    fc.property(clipCount, participants, (clips, all) => {
      assertClose(finishTime(clips, [...all].reverse()), finishTime(clips, all));
    }),
  );
});

test('without clips nothing takes no time, without participants clips take for ever', () => {
  assert.equal(finishTime(0, []), 0);
  assert.equal(finishTime(0, [{ readyIn: 9, secondsPerClip: 1 }]), 0);
  assert.equal(finishTime(5, []), Number.POSITIVE_INFINITY);
});

test('carveCount gives a lone participant everything and never more than there is', () => {
  fc.assert(
    fc.property(clipCount, participant, (clips, self) => {
      assert.equal(carveCount(clips, self, []), clips);
    }),
  );
  fc.assert(
    fc.property(clipCount, participant, participants, (clips, self, others) => {
      const count = carveCount(clips, self, others);
      assert.ok(Number.isInteger(count) && count >= 0 && count <= clips, `${count} of ${clips}`);
    }),
  );
});

test('carving for one after the other hands out every clip and all finish within a clip of the ideal', () => {
  fc.assert(
    fc.property(clipCount, participants, (clips, all) => {
      const ideal = finishTime(clips, all);
      let left = clips;
      for (const [index, self] of all.entries()) {
        const count = carveCount(left, self, all.slice(index + 1));
        left -= count;
        // Every rounding shifts at most half a clip to those who come later, so the slowest pace bounds the error.
        const slowest = Math.max(...all.map((p) => p.secondsPerClip));
        if (count > 0) assert.ok(self.readyIn + count * self.secondsPerClip <= ideal + slowest * all.length);
      }
      assert.equal(left, 0);
    }),
  );
});

test('three participants of unlike speed finish together', () => {
  const all = [0.6, 1, 1.8].map((secondsPerClip) => ({ readyIn: 0, secondsPerClip }));
  let left = 290;
  const ends = all.map((self, index) => {
    const count = carveCount(left, self, all.slice(index + 1));
    left -= count;
    return count * self.secondsPerClip;
  });
  assert.ok(Math.max(...ends) - Math.min(...ends) <= 1.8, `they end at ${ends.join(', ')}`);
});

test('a participant that is ready only when the others are done gets nothing', () => {
  assert.equal(carveCount(10, { readyIn: 100, secondsPerClip: 1 }, [{ readyIn: 0, secondsPerClip: 1 }]), 0);
});

const victim: fc.Arbitrary<Victim> = fc
  .record({
    start: fc.integer({ min: 0, max: 50 }),
    length: fc.integer({ min: 1, max: 60 }),
    preRoll: fc.integer({ min: 0, max: 2 }),
    done: fc.double({ min: 0, max: 1, noNaN: true }),
    fraction: fc.double({ min: 0, max: 1, noNaN: true }),
    secondsPerClip: pace,
    readyIn: fc.oneof(fc.constant(0), seconds(60)),
  })
  .map(({ start, length, preRoll, done, fraction, secondsPerClip, readyIn }) => ({
    start,
    end: start + length,
    current: Math.min(start + length - 1, start - preRoll + Math.floor(done * (length + preRoll))),
    fraction,
    secondsPerClip,
    readyIn,
  }));

/** What a cut would save, worked out from the victim and the thief alone. */
function savedByCut(v: Victim, thief: Participant, newEnd: number): number {
  const left = (end: number) => v.readyIn + Math.max(0, end - v.current - v.fraction) * v.secondsPerClip;
  const after = Math.max(left(newEnd), thief.readyIn + (v.end - newEnd) * thief.secondsPerClip);
  return left(v.end) - after;
}

test('bestSteal finds the best of all cuts that leave the clip in hand and what is asked for, or none when no cut pays', () => {
  // A cut at the very limit may count or not, as the last bit of the division falls.
  const slack = 1e-6;
  fc.assert(
    fc.property(victim, participant, seconds(20), seconds(300), (v, thief, minSaving, busyUntil) => {
      const most = (limit: number) => {
        let saved = 0;
        for (let cut = Math.max(v.current + 1, v.start + 1); cut < v.end; cut++) {
          const nextDone = v.readyIn + (cut + 1 - v.current - v.fraction) * v.secondsPerClip;
          if (nextDone > limit) saved = Math.max(saved, savedByCut(v, thief, cut));
        }
        return saved;
      };
      const cost = Math.max(minSaving, thief.readyIn);
      const found = bestSteal(v, thief, minSaving, busyUntil);
      if (found) {
        assert.ok(found.saved > cost && found.saved <= most(busyUntil - slack) + slack);
        assertClose(savedByCut(v, thief, found.newEnd), found.saved);
      }
      assert.ok((found?.saved ?? cost) >= most(busyUntil + slack) - slack, 'a better cut was missed');
    }),
    { numRuns: 2000 },
  );
});

test('bestSteal never moves the clip in hand, never takes the whole lease and never takes nothing', () => {
  fc.assert(
    fc.property(victim, participant, (v, thief) => {
      const found = bestSteal(v, thief, 0);
      if (!found) return;
      assert.ok(found.newEnd > v.current && found.newEnd > v.start && found.newEnd < v.end);
    }),
  );
});

test('a lease that is still warming up counts its warm-up as time left', () => {
  const base = { current: 3, fraction: 0.5, start: 4, end: 10, secondsPerClip: 2 };
  assert.equal(secondsLeft({ ...base, readyIn: 0 }), 13);
  assert.equal(secondsLeft({ ...base, readyIn: 30 }), 43);
});
