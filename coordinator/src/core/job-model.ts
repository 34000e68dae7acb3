import type { ClipSet } from './clip-ranges.ts';

/** A stored artifact, by content. */
export interface ContentRef {
  /** Hex. */
  readonly sha256: string;
  readonly bytes: number;
}

/** Why an attempt failed. Who pays for it, and what happens next, is decided in `failure-policy.ts`. */
export const failureClasses = [
  'out_of_memory',
  'hang',
  'device',
  'crash',
  'bad_input',
  'environment',
  'bad_chunk',
  'other_encoder',
  'node_lost',
] as const;

/** One of {@link failureClasses}. */
export type FailureClass = (typeof failureClasses)[number];

/** What was asked and what follows from it; fixed when the job is accepted. */
export interface JobDefinition {
  readonly jobId: string;
  readonly name: string;
  readonly owner: string;
  readonly prompt: string;
  readonly imageSha256: string;
  readonly audioSha256: string;
  /** Wall-clock milliseconds by which the submitter wants it, if any. */
  readonly deadline?: number;
  readonly idempotencyKey?: string;
  readonly preset: string;
  readonly size: string;
  readonly sampleSteps: number;
  readonly baseSeed: number;
  readonly anchorMode: 'first_frame' | 'image';
  /** Cap on clips that the submitter gave. */
  readonly numClip?: number;
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;
  readonly clips: number;
  readonly frames: number;
  /** Samples of the decoded audio at 48 kHz. */
  readonly audioSamples: number;
  readonly notes: readonly string[];
  /** The portrait at exactly width x height. */
  readonly reference: ContentRef;
  /** 16 kHz mono WAV. */
  readonly modelAudio: ContentRef;
}

/** A committed clip. */
export interface CommittedClip {
  readonly clip: number;
  readonly leaseId: string;
  readonly span: number;
  readonly nodeId: string;
  readonly slotId: string;
  readonly chunk: ContentRef;
  readonly frames: number;
}

/** A lease that is in force. */
export interface LeaseState {
  readonly leaseId: string;
  readonly nodeId: string;
  readonly slotId: string;
  readonly profile: string;
  readonly span: number;
  readonly start: number;
  readonly end: number;
  /** Its end when it was granted: clips up to it may still come from its spool after a shrink. */
  readonly grantedEnd: number;
  readonly preRoll: number;
  readonly speculative: boolean;
  readonly grantedAt: number;
  /** Ended lease of the slot whose model call this one may go on in. */
  readonly continues?: string;
  /** The end can't be moved while it is rendered, because its runner can't be told. */
  readonly fixedEnd?: boolean;
}

/** Why an attempt ended without success. */
export interface AttemptFailure {
  readonly nodeId: string;
  readonly slotId: string;
  readonly clip: number;
  readonly failureClass: FailureClass;
  readonly message: string;
  readonly at: number;
  /** Codec headers of the chunk that was refused because the job has others. */
  readonly headerHash?: string;
}

/** What is known against rendering one clip. */
export interface ClipTrouble {
  /** Nodes on which an attempt ended at this clip for a reason that may be the clip's. */
  readonly nodes: readonly string[];
  /** Attempts that ended here for such a reason. */
  readonly attempts: number;
  /** The node of each attempt that ended here because its node was lost, oldest first: one lost twice is there twice. */
  readonly lostOn: readonly string[];
  /** Attempts that ended here because the host lacked something. */
  readonly shortages: number;
  /** Wall-clock milliseconds before which the clip is not leased again. */
  readonly notBefore: number;
}

/** The finished video. */
export interface JobResultRecord {
  readonly video: ContentRef;
  readonly frames: number;
  readonly videoSeconds: number;
  readonly audioSeconds: number;
  readonly finishMillis: number;
  readonly checks: readonly { readonly name: string; readonly ok: boolean; readonly detail: string }[];
}

/** Where a job stands. `paused` is beside it, because a paused job is still active. */
export type JobStatus = 'active' | 'stitching' | 'completed' | 'failed' | 'cancelled';

/** Committed clips that one continuous model call rendered. */
export interface CommittedSpan {
  readonly start: number;
  readonly end: number;
  readonly nodeId: string;
  readonly slotId: string;
}

/** A lease that was in force once: still needed to judge chunks that come late. */
export interface PastLease {
  readonly start: number;
  readonly grantedEnd: number;
  readonly span: number;
  readonly nodeId: string;
  readonly slotId: string;
  readonly preRoll: number;
  readonly continues?: string;
}

/** A job, folded from its events. Owned by the fold in `evolve`; everyone else only reads. */
export interface JobState {
  readonly definition: JobDefinition;
  readonly submittedAt: number;
  startedAt: number | null;
  finishedAt: number | null;
  /** When it was decided to remove the job with its files; nothing can happen to it any more. */
  expiredAt: number | null;
  status: JobStatus;
  paused: boolean;
  reason: string;
  priority: number;
  committedSet: ClipSet;
  readonly committed: Map<number, CommittedClip>;
  lastCommitAt: number | null;
  readonly leases: Map<string, LeaseState>;
  readonly pastLeases: Map<string, PastLease>;
  anchor: ContentRef | null;
  /** SHA-256 of the codec headers that every chunk must share; fixed by the first commit, for as long as anything is committed. */
  headerHash: string | null;
  nextSpan: number;
  readonly troubles: Map<number, ClipTrouble>;
  /** Slots (`node/slot`) that ran out of memory on this picture, or encode it unlike those that committed. */
  readonly unfitSlots: Set<string>;
  /** Newest last, at most 20. */
  failures: readonly AttemptFailure[];
  /** Chunks that came for a clip already committed: clips that were rendered more than once. */
  rerendered: number;
  /** `lease/clip` of those chunks, so that each counts once. */
  readonly superfluous: Set<string>;
  /** The spans of a completed job; its commits and leases are forgotten then. */
  finalSpans: readonly CommittedSpan[] | null;
  result: JobResultRecord | null;
  /** Events folded so far. */
  revision: number;
  /** `revision` right after the last event that other services are told of. */
  noticedAt: number;
}

/** Key of a slot in the farm. */
export function slotKey(nodeId: string, slotId: string): string {
  return `${nodeId}/${slotId}`;
}
