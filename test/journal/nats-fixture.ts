import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Clock } from '@clipfarm/shared/clock';
import {
  type Journal,
  JournalConflict,
  type NewEvent,
  type StoredEvent,
} from '../../coordinator/src/journal/journal.ts';
import type { OpenJetStreamJournal } from '../../coordinator/src/journal/open-jetstream-journal.ts';
import { patiently } from '../harness/farm.ts';
import { type NatsCluster, type NatsClusterOptions, startNatsCluster } from '../harness/nats.ts';
import { openQuietly, type QuietOptions } from './open-quietly.ts';

/** One coordinator's view of the farm. */
export interface Opened extends OpenJetStreamJournal {
  close(): Promise<void>;
}

/** NATS servers and what was opened on them. */
export interface Nats extends NatsCluster {
  /** Opens the farm once more, as another coordinator does, however long that takes. */
  open(options?: Omit<QuietOptions, 'servers'>, clock?: Clock): Promise<Opened>;
}

/** Servers that are gone after the test, with everything that was opened on them. */
export async function natsFor(t: TestContext, options: Partial<NatsClusterOptions> = {}): Promise<Nats> {
  const dir = mkdtempSync(join(tmpdir(), 'clipfarm-nats-'));
  const kept: Opened[] = [];
  let started: NatsCluster | undefined;
  t.after(async () => {
    await Promise.all(kept.map((opened) => opened.close()));
    await started?.close();
    rmSync(dir, { recursive: true, force: true, maxRetries: 3 });
  });
  const cluster = await startNatsCluster({ size: 1, dir, ...options });
  started = cluster;
  const open = async (more: Omit<QuietOptions, 'servers'> = {}, clock?: Clock) => {
    const opened = await patiently(() => openQuietly({ servers: cluster.urls, ...more }, clock));
    const { journal, election } = opened;
    const close = async () => {
      await election.close();
      await journal.close();
    };
    const closable = { ...opened, close };
    kept.push(closable);
    return closable;
  };
  return { ...cluster, open };
}

/** Meta data of appends whose time does not matter. */
export const meta = { at: 1_900_000_000_000, term: 1 };

/** Appends however long it takes. What was given up and stored all the same counts. @returns the position after it */
export async function insist(journal: Journal, stream: string, position: number, added: readonly NewEvent[]) {
  const after = position + added.length;
  await patiently(() => journal.append(stream, position, added, meta)).catch((error: unknown) => {
    if (!(error instanceof JournalConflict)) throw error;
    assert.equal(error.actualPosition, after);
  });
  return after;
}

/** Numbered events. */
export function events(...numbers: readonly number[]): NewEvent[] {
  return numbers.map((n) => ({ type: 'n', data: { n } }));
}

/** The numbers in them. */
export function numbersOf(stored: readonly StoredEvent[]): number[] {
  return stored.map(({ data }) => (data as { n: number }).n);
}

/** 1 to `count`. */
export function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i + 1);
}
