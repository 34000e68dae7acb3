import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CLIP_FRAMES, clipsForFrames, LOST_FRAMES, MAX_CLIPS_PER_CALL } from './clip.ts';
import {
  checkLease,
  isAnchor,
  type LeaseClips,
  producedFrames,
  type RoutedFrame,
  routeProduced,
  timelineFrame,
} from './lease-frames.ts';

const invalid = (field: string, message: RegExp) => ({ name: 'FarmError', code: 'invalid_argument', field, message });

/** A job of some frames, cut into leases anywhere, each with any pre-roll that it may have, or going on in a call. */
const splitJob = fc.integer({ min: 1, max: 1500 }).chain((totalFrames) => {
  const clips = clipsForFrames(totalFrames);
  const cuts = fc.uniqueArray(fc.integer({ min: 1, max: Math.max(1, clips - 1) }), { maxLength: 8 });
  return fc
    .tuple(cuts, fc.array(fc.integer({ min: -1, max: 5 }), { minLength: 10, maxLength: 10 }))
    .map(([at, rolls]) => {
      const starts = [0, ...at.filter((cut) => cut < clips).sort((a, b) => a - b)];
      const leases = starts.map((start, i): LeaseClips => {
        const roll = rolls[i] ?? 0;
        const preRoll = start === 0 ? 0 : Math.min(start, Math.max(1, 1 + roll));
        return { start, end: starts[i + 1] ?? clips, preRoll, continued: start > 0 && roll < 0 };
      });
      return { totalFrames, leases };
    });
});

function routes(lease: LeaseClips, totalFrames: number): { produced: number; route: RoutedFrame }[] {
  return Array.from({ length: producedFrames(lease) }, (_, produced) => ({
    produced,
    route: routeProduced(lease, totalFrames, produced),
  })).flatMap(({ produced, route }) => (route === null ? [] : [{ produced, route }]));
}

test('however a job is split, every frame is filled exactly once and in order', () => {
  fc.assert(
    fc.property(splitJob, ({ totalFrames, leases }) => {
      let next = 0;
      for (const lease of leases) {
        for (const { route } of routes(lease, totalFrames)) {
          assert.equal(route.frame, next);
          assert.equal(route.clip, Math.floor(next / CLIP_FRAMES));
          assert.ok(route.clip >= lease.start && route.clip < lease.end);
          next += route.copies;
        }
      }
      assert.equal(next, totalFrames);
    }),
  );
});

test('however a job is split, the frames from the fourth on show the audio of their own time', () => {
  fc.assert(
    fc.property(splitJob, ({ totalFrames, leases }) => {
      for (const lease of leases) {
        for (const { produced, route } of routes(lease, totalFrames)) {
          // Upstream drops the first three frames of the call, so its frame j shows the call's frame j + 3.
          const { start, preRoll, continued } = lease;
          const shown = produced + CLIP_FRAMES * start - (continued ? 0 : CLIP_FRAMES * preRoll - LOST_FRAMES);
          const last = route.frame + route.copies - 1;
          if (last >= LOST_FRAMES) assert.equal(last, shown);
          assert.equal(timelineFrame(lease, produced), shown);
        }
      }
    }),
  );
});

test('a call over n clips makes 48n - 3 frames', () => {
  assert.equal(producedFrames({ start: 0, end: 1, preRoll: 0 }), 45);
  assert.equal(producedFrames({ start: 0, end: 6, preRoll: 0 }), 285);
  assert.equal(producedFrames({ start: 4, end: 6, preRoll: 2 }), 189);
});

test('a lease that goes on in an open call loses nothing and has no pre-roll', () => {
  const lease = { start: 5, end: 7, preRoll: 1, continued: true };
  assert.equal(producedFrames(lease), 96);
  assert.deepEqual(routeProduced(lease, 480, 0), { clip: 5, frame: 240, copies: 1 });
  assert.deepEqual(routeProduced(lease, 480, 95), { clip: 6, frame: 335, copies: 1 });
  assert.equal(routeProduced(lease, 480, 96), null);
  assert.throws(() => producedFrames({ start: 0, end: 1, preRoll: 0, continued: true }), invalid('start', /clip 0/));
});

