/**
 * Follows a journal as a coordinator does, in a process of its own, to be stopped. Arguments: JSON of the options,
 * milliseconds for which an event keeps it, and how many do so, from the first on (none by default). Prints `watching`, `event POSITION` for each event of stream s,
 * `trouble KIND` for each trouble that is counted, and its log.
 */
import { createLogger } from '@clipfarm/shared/log';
import { openJetStreamJournal } from '../../coordinator/src/journal/open-jetstream-journal.ts';

const [options = '{}', busyMillis = '0', busyEvents = '0'] = process.argv.slice(2);
const log = createLogger({ name: 'watcher', level: 'info' });
const onTrouble = (kind: string) => process.stdout.write(`trouble ${kind}\n`);
const { journal } = await openJetStreamJournal({ ...JSON.parse(options), onTrouble, log });
const never = new Int32Array(new SharedArrayBuffer(4));
journal.watch((events) => {
  for (const { position } of events) {
    // Keeps the process as work does, without using the machine.
    if (position <= Number(busyEvents)) Atomics.wait(never, 0, 0, Number(busyMillis));
    process.stdout.write(`event ${position}\n`);
  }
});
process.stdout.write('watching\n');
