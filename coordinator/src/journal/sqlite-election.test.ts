import { join } from 'node:path';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { electionContract } from './election-contract.ts';
import { sqliteElection } from './sqlite-election.ts';
import { openSqliteJournal } from './sqlite-journal.ts';

electionContract('SQLite', async (t) => {
  const path = join(temporaryDirectory(t), 'journal.db');
  return {
    open: async () => {
      const journal = await openSqliteJournal({ path });
      const election = sqliteElection(journal);
      const close = async () => {
        await election.close();
        await journal.close();
      };
      t.after(close);
      return { election, close };
    },
  };
});