test('the first produced frame of the job fills its first four frames', () => {
  const lease = { start: 0, end: 2, preRoll: 0 };
  assert.deepEqual(routeProduced(lease, 96, 0), { clip: 0, frame: 0, copies: 4 });
  assert.deepEqual(routeProduced(lease, 96, 1), { clip: 0, frame: 4, copies: 1 });
  assert.deepEqual(routeProduced(lease, 96, 44), { clip: 0, frame: 47, copies: 1 });
  assert.deepEqual(routeProduced(lease, 96, 45), { clip: 1, frame: 48, copies: 1 });
  assert.deepEqual(routeProduced(lease, 96, 92), { clip: 1, frame: 95, copies: 1 });
});

test('a job shorter than four frames is filled by the first produced frame alone', () => {
  for (const totalFrames of [1, 2, 3]) {
    const lease = { start: 0, end: 1, preRoll: 0 };
    assert.deepEqual(routes(lease, totalFrames), [{ produced: 0, route: { clip: 0, frame: 0, copies: totalFrames } }]);
  }
});

test('pre-roll takes the lost frames and is not delivered', () => {
  const lease = { start: 5, end: 6, preRoll: 1 };
  assert.equal(routeProduced(lease, 480, 44), null);
  assert.deepEqual(routeProduced(lease, 480, 45), { clip: 5, frame: 240, copies: 1 });
  assert.deepEqual(routeProduced(lease, 480, 92), { clip: 5, frame: 287, copies: 1 });
});

test('pre-roll that reaches back to clip 0 still delivers nothing of it', () => {
  const lease = { start: 1, end: 2, preRoll: 1 };
  assert.equal(routeProduced(lease, 96, 0), null);
  assert.deepEqual(routeProduced(lease, 96, 45), { clip: 1, frame: 48, copies: 1 });
});

test('frames past the end of the job or of a shortened lease are not delivered', () => {
  assert.equal(routeProduced({ start: 0, end: 2, preRoll: 0 }, 50, 47), null);
  assert.notEqual(routeProduced({ start: 0, end: 2, preRoll: 0 }, 50, 46), null);
  assert.equal(routeProduced({ start: 0, end: 1, preRoll: 0 }, 96, 45), null);
});

test('only the first frame of the first lease is the anchor', () => {
  assert.equal(isAnchor({ start: 0, end: 3, preRoll: 0 }, 0), true);
  assert.equal(isAnchor({ start: 0, end: 3, preRoll: 0 }, 1), false);
  assert.equal(isAnchor({ start: 1, end: 3, preRoll: 1 }, 0), false);
});

test('a lease that no call can deliver in full is refused, naming the field', () => {
  assert.throws(() => checkLease({ start: 3, end: 5, preRoll: 0 }), invalid('pre_roll', /loses the first 3 frames/));
  assert.throws(() => checkLease({ start: 2, end: 5, preRoll: 3 }), invalid('pre_roll', /at most 2/));
  assert.throws(() => checkLease({ start: 0, end: 5, preRoll: 1 }), invalid('pre_roll', /at most 0/));
  assert.throws(() => checkLease({ start: 2, end: 2, preRoll: 1 }), invalid('end', /3 or more/));
  assert.throws(() => checkLease({ start: -1, end: 2, preRoll: 0 }), invalid('start', /-1/));
  assert.throws(() => checkLease({ start: 1, end: 2.5, preRoll: 1 }), invalid('end', /2\.5/));
  assert.throws(() => routeProduced({ start: 3, end: 5, preRoll: 0 }, 480, 0), invalid('pre_roll', /lease/));
});

test('a call stays within the positions that the model knows', () => {
  checkLease({ start: 0, end: MAX_CLIPS_PER_CALL, preRoll: 0 });
  checkLease({ start: 9000, end: 9000 + MAX_CLIPS_PER_CALL - 1, preRoll: 1 });
  assert.throws(() => checkLease({ start: 0, end: MAX_CLIPS_PER_CALL + 1, preRoll: 0 }), invalid('end', /3748 clips/));
  assert.throws(() => checkLease({ start: 1, end: 1 + MAX_CLIPS_PER_CALL, preRoll: 1 }), invalid('end', /3748 clips/));
});

test('a produced frame that is no count is refused', () => {
  const lease = { start: 0, end: 1, preRoll: 0 };
  assert.throws(() => routeProduced(lease, 48, -1), invalid('produced', /-1/));
  assert.throws(() => routeProduced(lease, 48, 0.5), invalid('produced', /0\.5/));
  assert.throws(() => routeProduced(lease, 0, 0), invalid('totalFrames', /0/));
});
