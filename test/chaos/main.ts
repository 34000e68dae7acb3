import { parseArgs } from 'node:util';
import { exitCodeOf, FarmError } from '@clipfarm/shared/errors';
import { writeSection } from '../harness/report-file.ts';
import { openArena } from './arena.ts';
import { Campaign } from './campaign.ts';
import { Customers } from './customers.ts';
import { readLogs } from './measure.ts';
import { findings, reportText } from './report.ts';
import { Witness } from './witness.ts';

const USAGE = `Breaks a real farm in every way that it knows, and checks that nothing is lost.

  npm run test:chaos -- [--faults N] [--seed N] [--report FILE] [--quiet]

--faults  how many (default 300, about 25 minutes on two cores; 60 take about 7)
--seed    the same seed draws the same faults and targets; real processes make of it what they make (default 1)
--report  file for the report, which is printed as well; in a page with a section chaos it replaces that
--quiet   no line for each fault
Exit status: 0 everything holds, 1 something does not. CLIPFARM_KEEP=1 keeps the logs.
`;

/** Time that everything may take to be completed once nothing is wrong any more; seconds. */
const SETTLE_SECONDS = 180;

function wholeNumber(name: string, text: string, min: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= min) return value;
  throw new FarmError('invalid_argument', `--${name}: "${text}" is not a whole number from ${min} up`);
}

async function main(): Promise<boolean> {
  const { values } = parseArgs({
    options: {
      faults: { type: 'string', default: '300' },
      seed: { type: 'string', default: '1' },
      report: { type: 'string' },
      quiet: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return true;
  }
  const faults = wholeNumber('faults', values.faults, 1);
  const seed = wholeNumber('seed', values.seed, 0);
  const startedAt = Date.now();
  const say = (line: string) => {
    if (!values.quiet) console.log(`${((Date.now() - startedAt) / 1000).toFixed(0).padStart(5)} s  ${line}`);
  };

  await using arena = await openArena();
  const { network, nats, farm } = arena;
  say(`network: ${network.description}`);
  if (process.env.CLIPFARM_KEEP) say(`logs: ${farm.dir}`);
  await using witness = await Witness.open(nats.urls);
  const nodes = await farm.nodes();
  const nodeIds = new Map(nodes.map(({ name, nodeId }) => [name, nodeId]));
  const customers = await Customers.arrive(farm, witness);
  const campaign = new Campaign(arena, customers, { faults, seed, say });
  await campaign.run();
  say('no more faults; every job has to be completed now');
  await customers.leave(SETTLE_SECONDS);
  const facts = readLogs(farm);
  const endedAt = Date.now();
  const story = {
    seed,
    startedAt,
    endedAt,
    network: network.description,
    campaign,
    customers,
    witness,
    facts,
    nodeIds,
  };
  const found = findings(story);
  const text = reportText(story, found);
  console.log(text);
  if (values.report !== undefined) writeSection(values.report, 'chaos', text);
  return found.every(({ holds }) => holds);
}

try {
  if (!(await main())) process.exitCode = 1;
} catch (error) {
  const known = error instanceof FarmError;
  console.error(known ? `error: ${error.message}` : error);
  process.exitCode = known ? exitCodeOf(error.code) : 1;
}
// Something of a farm that failed may still hold on.
setTimeout(() => process.exit(), 5000).unref();
