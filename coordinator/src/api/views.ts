import type { SlotStatus } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import {
  type DeadlineOutlook as DeadlineOutlookMessage,
  Job,
  type JobPlan,
  type JobState as JobStateMessage,
} from '@clipfarm/shared/gen/clipfarm/v1/job';
import { Node } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { countClips } from '../core/clip-ranges.ts';
import { type DeadlineOutlook, deadlineOutlook, outlookByForecast } from '../core/deadline.ts';
import { isOver, type StateWord, stateWord } from '../core/decide.ts';
import type { JobDefinition, JobState } from '../core/job-model.ts';
import { committedPrefix, committedSpans, reachedClip } from '../core/job-progress.ts';
import { forecastFinish, forecastLease } from '../core/schedule.ts';
import { newRound, type Round } from '../core/schedule-round.ts';
import type { Fit, Fleet, FleetSlot } from '../farm/fleet.ts';
import type { HeldLease } from '../farm/lease-index.ts';
import type { NodeRecord, NodeStatus } from '../farm/node-record.ts';
import type { Nodes } from '../farm/nodes.ts';
import type { Speedometer } from '../farm/speedometer.ts';
import type { StorageHealth } from '../farm/storage-health.ts';
import { shownReason } from './reason.ts';
import { type Standing, standingWords, whyNoNode } from './standing.ts';

/** What the API shows of the farm. */
export class Views {
  readonly #fleet: Fleet;
  readonly #nodes: Nodes;
  readonly #speed: Speedometer;
  readonly #storage: StorageHealth;
  readonly #keepMillis: number | null;
  readonly #leads: () => boolean;
  readonly #anchorProblem: (jobId: string) => string | null;

  /**
   * @param keepMillis how long a job is kept after its end; null for ever
   * @param leads whether this coordinator leads, and so knows the nodes
   * @param anchorProblem why a job's anchor can't be taken from its first clip just now, null where nothing is wrong
   */
  constructor(
    fleet: Fleet,
    nodes: Nodes,
    speed: Speedometer,
    storage: StorageHealth,
    keepMillis: number | null,
    leads: () => boolean,
    anchorProblem: (jobId: string) => string | null = () => null,
  ) {
    this.#fleet = fleet;
    this.#nodes = nodes;
    this.#speed = speed;
    this.#storage = storage;
    this.#keepMillis = keepMillis;
    this.#leads = leads;
    this.#anchorProblem = anchorProblem;
  }

  /** A job as an observer sees it. */
  job(job: JobState): Job {
    return this.#job(job, this.#look([job]));
  }

