import { JobState } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { NodeState, SlotState } from '@clipfarm/shared/gen/clipfarm/v1/node';

/** Words for the states of jobs, as flags and tables have them. */
export const jobStateWords = {
  [JobState.JOB_STATE_UNSPECIFIED]: 'unknown',
  [JobState.JOB_STATE_QUEUED]: 'queued',
  [JobState.JOB_STATE_RENDERING]: 'rendering',
  [JobState.JOB_STATE_STITCHING]: 'stitching',
  [JobState.JOB_STATE_COMPLETED]: 'completed',
  [JobState.JOB_STATE_FAILED]: 'failed',
  [JobState.JOB_STATE_CANCELLED]: 'cancelled',
  [JobState.JOB_STATE_PAUSED]: 'paused',
} as const satisfies Record<JobState, string>;

/** Words for the states of nodes. */
export const nodeStateWords = {
  [NodeState.NODE_STATE_UNSPECIFIED]: 'unknown',
  [NodeState.NODE_STATE_ONLINE]: 'online',
  [NodeState.NODE_STATE_LOST]: 'lost',
  [NodeState.NODE_STATE_DRAINING]: 'draining',
  [NodeState.NODE_STATE_QUARANTINED]: 'quarantined',
  [NodeState.NODE_STATE_LEFT]: 'left',
} as const satisfies Record<NodeState, string>;

/** Words for the states of slots. */
export const slotStateWords = {
  [SlotState.SLOT_STATE_UNSPECIFIED]: 'unknown',
  [SlotState.SLOT_STATE_IDLE]: 'idle',
  [SlotState.SLOT_STATE_LOADING]: 'loading',
  [SlotState.SLOT_STATE_RENDERING]: 'rendering',
  [SlotState.SLOT_STATE_RECOVERING]: 'recovering',
  [SlotState.SLOT_STATE_DRAINING]: 'leaving',
} as const satisfies Record<SlotState, string>;

/** True for a state that a job leaves only when an operator retries it. */
export function isFinal(state: JobState): boolean {
  return (
    state === JobState.JOB_STATE_COMPLETED ||
    state === JobState.JOB_STATE_FAILED ||
    state === JobState.JOB_STATE_CANCELLED
  );
}
