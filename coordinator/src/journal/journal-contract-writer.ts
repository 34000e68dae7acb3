/**
 * A process that appends without end until it is killed, for the contract's crash test. Arguments: URL of the module,
 * name of its function that opens a journal, JSON of that function's argument. Prints a line per acknowledgement.
 */
import { writeSync } from 'node:fs';
import type { Journal } from './journal.ts';

const [moduleUrl = '', functionName = '', argument = ''] = process.argv.slice(2);
const opener: Record<string, (options: unknown) => Promise<Journal>> = await import(moduleUrl);
const journal = await opener[functionName]?.(JSON.parse(argument));
if (journal === undefined) throw new Error(`${moduleUrl} has no ${functionName}`);
const positions = new Map((await journal.streams()).map(({ stream, position }) => [stream, position]));

/** Only what has been acknowledged is printed, and at once: the next instruction may be the last. */
function acknowledge(...words: readonly (string | number)[]): void {
  writeSync(1, `${words.join(' ')}\n`);
}

async function writeAlone(open: Journal, stream: string): Promise<never> {
  for (let position = positions.get(stream) ?? 0; ; ) {
    const events = Array.from({ length: 1 + (position % 3) }, (_, i) => ({ type: 'n', data: { n: position + i + 1 } }));
    position = await open.append(stream, position, events, { at: position, term: 1 });
    acknowledge('stream', stream, position);
  }
}

async function writeSnapshots(open: Journal, stream: string): Promise<never> {
  for (let position = positions.get(stream) ?? 0; ; ) {
    position = await open.append(stream, position, [{ type: 'n', data: { n: position + 1 } }], {
      at: position,
      term: 1,
    });
    acknowledge('stream', stream, position);
    if (position % 10 === 0) {
      await open.saveSnapshot(stream, position, { n: position });
      acknowledge('snapshot', stream, position);
    }
  }
}

await Promise.all([writeAlone(journal, 'a'), writeAlone(journal, 'b'), writeSnapshots(journal, 'c')]);
