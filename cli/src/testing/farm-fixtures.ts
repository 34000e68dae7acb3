import {
  Job,
  JobPlan,
  type JobResult,
  JobState,
  type Lease,
  type SlotFit,
  type Span,
} from '@clipfarm/shared/gen/clipfarm/v1/job';
import { Node, NodeState, Slot, SlotState } from '@clipfarm/shared/gen/clipfarm/v1/node';

/** A lease with nothing unusual. */
export function lease(nodeId: string, start: number, end: number, currentClip: number, etaSeconds = -1): Lease {
  const preRoll = start > 0 ? 1 : 0;
  return {
    leaseId: `lease-${nodeId}-${start}`,
    nodeId,
    slotId: 'gpu0',
    start,
    end,
    preRoll,
    currentClip,
    etaSeconds,
    speculative: false,
  };
}

/** Committed clips of one slot. */
export function span(nodeId: string, start: number, end: number): Span {
  return { nodeId, slotId: 'gpu0', start, end };
}

/** A slot that fits. */
export function fit(nodeId: string, secondsPerClip = 1): SlotFit {
  return {
    nodeId,
    slotId: 'gpu0',
    profile: 'synthetic',
    fits: true,
    detail: 'fits: 60 of 70 units of 64x64',
    secondsPerClip,
    unavailable: '',
  };
}

/** A node with one slot that renders the given lease, or idles. */
export function node(nodeId: string, name: string, held?: Lease, clipProgress = 0): Node {
  const slot = Slot.fromPartial({
    info: { slotId: 'gpu0', profile: 'synthetic', declaredSecondsPerClip: 1, maxUnits: 70 },
    state: held === undefined ? SlotState.SLOT_STATE_IDLE : SlotState.SLOT_STATE_RENDERING,
    leaseId: held?.leaseId ?? '',
    jobId: held === undefined ? '' : 'job-1',
    currentClip: held?.currentClip ?? 0,
    clipProgress,
    secondsPerClip: 1,
  });
  return Node.fromPartial({
    nodeId,
    name,
    version: '0.1.0',
    pool: 'default',
    state: NodeState.NODE_STATE_ONLINE,
    slots: [slot],
    lastSeenAt: { seconds: 1_893_456_000, nanos: 0 },
    clipsCommitted: 12,
  });
}

/** A plan of a talk of `clips` full clips. */
export function plan(clips: number, nodeIds: readonly string[]): JobPlan {
  return JobPlan.fromPartial({
    width: 704,
    height: 384,
    clips,
    frames: clips * 48,
    audioSamples: clips * 92_160,
    settings: { preset: 'social', size: '688*368', sampleSteps: 3, inferFrames: 48, baseSeed: 420 },
    fits: nodeIds.map((nodeId) => fit(nodeId)),
    forecastSeconds: clips / Math.max(1, nodeIds.length),
    forecastGpuSeconds: clips,
  });
}

/** A job in the given state, with whatever else a test needs. */
export function job(state: JobState, rest: Partial<Omit<Job, '$type'>> = {}): Job {
  return {
    ...Job.fromPartial({
      jobId: 'job-1',
      spec: { name: 'talk' },
      state,
      submittedAt: { seconds: 1_893_456_000, nanos: 0 },
      etaSeconds: -1,
      revision: 1,
    }),
    plan: plan(50, ['node-a', 'node-b', 'node-c']),
    ...rest,
  };
}

/** A finished video of `bytes` bytes. */
export function result(sha256: string, bytes: number): JobResult {
  return {
    sha256,
    bytes,
    frames: 2400,
    videoSeconds: 96,
    audioSeconds: 96,
    joins: 2,
    finishMillis: 412,
    clipsRerendered: 2,
    checks: [
      { name: 'frames', ok: true, detail: '2400 of 2400' },
      { name: 'audio', ok: true, detail: '96.000 s, 0 ms from the video' },
      { name: 'joins', ok: true, detail: '2 joins, worst score 0.03' },
    ],
  };
}

/** The job in the middle of its work, as three nodes see it. */
export function halfDone(): { readonly job: Job; readonly nodes: readonly Node[] } {
  const a = lease('node-a', 0, 24, 16, 7);
  const b = lease('node-b', 24, 39, 31, 8.2);
  const c = lease('node-c', 39, 50, 38, 21);
  return {
    job: job(JobState.JOB_STATE_RENDERING, {
      leases: [a, b, c],
      spans: [span('node-a', 0, 16), span('node-b', 24, 31)],
      clipsCommitted: 23,
      clipsPrefix: 16,
      speed: 1.43,
      etaSeconds: 21,
      startedAt: { seconds: 1_893_456_002, nanos: 0 },
    }),
    nodes: [node('node-a', 'fast', a, 0.45), node('node-b', 'medium', b, 0.8), node('node-c', 'slow', c, 0.2)],
  };
}
