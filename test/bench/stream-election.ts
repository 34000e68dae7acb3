import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { JetStreamManager } from 'nats';
import { startNatsCluster } from '../harness/nats.ts';
import type { Times } from '../harness/quantile.ts';
import { openQuietly } from '../journal/open-quietly.ts';

const STREAM = 'CLIPFARM_EVENTS';

/** As large as a committed clip's event. */
const EVENT = { type: 'ClipCommitted', data: { record: 'x'.repeat(400) } };

/** Longer than any election is known to take. */
const PATIENCE_MILLIS = 120_000;

/**
 * Kills the NATS server that leads the stream of events, again and again, and takes the time from each kill until an append is
 * acknowledged. Each is started again and has caught up before the next is killed.
 *
 * @returns how long no event could be written, in the order of the kills
 */
export async function benchStreamElections(kills: number): Promise<Times> {
  const dir = mkdtempSync(join(tmpdir(), 'clipfarm-bench-'));
  try {
    await using cluster = await startNatsCluster({ size: 3, dir });
    const { journal, election, connection } = await openQuietly({
      servers: cluster.urls,
      timeoutMillis: PATIENCE_MILLIS,
    });
    const jsm = await connection.jetstreamManager();
    const times: number[] = [];
    let position = 0;
    const append = async () => {
      position = await journal.append('bench', position, [EVENT], { at: Date.now(), term: 1 });
    };
    for (await append(); times.length < kills; ) {
      const server = cluster.servers[await leaderOnceCurrent(jsm)] ?? assert.fail('no such server');
      const started = performance.now();
      await server.kill();
      await append();
      times.push(performance.now() - started);
      server.launch();
    }
    await election.close();
    await journal.close();
    return times;
  } finally {
    rmSync(dir, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** The index of the server that leads the stream, once both others have everything that it has. */
async function leaderOnceCurrent({ streams }: JetStreamManager): Promise<number> {
  for (;;) {
    const cluster = (await streams.info(STREAM).catch(() => null))?.cluster;
    const current = (cluster?.replicas ?? []).filter((replica) => replica.current && replica.offline !== true);
    if (cluster?.leader && current.length === 2) return Number(cluster.leader.slice(1)) - 1;
    await sleep(100);
  }
}
