import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Journal } from '../../coordinator/src/journal/journal.ts';
import { startNatsCluster } from '../harness/nats.ts';
import { type JournalPlace, openPlace } from './recovery-place.ts';

/** What durable appends cost on one kind of journal. Milliseconds. */
export interface AppendRow {
  readonly journal: string;
  /** One after the other. */
  readonly median: number;
  readonly p99: number;
  /** Appends a second, to {@link STREAMS} streams at a time. */
  readonly perSecond: number;
}

const APPENDS = 300;

/** Jobs that write at the same time. */
export const STREAMS = 64;
const ROUNDS = 20;

/** As large as a committed clip's event. */
const EVENT = { type: 'ClipCommitted', data: { record: 'x'.repeat(400) } };

/** Times durable appends: every one is on disk, on all copies that count, when it is acknowledged. */
export async function benchAppends(): Promise<readonly AppendRow[]> {
  const dir = mkdtempSync(join(tmpdir(), 'clipfarm-bench-'));
  try {
    const rows = [await measure('SQLite', { kind: 'sqlite', path: join(dir, 'journal.db') })];
    for (const size of [1, 3] as const) {
      await using cluster = await startNatsCluster({ size, dir: join(dir, `nats-${size}`) });
      const name = size === 1 ? 'JetStream, 1 server' : 'JetStream, 3 servers';
      rows.push(await measure(name, { kind: 'nats', servers: cluster.urls, prefix: 'bench' }));
    }
    return rows;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

async function measure(name: string, place: JournalPlace): Promise<AppendRow> {
  const journal = await openPlace(place);
  try {
    await append(journal, 'warm', 20);
    const times = (await append(journal, 'alone', APPENDS)).sort((a, b) => a - b);
    const started = performance.now();
    await Promise.all(Array.from({ length: STREAMS }, (_, n) => append(journal, `jobs/${n}`, ROUNDS)));
    const perSecond = (STREAMS * ROUNDS * 1000) / (performance.now() - started);
    const at = (share: number) => times[Math.floor(share * (times.length - 1))] ?? 0;
    return { journal: name, median: at(0.5), p99: at(0.99), perSecond };
  } finally {
    await journal.close();
  }
}

/** Milliseconds of each of some appends, one after the other. */
async function append(journal: Journal, stream: string, count: number): Promise<number[]> {
  const times: number[] = [];
  for (let position = 0; position < count; ) {
    const started = performance.now();
    position = await journal.append(stream, position, [EVENT], { at: Date.now(), term: 1 });
    times.push(performance.now() - started);
  }
  return times;
}
