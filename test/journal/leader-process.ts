/** A coordinator's candidate as a process of its own, to be killed. Argument: JSON of the options. Prints its term once it leads. */
import { openQuietly } from './open-quietly.ts';

const { election } = await openQuietly(JSON.parse(process.argv[2] ?? '{}'));
const { term } = await election.campaign({ id: 'child', address: 'child:7400' }, new AbortController().signal);
process.stdout.write(`${term}\n`);
