import type { Logger } from '@clipfarm/shared/log';
import { type Journal, JournalConflict } from './journal.ts';

/** Why an append was not stored: another process was first, or the journal could not be written. */
export type AppendRefusal = 'conflict' | 'failed';

/** A journal of which every append that is not stored is told, and logged, before whoever asked for it learns so. */
export function watchedJournal(journal: Journal, refused: (why: AppendRefusal) => void, log: Logger): Journal {
  return {
    async append(stream, expectedPosition, events, meta) {
      try {
        return await journal.append(stream, expectedPosition, events, meta);
      } catch (error) {
        const why = error instanceof JournalConflict ? 'conflict' : 'failed';
        refused(why);
        // Whoever asked decides whether it is trouble: after a conflict most decide anew.
        log.debug({ err: error, stream, why }, 'append refused');
        throw error;
      }
    },
    read: (stream, fromPosition) => journal.read(stream, fromPosition),
    streams: () => journal.streams(),
    watch: (watcher) => journal.watch(watcher),
    saveSnapshot: (stream, position, data) => journal.saveSnapshot(stream, position, data),
    loadSnapshot: (stream) => journal.loadSnapshot(stream),
    trim: (stream, position) => journal.trim(stream, position),
    remove: (stream) => journal.remove(stream),
    close: () => journal.close(),
  };
}
