import type { Clock } from '@clipfarm/shared/clock';
import { Hello } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { SlotInfo } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { createLogger } from '@clipfarm/shared/log';
import type { JobDefinition, JobState, LeaseState } from '../core/job-model.ts';
import { DEFAULT_POLICY } from '../core/schedule-model.ts';
import { contentRef, jobDefinition } from '../core/test-jobs.ts';
import {
  type AppendMeta,
  type Journal,
  JournalConflict,
  type JournalWatcher,
  type NewEvent,
  type Snapshot,
  type StoredEvent,
} from '../journal/journal.ts';
import { Fleet } from './fleet.ts';
import { Jobs } from './jobs.ts';
import { Nodes } from './nodes.ts';
import { Office } from './office.ts';
import { SnapshotKeeper } from './snapshot-keeper.ts';

/** A farm in memory, for tests and benchmarks; nothing of the product uses this file. */

/** A journal that forgets everything with the process. */
export class MemoryJournal implements Journal {
  readonly #streams = new Map<string, StoredEvent[]>();
  readonly #snapshots = new Map<string, Snapshot>();

  async append(stream: string, expectedPosition: number, events: readonly NewEvent[], meta: AppendMeta) {
    const stored = this.#streams.get(stream) ?? [];
    if (stored.length !== expectedPosition) throw new JournalConflict(stream, expectedPosition, stored.length);
    for (const event of events) stored.push({ ...event, ...meta, stream, position: stored.length + 1 });
    this.#streams.set(stream, stored);
    return stored.length;
  }

  async *read(stream: string, fromPosition: number) {
    yield* (this.#streams.get(stream) ?? []).slice(fromPosition - 1);
  }

  async streams() {
    return [...this.#streams].map(([stream, events]) => ({ stream, position: events.length }));
  }

  /** There is no other process that could append. */
  watch() {
    return () => {};
  }

  async saveSnapshot(stream: string, position: number, data: unknown) {
    this.#snapshots.set(stream, { position, data: structuredClone(data) });
  }

  async loadSnapshot(stream: string) {
    return this.#snapshots.get(stream) ?? null;
  }

  /** Memory is for short runs; everything stays. */
  async trim() {}

  async remove(stream: string) {
    this.#streams.delete(stream);
    this.#snapshots.delete(stream);
  }

  async close() {}
}

/** The journal as a coordinator has it that stands still: it hears of nothing, or of what comes while `hears` says so. */
export function deaf(journal: Journal, hears = () => false): Journal {
  return new Proxy(journal, {
    get(target, property) {
      if (property === 'watch') {
        return (watcher: JournalWatcher) => target.watch((events) => (hears() ? watcher(events) : undefined));
      }
      const value: unknown = Reflect.get(target, property);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** What a coordinator knows, without its links, timers and disks. */
export interface MemoryFarm {
  readonly clock: Clock;
  readonly journal: Journal;
  readonly office: Office;
  readonly snapshots: SnapshotKeeper;
  readonly jobs: Jobs;
  readonly nodes: Nodes;
  readonly fleet: Fleet;
}

/** Snapshots without a log. */
export function quietSnapshots(): SnapshotKeeper {
  return new SnapshotKeeper(createLogger({ name: 'test', level: 'silent' }));
}

/** An empty farm that leads in term 1. */
export async function memoryFarm<C extends Clock>(clock: C): Promise<MemoryFarm & { readonly clock: C }> {
  const journal = new MemoryJournal();
  const office = new Office(() => null);
  office.enter(1);
  office.taken();
  const snapshots = quietSnapshots();
  const kept = { journal, clock, office, snapshots };
  const jobs = await Jobs.load(kept);
  const nodes = await Nodes.load(kept);
  return { clock, journal, office, snapshots, jobs, nodes, fleet: new Fleet(jobs, nodes, clock, DEFAULT_POLICY) };
}

/** Attaches a node with these slots; where nothing else is said they are synthetic and take a second per clip. */
export async function attach({ nodes }: MemoryFarm, nodeId: string, slots: readonly Partial<SlotInfo>[] = [{}]) {
  const infos = slots.map((slot, n) => {
    return SlotInfo.fromPartial({ slotId: `${n}`, profile: 'synthetic', declaredSecondsPerClip: 1, ...slot });
  });
  return nodes.register(Hello.fromPartial({ nodeId, name: nodeId, version: '1', protocol: 1, slots: infos }));
}

/** Submits a job; `given` replaces what a test is about. */
export async function submit({ jobs }: MemoryFarm, given: Partial<JobDefinition> = {}, priority = 0) {
  return (await jobs.submit(jobDefinition(given), priority)).job;
}

/** Grants clips to a slot; the lease is named as it is granted: `job:start@node/slot`. */
export async function grant(
  { jobs }: MemoryFarm,
  { definition: { jobId } }: JobState,
  at: Pick<LeaseState, 'nodeId' | 'slotId' | 'start' | 'end'>,
): Promise<string> {
  const leaseId = `${jobId}:${at.start}@${at.nodeId}/${at.slotId}`;
  const lease = { leaseId, profile: 'synthetic', preRoll: Math.min(1, at.start), speculative: false, ...at };
  await jobs.execute(jobId, { type: 'grant', lease, reason: 'fixture' });
  return leaseId;
}

/** Commits clips `[start, end)` of a lease. */
export async function commit({ jobs }: MemoryFarm, job: JobState, leaseId: string, start: number, end: number) {
  for (let clip = start; clip < end; clip++) {
    const chunk = { leaseId, clip, frames: 48, chunk: contentRef(`${clip}`), headerHash: 'h' };
    await jobs.execute(job.definition.jobId, { type: 'commit', chunk });
  }
}
