import type {
  AttemptFailure,
  CommittedClip,
  ContentRef,
  JobDefinition,
  JobResultRecord,
  LeaseState,
} from './job-model.ts';

/** Why a lease is no longer in force. */
export type LeaseEndCause =
  /** Every clip of it is committed. */
  | 'completed'
  /** Its clips were committed by another lease. */
  | 'superseded'
  /** The agent gave it back: drained, out of grace, refused. */
  | 'returned'
  /** The attempt failed. */
  | 'failed'
  /** The node was lost. */
  | 'lost'
  /** Pause, preemption or stealing took all of it, or the job ended. */
  | 'revoked';

/** Everything that can happen to a job. The journal holds these, in order, and nothing else about it. */
export type JobEvent =
  | { readonly type: 'JobSubmitted'; readonly definition: JobDefinition; readonly priority: number }
  | { readonly type: 'LeaseGranted'; readonly lease: LeaseState; readonly reason: string }
  | { readonly type: 'LeaseShrunk'; readonly leaseId: string; readonly end: number; readonly reason: string }
  | {
      readonly type: 'LeaseEnded';
      readonly leaseId: string;
      readonly cause: LeaseEndCause;
      readonly reason: string;
      readonly failure?: AttemptFailure;
      /** Wall-clock milliseconds before which the clip at which it failed is not leased again. */
      readonly retryAt?: number;
    }
  | { readonly type: 'AnchorCommitted'; readonly anchor: ContentRef; readonly leaseId: string }
  | { readonly type: 'ClipCommitted'; readonly record: CommittedClip; readonly headerHash: string }
  | { readonly type: 'ClipLost'; readonly clip: number; readonly reason: string }
  | { readonly type: 'ChunkSuperfluous'; readonly clip: number; readonly leaseId: string; readonly reason: string }
  /** A leader took the job over; appends of an earlier one fail from here on. */
  | { readonly type: 'TermOpened'; readonly term: number }
  | { readonly type: 'JobPaused'; readonly reason: string }
  | { readonly type: 'JobResumed' }
  | { readonly type: 'PriorityChanged'; readonly priority: number }
  | { readonly type: 'JobCancelled'; readonly reason: string }
  | { readonly type: 'JobFailed'; readonly reason: string }
  /** `anew`: what is committed does not count any more, because other nodes can't add to it. */
  | { readonly type: 'JobRetried'; readonly reason: string; readonly anew?: true }
  | { readonly type: 'JobCompleted'; readonly result: JobResultRecord }
  /** It was kept for as long as finished jobs are; its files and then its history are removed. */
  | { readonly type: 'JobExpired' };
