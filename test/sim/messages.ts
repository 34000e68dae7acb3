import type { FailureClass, LeaseState } from '../../coordinator/src/core/job-model.ts';

/** A rendered clip in an agent's spool. */
export interface SpooledChunk {
  readonly jobId: string;
  readonly leaseId: string;
  readonly clip: number;
  /** Span whose model call rendered it. */
  readonly span: number;
  /** Content: no two renders have the same. */
  readonly sha256: string;
  readonly renderSeconds: number;
  /** Whether the coordinator will find it damaged. */
  readonly damaged: boolean;
}

/** A slot as its agent introduces it. */
export interface SlotFacts {
  readonly slotId: string;
  readonly warmUpSeconds: number;
  /** What the operator says about its speed; 0 when nothing is said. */
  readonly declaredSecondsPerClip: number;
  /** The highest picture that fits its memory; pixels. */
  readonly maxHeight: number;
}

/** What an agent says. */
export type AgentMessage =
  | {
      readonly type: 'hello';
      readonly slots: readonly SlotFacts[];
      readonly leases: readonly { readonly leaseId: string; readonly clip: number }[];
      readonly spooled: number;
    }
  | { readonly type: 'heartbeat' }
  | { readonly type: 'progress'; readonly leaseId: string; readonly clip: number; readonly fraction: number }
  | { readonly type: 'anchor'; readonly jobId: string; readonly leaseId: string; readonly sha256: string }
  | { readonly type: 'chunk'; readonly chunk: SpooledChunk }
  | { readonly type: 'stopped'; readonly jobId: string; readonly leaseId: string; readonly reason: string }
  | {
      readonly type: 'failed';
      readonly jobId: string;
      readonly leaseId: string;
      readonly clip: number;
      readonly failureClass: FailureClass;
    };

/** What an agent is told. */
export type CoordinatorMessage =
  | { readonly type: 'welcome'; readonly term: number; readonly valid: readonly string[] }
  | {
      readonly type: 'grant';
      readonly jobId: string;
      readonly lease: LeaseState;
      readonly makeAnchor: boolean;
      /** Without progress for so long the agent ends the attempt. */
      readonly hangSeconds: number;
    }
  | { readonly type: 'shrink'; readonly leaseId: string; readonly end: number }
  | { readonly type: 'revoke'; readonly leaseId: string }
  | { readonly type: 'ack'; readonly sha256: string };