  /** Several jobs, for about the price of one look at the farm. */
  jobs(jobs: readonly JobState[]): Job[] {
    const look = this.#look(jobs);
    return jobs.map((job) => this.#job(job, look));
  }

  #look(jobs: readonly JobState[]): Look {
    const slots = this.#fleet.slots();
    return { slots, round: newRound(this.#fleet.scheduleInput(jobs, slots)) };
  }

  #job(job: JobState, { slots, round }: Look): Job {
    const { definition } = job;
    const eta =
      job.status === 'active' && !job.paused ? forecastFinish(round, job) : job.status === 'stitching' ? 0 : -1;
    const etaSeconds = knownSeconds(eta);
    const spans = [...committedSpans(job)];
    return Job.fromPartial({
      jobId: definition.jobId,
      spec: specOf(job),
      plan: planOf(definition),
      state: stateOf(job),
      stateReason: shownReason(this.#reasonOf(job, slots)),
      submittedAt: timestamp(job.submittedAt),
      startedAt: timestamp(job.startedAt),
      finishedAt: timestamp(job.finishedAt),
      keptUntil: timestamp(this.#keptUntil(job)),
      clipsCommitted: countClips(job.committedSet),
      clipsPrefix: committedPrefix(job),
      leases: [...job.leases.values()].map((lease) => ({
        leaseId: lease.leaseId,
        nodeId: lease.nodeId,
        slotId: lease.slotId,
        start: lease.start,
        end: lease.end,
        preRoll: lease.preRoll,
        speculative: lease.speculative,
        currentClip: this.#reachedClip({ job, lease }),
        etaSeconds: knownSeconds(forecastLease(round, job, lease)),
      })),
      etaSeconds,
      ...outlookFields(deadlineOutlook(job, etaSeconds, round.now)),
      speed: this.#speed.of(definition.jobId),
      result: job.result
        ? {
            ...job.result,
            ...job.result.video,
            joins: spans.length - 1,
            clipsRerendered: job.rerendered,
            checks: [...job.result.checks],
          }
        : undefined,
      revision: job.revision,
      spans,
      failures: job.failures.map((failure) => ({
        ...failure,
        message: shownReason(failure.message),
        at: timestamp(failure.at),
      })),
    });
  }

  /** A plan with which slots fit, what it takes, and whether that is in time. */
  plan(definition: JobDefinition, fits: readonly Fit[], forecast: PlanForecast): JobPlan {
    const { deadline } = definition;
    const { seconds, slotSeconds, now } = forecast;
    return {
      ...planOf(definition),
      ...(deadline === undefined || seconds === 0 ? {} : outlookFields(outlookByForecast(deadline, seconds, now))),
      fits: fits.map(({ node, slot, fits: ok, detail, secondsPerClip }) => ({
        nodeId: node.nodeId,
        slotId: slot.slotId,
        profile: slot.profile,
        fits: ok,
        detail,
        secondsPerClip,
        unavailable: this.#whyUnavailable(node, slot.slotId),
      })),
      forecastSeconds: seconds,
      forecastGpuSeconds: slotSeconds,
    };
  }

  /**
   * A node with what its slots do.
   *
   * @param knowsLeft whether the client knows that a node can have left; to others it is lost
   */
  node(node: NodeRecord, knowsLeft: boolean): Node {
    return Node.fromPartial({
      nodeId: node.nodeId,
      name: node.name,
      version: node.version,
      pool: node.pool,
      state: stateOfNode(this.#nodes.status(node), knowsLeft),
      stateReason: this.#nodeReason(node),
      slots: node.slots.map((info) => {
        const status = node.statuses.get(info.slotId);
        const slot = this.#fleet.slot(node.nodeId, info.slotId);
        const held = slot?.leaseId ? this.#fleet.holder(slot.leaseId) : null;
        return {
          info,
          state: status?.state ?? 'SLOT_STATE_UNSPECIFIED',
          jobId: held?.job.definition.jobId ?? '',
          leaseId: slot?.leaseId ?? '',
          currentClip: status?.currentClip ?? (held ? this.#reachedClip(held) : 0),
          clipProgress: status?.clipProgress ?? 0,
          stateReason: status?.stateReason ?? '',
          secondsPerClip:
            held && slot ? this.#fleet.secondsPerClip(slot, held.job.definition) : info.declaredSecondsPerClip,
        };
      }),
      lastSeenAt: timestamp(node.lastSeenAt || (node.left?.at ?? null)),
      clipsCommitted: node.clipsCommitted,
      gpus: [...node.gpus],
    });
  }

  #reachedClip({ job, lease }: HeldLease): number {
    return reachedClip(job, lease, this.#fleet.progressOf(lease.leaseId)?.clip);
  }

  #nodeReason(node: NodeRecord): string {
    const reason = this.#stateReason(node);
    // What a drained node that is away has to be told once it is back.
    const isDrainedToo = node.drainReason !== null && this.#nodes.status(node) !== 'draining';
    return shownReason(isDrainedToo ? `${reason}; drained: ${node.drainReason}` : reason);
  }

  #stateReason(node: NodeRecord): string {
    switch (this.#nodes.status(node)) {
      case 'draining':
        return node.drainReason ?? '';
      case 'quarantined':
        return `${node.quarantineReason}; until ${new Date(node.quarantinedUntil).toISOString()}`;
      case 'left':
        return node.left?.reason ?? '';
      case 'lost':
        return node.lastSeenAt === 0 ? 'not seen since this coordinator leads' : 'no sign of life';
      case 'online':
        return '';
    }
  }

  #standing(node: NodeRecord): Standing {
    return { name: node.name, status: this.#nodes.status(node), reason: this.#nodeReason(node) };
  }

  /** Whether a node is there, and somebody's decision keeps it from working. */
  #isKeptAway(node: NodeRecord): boolean {
    const status = this.#nodes.status(node);
    return status === 'draining' || status === 'quarantined';
  }

  #whyUnavailable(node: NodeRecord, slotId: string): string {
    if (this.#nodes.status(node) !== 'online') return `its node ${standingWords(this.#standing(node))}`;
    const status = node.statuses.get(slotId);
    return status?.state === 'SLOT_STATE_RECOVERING' ? `it recovers: ${status.stateReason}` : '';
  }

  #keptUntil({ finishedAt }: JobState): number | null {
    return finishedAt === null || this.#keepMillis === null ? null : finishedAt + this.#keepMillis;
  }

  /** Why the job is in its state; for one that waits, what it waits for. */
  #reasonOf(job: JobState, slots: readonly FleetSlot[]): string {
    if (this.#storage.problem !== null && !isOver(job)) return this.#storage.problem;
    const anchorProblem = job.status === 'active' && !job.paused ? this.#anchorProblem(job.definition.jobId) : null;
    if (anchorProblem !== null) {
      return `its anchor can't be taken from its first clip, and nothing else begins before; it is tried again: ${anchorProblem}`;
    }
    if (job.reason !== '' || job.status !== 'active' || job.leases.size > 0) return job.reason;
    if (!this.#leads()) return 'waits; what for, only the coordinator that leads knows';
    const online = slots.filter((slot) => this.#nodes.status(slot.node) === 'online');
    const [first] = online;
    if (!first) {
      return this.#nodes.awaited.length > 0
        ? 'waits for the nodes: another coordinator led before, and they have to find this one'
        : whyNoNode(this.#nodes.all().map((node) => this.#standing(node)));
    }
    const fitting = online.filter((slot) => this.#fleet.canRender(slot, job.definition));
    if (fitting.length === 0) {
      const detail = `no online slot fits: ${this.#fleet.fit(first, job.definition).detail}`;
      const kept = slots.find((slot) => this.#isKeptAway(slot.node) && this.#fleet.canRender(slot, job.definition));
      if (!kept) return detail;
      return `${detail}; ${kept.node.name}/${kept.slotId} does, but its node ${standingWords(this.#standing(kept.node))}`;
    }
    // Failures are kept for the record; of those that a retry or a commit has settled no clip is in trouble any more.
    if (job.troubles.size > 0)
      return `waits before the next attempt; last failure: ${job.failures.at(-1)?.message ?? ''}`;
    return unusable(fitting) ?? 'waits for a free slot';
  }
}

/** Why none of the slots can take work, by the word of the first; undefined where one can, or none says why. */
function unusable(slots: readonly FleetSlot[]): string | undefined {
  const troubles = slots.map(({ node, slotId }) => ({
    label: `${node.name}/${slotId}`,
    reason: reasonAgainst(node.statuses.get(slotId)),
  }));
  const [first] = troubles;
  if (first === undefined || troubles.some(({ reason }) => reason === '')) return undefined;
  return `waits for a slot that works; ${first.label}: ${first.reason}`;
}

/** Why a slot takes no work; empty where it does, whatever it says of the time until it begins. */
function reasonAgainst(status: SlotStatus | undefined): string {
  return status === undefined || status.state === 'SLOT_STATE_IDLE' ? '' : status.stateReason;
}

/** What a job that is only planned would take. */
export interface PlanForecast {
  /** Until the video is there; 0 where no slot that is online fits. */
  readonly seconds: number;
  /** Of all slots together. */
  readonly slotSeconds: number;
  /** Wall-clock milliseconds of the forecast. */
  readonly now: number;
}

/** The farm at one instant. */
interface Look {
  readonly slots: readonly FleetSlot[];
  readonly round: Round;
}

const jobStates = {
  queued: 'JOB_STATE_QUEUED',
  rendering: 'JOB_STATE_RENDERING',
  paused: 'JOB_STATE_PAUSED',
  stitching: 'JOB_STATE_STITCHING',
  completed: 'JOB_STATE_COMPLETED',
  failed: 'JOB_STATE_FAILED',
  cancelled: 'JOB_STATE_CANCELLED',
} as const satisfies { readonly [S in StateWord]: JobStateMessage };

const outlooks = {
  unknown: 'DEADLINE_OUTLOOK_UNSPECIFIED',
  in_time: 'DEADLINE_OUTLOOK_IN_TIME',
  late: 'DEADLINE_OUTLOOK_LATE',
  met: 'DEADLINE_OUTLOOK_MET',
  missed: 'DEADLINE_OUTLOOK_MISSED',
} as const satisfies { readonly [O in DeadlineOutlook['outlook']]: DeadlineOutlookMessage };

const nodeStates = {
  online: 'NODE_STATE_ONLINE',
  left: 'NODE_STATE_LEFT',
  lost: 'NODE_STATE_LOST',
  draining: 'NODE_STATE_DRAINING',
  quarantined: 'NODE_STATE_QUARANTINED',
} as const satisfies { readonly [S in NodeStatus]: string };

/** A node's state as a client can read it. */
function stateOfNode(status: NodeStatus, knowsLeft: boolean) {
  return nodeStates[status === 'left' && !knowsLeft ? 'lost' : status];
}

/** A job's state as the API names it. */
export function stateOf(job: JobState): JobStateMessage {
  return jobStates[stateWord(job)];
}

function outlookFields({ outlook, marginSeconds }: DeadlineOutlook) {
  return { deadlineOutlook: outlooks[outlook], deadlineMarginSeconds: marginSeconds };
}

function specOf(job: JobState) {
  const { definition: d } = job;
  return {
    name: d.name,
    imageSha256: d.imageSha256,
    audioSha256: d.audioSha256,
    prompt: d.prompt,
    settings: settingsOf(d),
    priority: job.priority,
    owner: d.owner,
    deadline: timestamp(d.deadline ?? null),
  };
}

function planOf(d: JobDefinition): JobPlan {
  return {
    width: d.width,
    height: d.height,
    clips: d.clips,
    frames: d.frames,
    audioSamples: d.audioSamples,
    settings: settingsOf(d),
    notes: [...d.notes],
    fits: [],
    forecastSeconds: 0,
    forecastGpuSeconds: 0,
    ...outlookFields({ outlook: 'unknown', marginSeconds: 0 }),
  };
}

function settingsOf(d: JobDefinition) {
  const anchor = d.anchorMode === 'image' ? ('ANCHOR_IMAGE' as const) : ('ANCHOR_FIRST_FRAME' as const);
  return {
    preset: d.preset,
    size: d.size,
    numClip: d.numClip,
    sampleSteps: d.sampleSteps,
    inferFrames: 48,
    baseSeed: d.baseSeed,
    sampleGuideScale: 0,
    enableOnlineDecode: true,
    sampleSolver: 'euler',
    anchor,
  };
}

/** A forecast as the API tells it: negative when it is unknown. */
function knownSeconds(seconds: number): number {
  return Number.isFinite(seconds) ? seconds : -1;
}

/** A time of the core, in wall-clock milliseconds, as the protocol has it. */
export function timestamp(millis: number | null) {
  if (millis === null) return undefined;
  return { seconds: Math.floor(millis / 1000), nanos: Math.round(millis % 1000) * 1_000_000 };
}
