/**
 * Follows a journal as a coordinator does, in a process of its own, to be stopped. Argument: JSON of the options. Prints
 * `watching`, `event POSITION` for each event of stream s, and its log.
 */
import { createLogger } from '@clipfarm/shared/log';
import { openJetStreamJournal } from '../../coordinator/src/journal/open-jetstream-journal.ts';

const log = createLogger({ name: 'watcher', level: 'info' });
const { journal } = await openJetStreamJournal({ ...JSON.parse(process.argv[2] ?? '{}'), log });
journal.watch((events) => {
  for (const { position } of events) process.stdout.write(`event ${position}\n`);
});
process.stdout.write('watching\n');
