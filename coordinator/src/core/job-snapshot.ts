import type { CommittedClip, JobState } from './job-model.ts';

/**
 * Version of the form below. Whoever changes the form, what {@link JobState} holds, or what `evolve` makes of an event
 * raises it: snapshots of another version are left alone and the job is folded from its events.
 */
export const JOB_SNAPSHOT_VERSION = 4;

/** Who committed: lease, span, node and slot. Few, while clips are many. */
type Committer = readonly [leaseId: string, span: number, nodeId: string, slotId: string];

/** A committed clip; `by` is an index into the committers. */
type ClipRow = readonly [clip: number, by: number, sha256: string, bytes: number, frames: number];

/** The parts of a job that JSON carries as they are. */
type PlainParts = Omit<JobState, 'committed' | 'leases' | 'pastLeases' | 'troubles' | 'unfitSlots' | 'superfluous'>;

/** A {@link JobState} as JSON carries it. */
export interface JobSnapshot {
  readonly version: typeof JOB_SNAPSHOT_VERSION;
  readonly plain: PlainParts;
  readonly committers: readonly Committer[];
  readonly clips: readonly ClipRow[];
  readonly leases: readonly Entry<JobState['leases']>[];
  readonly pastLeases: readonly Entry<JobState['pastLeases']>[];
  readonly troubles: readonly Entry<JobState['troubles']>[];
  readonly unfitSlots: readonly string[];
  readonly superfluous: readonly string[];
}

type Entry<M> = M extends Map<infer K, infer V> ? readonly [K, V] : never;

/** A job as JSON carries it, about a fifth of the size of its events. */
export function packJob(state: JobState): JobSnapshot {
  const { committed, leases, pastLeases, troubles, unfitSlots, superfluous, ...plain } = state;
  const committers: Committer[] = [];
  const indices = new Map<string, number>();
  const clips = [...committed.values()].map(({ clip, leaseId, span, nodeId, slotId, chunk, frames }): ClipRow => {
    const key = JSON.stringify([leaseId, span, nodeId, slotId]);
    let by = indices.get(key);
    if (by === undefined) {
      by = committers.push([leaseId, span, nodeId, slotId]) - 1;
      indices.set(key, by);
    }
    return [clip, by, chunk.sha256, chunk.bytes, frames];
  });
  return {
    version: JOB_SNAPSHOT_VERSION,
    plain,
    committers,
    clips,
    leases: [...leases],
    pastLeases: [...pastLeases],
    troubles: [...troubles],
    unfitSlots: [...unfitSlots],
    superfluous: [...superfluous],
  };
}

/**
 * The job that {@link packJob} packed; null when another version did.
 *
 * @param data what the journal gave back
 */
export function unpackJob(data: unknown): JobState | null {
  if (!isSnapshot(data)) return null;
  const { plain, committers, clips } = data;
  const committed = clips.map(([clip, by, sha256, bytes, frames]): [number, CommittedClip] => {
    const [leaseId, span, nodeId, slotId] = committers[by] ?? unknownCommitter(clip);
    return [clip, { clip, leaseId, span, nodeId, slotId, chunk: { sha256, bytes }, frames }];
  });
  return {
    ...plain,
    committed: new Map(committed),
    leases: new Map(data.leases),
    pastLeases: new Map(data.pastLeases),
    troubles: new Map(data.troubles),
    unfitSlots: new Set(data.unfitSlots),
    superfluous: new Set(data.superfluous),
  };
}

/** The journal guards its content with check sums, so a version that is ours has the form that is ours. */
function isSnapshot(data: unknown): data is JobSnapshot {
  return typeof data === 'object' && data !== null && 'version' in data && data.version === JOB_SNAPSHOT_VERSION;
}

function unknownCommitter(clip: number): never {
  throw new Error(`the snapshot does not say who committed clip ${clip}`);
}
