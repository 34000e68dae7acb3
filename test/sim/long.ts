import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { writeSection } from '../harness/report-file.ts';
import { faultKinds } from './faults.ts';
import { seededRandom } from './random.ts';
import { type LargeSize, largeScenario } from './scenarios.ts';
import { type Outcome, SimWorld } from './world.ts';

const USAGE = `Simulates a farm of thousands of agents under a hail of faults, in virtual time.

  npm run sim:long -- [--seed N] [--nodes N] [--jobs N] [--faults N] [--seconds N] [--report FILE]

--faults   that hit something; the run ends with an error when there were fewer
--seconds  of virtual time in which they happen
--report   file for the report, which is printed as well; in a page with a section sim it replaces that
`;

/** Some find nothing to happen to: a slot that does nothing can't fail. */
const DRAWN_FOR_EACH = 1.7;

function wholeNumber(name: string, text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1) return value;
  throw new Error(`--${name}: "${text}" is not a whole number from 1 up`);
}

function reportText(seed: number, size: LargeSize, slots: number, outcome: Outcome, wallSeconds: number): string {
  const { clips, rerendered, preRollClips, steals, speculations, preemptions, joins, events, steps, virtualSeconds } =
    outcome;
  const total = [...outcome.faults.values()].reduce((sum, times) => sum + times, 0);
  const number = (value: number) => value.toLocaleString('en-GB');
  return [
    `${new Date().toISOString().slice(0, 10)}, seed ${seed}: ${number(size.nodes)} agents with ${number(slots)} slots, ${number(size.jobs)} jobs, ${number(total)} faults in ${number(size.seconds)} s of virtual time. Everything was done after ${number(Math.round(virtualSeconds))} s; it took ${(wallSeconds / 60).toFixed(1)} minutes on one core (${cpus()[0]?.model.trim()}, Node ${process.version}), ${Math.round(process.memoryUsage.rss() / 2 ** 20)} MiB.`,
    '',
    `No invariant was broken: ${number(events)} events were checked one by one as they were decided, in ${number(steps)} steps. ${number(clips)} clips were rendered, ${number(rerendered)} of them again; ${number(preRollClips)} of pre-roll, ${number(joins)} joins, ${number(steals)} steals, ${number(speculations)} speculations, ${number(preemptions)} preemptions.`,
    '',
    '| fault | times |',
    '|---|---:|',
    ...faultKinds.map((kind) => `| ${kind.replaceAll('_', ' ')} | ${number(outcome.faults.get(kind) ?? 0)} |`),
    '',
  ].join('\n');
}

function main(): void {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string', default: '1' },
      nodes: { type: 'string', default: '2000' },
      jobs: { type: 'string', default: '40' },
      faults: { type: 'string', default: '100000' },
      seconds: { type: 'string', default: '900' },
      report: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return;
  }
  const seed = wholeNumber('seed', values.seed);
  const faults = wholeNumber('faults', values.faults);
  const size = {
    nodes: wholeNumber('nodes', values.nodes),
    jobs: wholeNumber('jobs', values.jobs),
    faults: Math.ceil(faults * DRAWN_FOR_EACH),
    seconds: wholeNumber('seconds', values.seconds),
  };
  const random = seededRandom(seed);
  const scenario = largeScenario(random, size);
  const world = new SimWorld(scenario, random);
  const since = performance.now();
  let outcome: Outcome;
  try {
    outcome = world.run((seconds, done) => {
      const wall = Math.round((performance.now() - since) / 1000);
      console.log(`${seconds} s of virtual time after ${wall} s; ${done} of ${size.jobs} jobs are done`);
    });
  } catch (error) {
    const { nodes, jobs, seconds } = size;
    console.error(`seed ${seed} failed; replay it with
  npm run sim:long -- --seed ${seed} --nodes ${nodes} --jobs ${jobs} --faults ${faults} --seconds ${seconds}`);
    throw error;
  }
  const text = reportText(seed, size, scenario.nodes.flat().length, outcome, (performance.now() - since) / 1000);
  console.log(`\n${text}`);
  if (values.report !== undefined) writeSection(values.report, 'sim', text);
  const total = [...outcome.faults.values()].reduce((sum, times) => sum + times, 0);
  if (total < faults) throw new Error(`only ${total} faults hit something`);
}

try {
  main();
} catch (error) {
  console.error(error instanceof Error && error.name !== 'AssertionError' ? error.message : error);
  process.exitCode = 1;
}
