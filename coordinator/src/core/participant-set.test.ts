import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { carveBeside, carveCount, finishTime, finishTimeOf, type Participant } from './carve.ts';
import { ParticipantSet } from './participant-set.ts';

const participant: fc.Arbitrary<Participant> = fc.record({
  readyIn: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 100, noNaN: true })),
  secondsPerClip: fc.constantFrom(0.3, 1, 1.1, 5, 40),
});

/** Comings, and goings of one of those who are there. */
const changes = fc.array(fc.oneof(participant, fc.nat({ max: 100 })), { maxLength: 80 });

function played(all: readonly (Participant | number)[]): { set: ParticipantSet; members: Participant[] } {
  const set = new ParticipantSet();
  const members: Participant[] = [];
  for (const change of all) {
    if (typeof change === 'number') {
      const [gone] = members.splice(change % Math.max(1, members.length), 1);
      if (gone) set.remove(gone);
    } else if (!members.includes(change)) {
      set.add(change);
      members.push(change);
    }
  }
  return { set, members };
}

test('whoever came and went, a set answers as its members do', () => {
  fc.assert(
    fc.property(changes, participant, fc.nat({ max: 5000 }), (all, self, clips) => {
      const { set, members } = played(all);
      assert.equal(set.size, members.length);
      const together = finishTimeOf(clips, (time) => set.readyBefore(time));
      const expected = finishTime(clips, members);
      assert.ok(together === expected || Math.abs(together - expected) <= 1e-9 * expected, `${together}, ${expected}`);
      // Sums in another order may round the other way when a share lies halfway between two clips.
      const share = carveBeside(clips, self, (time) => set.readyBefore(time));
      assert.ok(Math.abs(share - carveCount(clips, self, members)) <= 1);
    }),
  );
});

test('who is gone or never came can go again', () => {
  const [one, other] = [
    { readyIn: 1, secondsPerClip: 2 },
    { readyIn: 1, secondsPerClip: 2 },
  ];
  const set = new ParticipantSet([one]);
  set.remove(other);
  assert.deepEqual(set.readyBefore(2), { rate: 0.5, offset: 0.5 });
  set.remove(one);
  set.remove(one);
  assert.deepEqual([set.size, set.readyBefore(2)], [0, { rate: 0, offset: 0 }]);
});

test('the work for each of many grows with their logarithm, in whatever order they come', () => {
  const orders = { rising: (n: number) => n, falling: (n: number) => -n, equal: () => 0, mixed: (n: number) => n % 97 };
  for (const [name, readyIn] of Object.entries(orders)) {
    const few = workForEach(256, readyIn);
    const many = workForEach(4096, readyIn);
    // Twelve doublings instead of eight.
    assert.ok(many < 2 * few, `${name}: each of 256 takes ${few} looks, each of 4096 takes ${many}`);
  }
});

/** How often participants are looked at for each one that comes, is asked about and goes. */
function workForEach(count: number, readyIn: (n: number) => number): number {
  let looks = 0;
  const counted = Array.from({ length: count }, (_, n): Participant => {
    return {
      get readyIn() {
        looks += 1;
        return readyIn(n);
      },
      secondsPerClip: 1,
    };
  });
  const set = new ParticipantSet(counted);
  for (const one of counted) {
    set.remove(one);
    set.readyBefore(readyIn(count / 2));
  }
  return looks / count;
}
