import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type FaultKind, faultKinds } from './faults.ts';
import { seededRandom } from './random.ts';
import { largeScenario, randomScenario, unlikeSlots } from './scenarios.ts';
import { type Outcome, SimWorld } from './world.ts';

/** Like `node test/sim/main.ts --seed N --nodes .. --jobs .. --faults .. --kinds ..`. */
function randomWorld(seed: number, faults: number, kinds: readonly FaultKind[] = faultKinds): SimWorld {
  const random = seededRandom(seed);
  return new SimWorld(randomScenario(random, { nodes: 5, jobs: 4, faults }, kinds), random);
}

function runSeeds(seeds: number, faults: number, kinds?: readonly FaultKind[]): Outcome[] {
  return Array.from({ length: seeds }, (_, n) => {
    try {
      return randomWorld(n + 1, faults, kinds).run();
    } catch (error) {
      const options = `--seed ${n + 1} --nodes 5 --jobs 4 --faults ${faults} --kinds ${(kinds ?? faultKinds).join(',')}`;
      throw new Error(`replay with node test/sim/main.ts ${options} --trace`, { cause: error });
    }
  });
}

function efficiency(slots: number, declared: boolean, first: 'fastest' | 'slowest'): { ratio: number; joins: number } {
  const outcome = new SimWorld(unlikeSlots({ slots, clips: 500, declared, first }), seededRandom(1)).run();
  return { ratio: outcome.makespanSeconds / outcome.idealSeconds, joins: outcome.joins };
}

test('whatever goes wrong, every job gets done with every clip once, and nothing that must hold is ever broken', () => {
  const outcomes = runSeeds(12, 40);
  assert.ok(
    outcomes.some(({ wentOnLeases }) => wentOnLeases > 0),
    'no lease went on in a model call: that was not tried',
  );
});

test('the same holds for a hundred agents, each of which something happens to every quarter of a minute', () => {
  const random = seededRandom(5);
  const size = { nodes: 120, jobs: 3, faults: 700, seconds: 120 };
  const { faults, events } = new SimWorld(largeScenario(random, size), random).run();
  assert.ok(events > 3000, `${events} events were checked`);
  for (const kind of faultKinds) assert.ok((faults.get(kind) ?? 0) > 0, `no ${kind} hit anything`);
});

test('at most one clip of each killed worker is rendered again', () => {
  const outcomes = runSeeds(6, 40, ['kill']);
  for (const { mostPerKilledWorker } of outcomes) assert.ok(mostPerKilledWorker <= 1, `${mostPerKilledWorker} clips`);
  assert.ok(
    outcomes.some(({ rerendered }) => rerendered > 0),
    'no death cost anything: the test proves nothing',
  );
});

test('when nothing goes wrong nothing is rendered twice or thrown away, and little time is lost', () => {
  for (const { rerendered, brokenOffSeconds, makespanSeconds, idealSeconds } of runSeeds(6, 0)) {
    assert.equal(rerendered, 0);
    assert.ok(brokenOffSeconds < 1, `${brokenOffSeconds} s thrown away`);
    assert.ok(makespanSeconds < 1.4 * idealSeconds, `${makespanSeconds} s instead of ${idealSeconds} s`);
  }
});

test('slots of unlike speed that are known finish 500 clips within 10 % of the ideal, in as few spans as there are slots', () => {
  for (const slots of [1, 3, 8]) {
    const { ratio, joins } = efficiency(slots, true, 'fastest');
    assert.ok(ratio < 1.1, `${slots} slots take ${ratio} times the ideal`);
    assert.equal(joins, slots - 1);
  }
});

test('slots whose speeds have to be found out lose a few percent more', () => {
  for (const slots of [1, 3, 8]) {
    assert.ok(efficiency(slots, false, 'fastest').ratio < 1.1);
    assert.ok(efficiency(slots, false, 'slowest').ratio < 1.13);
  }
});

test('the same seed plays the same story', () => {
  const stories = [randomWorld(3, 30), randomWorld(3, 30)].map((world) => {
    world.run();
    return world.trace();
  });
  assert.ok((stories[0]?.length ?? 0) > 100);
  assert.deepEqual(stories[0], stories[1]);
  const other = randomWorld(4, 30);
  other.run();
  assert.notDeepEqual(other.trace(), stories[0]);
});
