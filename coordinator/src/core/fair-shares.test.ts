import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { fairShares } from './fair-shares.ts';
import type { JobState } from './job-model.ts';
import { byOrder } from './job-order.ts';
import { execute, submitJob } from './test-jobs.ts';

/** A job of an owner that holds so many slots. */
function jobWith(owner: string, slots: number): JobState {
  const job = submitJob({ jobId: `${owner}s-job`, owner });
  for (let n = 0; n < slots; n++) {
    const place = {
      nodeId: `${owner}-${n}`,
      slotId: '0',
      profile: 'p',
      start: n,
      end: n + 1,
      preRoll: n === 0 ? 0 : 1,
    };
    execute(job, { type: 'grant', lease: { leaseId: `l${n}`, ...place, speculative: false }, reason: '' });
  }
  return job.state;
}

const farm = fc.record({
  annSlots: fc.integer({ min: 0, max: 8 }),
  bobSlots: fc.integer({ min: 0, max: 8 }),
  annUsage: fc.integer({ min: 0, max: 3000 }),
  bobUsage: fc.integer({ min: 0, max: 3000 }),
});

test('slots that are held count as used in advance', () => {
  const jobs = [jobWith('ann', 2), jobWith('bob', 0)];
  const { expected } = fairShares(new Map([['bob', 50]]), jobs);
  assert.deepEqual(Object.fromEntries(expected), { ann: 600, bob: 50 });
});

test('a slot is taken only for a job that would go first when it is free, and then not taken back', () => {
  fc.assert(
    fc.property(farm, ({ annSlots, bobSlots, annUsage, bobUsage }) => {
      const usage = new Map([
        ['ann', annUsage],
        ['bob', bobUsage],
      ]);
      const [ann, bob] = [jobWith('ann', annSlots), jobWith('bob', bobSlots)];
      if (!fairShares(usage, [ann, bob]).evensOut(bob, ann)) return;
      const freed = [jobWith('ann', annSlots - 1), bob];
      const [first] = freed.sort(byOrder(fairShares(usage, freed).expected, 0));
      assert.equal(first?.definition.owner, 'bob');
      const [poorer, richer] = [jobWith('ann', annSlots - 1), jobWith('bob', bobSlots + 1)];
      assert.equal(fairShares(usage, [poorer, richer]).evensOut(poorer, richer), false);
    }),
  );
});

test('slots even out until neither owner has two more than the other', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 12 }), (slots) => {
      let [ann, bob] = [slots, 0];
      while (
        fairShares(new Map(), [jobWith('ann', ann), jobWith('bob', bob)]).evensOut(
          jobWith('bob', bob),
          jobWith('ann', ann),
        )
      ) {
        ann -= 1;
        bob += 1;
      }
      assert.ok(Math.abs(ann - bob) <= 1, `${ann} and ${bob}`);
    }),
  );
});

test('what is on its way to an owner already is not asked for once more', () => {
  const [ann, bob, cy] = [jobWith('ann', 3), jobWith('bob', 0), jobWith('cy', 1)];
  const shares = fairShares(new Map(), [ann, bob, cy]);
  assert.equal(shares.evensOut(bob, ann), true);
  shares.move(ann, bob);
  assert.equal(shares.evensOut(bob, ann), false);
  assert.equal(shares.evensOut(cy, ann), false);
});
