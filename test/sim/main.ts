import { parseArgs } from 'node:util';
import { DEFAULT_POLICY } from '../../coordinator/src/core/schedule-model.ts';
import { shortestSeconds } from '../bench/bound.ts';
import { type FaultKind, faultKinds } from './faults.ts';
import { seededRandom } from './random.ts';
import { randomScenario, type Unlike, unlikeSlots } from './scenarios.ts';
import { type Outcome, SimWorld } from './world.ts';

const USAGE = `Simulates a farm around the real scheduler, in virtual time.

  node test/sim/main.ts [--seed N] [--seeds N] [--nodes N] [--jobs N] [--faults N] [--kinds kill,hang,...] [--trace]
  node test/sim/main.ts --efficiency

--seeds   how many seeds, from --seed on
--kinds   ${faultKinds.join(', ')}
--trace   prints every event of every job
`;

function wholeNumber(name: string, text: string, min: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= min) return value;
  throw new Error(`--${name}: "${text}" is not a whole number from ${min} up`);
}

function parseKinds(text: string): FaultKind[] {
  return text.split(',').map((word) => {
    const kind = faultKinds.find((known) => known === word);
    if (kind === undefined) throw new Error(`--kinds: "${word}" is none of ${faultKinds.join(', ')}`);
    return kind;
  });
}

function line(outcome: Outcome): string {
  const { makespanSeconds, idealSeconds, joins, steals, speculations, preemptions, revocations } = outcome;
  const { preRollClips, clips, rerendered, mostPerKilledWorker, idleSeconds, brokenOffSeconds } = outcome;
  return [
    `makespan ${makespanSeconds.toFixed(1)} s (${(makespanSeconds / idealSeconds).toFixed(3)} x ideal)`,
    `${clips} clips`,
    `${preRollClips} pre-roll`,
    `${joins} joins`,
    `${steals} steals`,
    `${speculations} speculations`,
    `${preemptions} preemptions`,
    `${revocations} revocations`,
    `${rerendered} rendered again (at most ${mostPerKilledWorker.toFixed(1)} for a killed worker)`,
    `${brokenOffSeconds.toFixed(1)} s thrown away half done`,
    `${idleSeconds.toFixed(0)} slot-seconds idle`,
    `faults: ${[...outcome.faults].map(([kind, times]) => `${times} ${kind}`).join(' ') || 'none'}`,
  ].join(', ');
}

/** How close unlike slots come to the ideal, and to what no scheduler can beat. */
function efficiencyOf(unlike: Unlike): void {
  const scenario = unlikeSlots(unlike);
  const outcome = new SimWorld(scenario, seededRandom(1)).run();
  const bound = shortestSeconds(unlike.clips, scenario.nodes.flat(), DEFAULT_POLICY.preRoll);
  const speeds = unlike.declared ? 'known' : 'unknown';
  const ofBound = `bound ${((100 * bound) / outcome.makespanSeconds).toFixed(1)} % of it`;
  console.log(
    `${unlike.clips} clips, ${unlike.slots} slots, speeds ${speeds}, ${unlike.first} first: ${ofBound}, ${line(outcome)}`,
  );
}

function efficiency(): void {
  for (const slots of [1, 3, 8]) {
    for (const [declared, first] of [
      [true, 'fastest'],
      [false, 'fastest'],
      [false, 'slowest'],
    ] as const) {
      for (const clips of [32, 157, 500]) efficiencyOf({ slots, clips, declared, first });
    }
  }
}

function main(): void {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string', default: '1' },
      seeds: { type: 'string', default: '1' },
      nodes: { type: 'string', default: '20' },
      jobs: { type: 'string', default: '8' },
      faults: { type: 'string', default: '500' },
      kinds: { type: 'string', default: faultKinds.join(',') },
      trace: { type: 'boolean', default: false },
      efficiency: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return;
  }
  if (values.efficiency) {
    efficiency();
    return;
  }
  const size = {
    nodes: wholeNumber('nodes', values.nodes, 1),
    jobs: wholeNumber('jobs', values.jobs, 1),
    faults: wholeNumber('faults', values.faults, 0),
  };
  const kinds = parseKinds(values.kinds);
  const first = wholeNumber('seed', values.seed, 0);
  for (let seed = first; seed < first + wholeNumber('seeds', values.seeds, 1); seed++) {
    const random = seededRandom(seed);
    const world = new SimWorld(randomScenario(random, size, kinds), random);
    try {
      console.log(`seed ${seed}: ${line(world.run())}`);
    } catch (error) {
      const { nodes, jobs, faults } = size;
      const again = `node test/sim/main.ts --seed ${seed} --nodes ${nodes} --jobs ${jobs} --faults ${faults} --kinds ${values.kinds}`;
      console.error(`seed ${seed} failed; replay it with\n  ${again}`);
      throw error;
    } finally {
      if (values.trace) console.log(world.trace().join('\n'));
    }
  }
}

try {
  main();
} catch (error) {
  console.error(error instanceof Error && error.name !== 'AssertionError' ? error.message : error);
  process.exitCode = 1;
}
