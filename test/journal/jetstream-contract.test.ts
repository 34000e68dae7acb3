import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, type TestContext } from 'node:test';
import { fenceContract } from '../../coordinator/src/farm/fence-contract.ts';
import { keptStreamsContract } from '../../coordinator/src/farm/kept-streams-contract.ts';
import { electionContract } from '../../coordinator/src/journal/election-contract.ts';
import { journalContract } from '../../coordinator/src/journal/journal-contract.ts';
import { type NatsCluster, startNatsCluster } from '../harness/nats.ts';
import { openQuietly, type QuietOptions } from './open-quietly.ts';

const dir = mkdtempSync(join(tmpdir(), 'clipfarm-nats-'));
let cluster: NatsCluster;
let farms = 0;

before(async () => {
  cluster = await startNatsCluster({ size: 1, dir });
});
after(async () => {
  await cluster?.close();
  rmSync(dir, { recursive: true, force: true });
});

/** A farm of its own on the shared server. */
function farm(): QuietOptions {
  return { servers: cluster.urls, prefix: `farm-${++farms}` };
}

async function open(t: TestContext, options: QuietOptions) {
  const { journal, election } = await openQuietly(options);
  const close = async () => {
    await election.close();
    await journal.close();
  };
  t.after(close);
  return { journal, election, close };
}

journalContract('JetStream', async (t) => {
  const options = farm();
  return {
    open: async () => (await open(t, options)).journal,
    opener: { module: new URL('./open-quietly.ts', import.meta.url).href, name: 'openJournalQuietly', options },
  };
});

keptStreamsContract('JetStream', async (t) => (await open(t, farm())).journal);
fenceContract('JetStream', async (t) => {
  const options = farm();
  return { open: async () => (await open(t, options)).journal };
});

electionContract('JetStream', async (t) => {
  // No lease of these tests has to run out, and none may.
  const options = { ...farm(), leaseMillis: 60_000 };
  return { open: () => open(t, options) };
});
