import { createHash } from 'node:crypto';
import { FarmError } from '@clipfarm/shared/errors';
import type { FarmServiceServer } from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
import { Job, JobEvent, type JobSpec, type JobState as JobStateMessage } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { Node } from '@clipfarm/shared/gen/clipfarm/v1/node';
import type { Logger } from '@clipfarm/shared/log';
import type { RpcHandlers } from '@clipfarm/shared/rpc/handlers';
import { checkPromise, pipeFileToCall, readUpload, receiveToFile } from '@clipfarm/shared/rpc/stream';
import type { ArtifactStore } from '../artifacts/artifact-store.ts';
import { type Decision, isOver, type JobCommand, stateWord } from '../core/decide.ts';
import { evolve } from '../core/evolve.ts';
import type { JobState } from '../core/job-model.ts';
import { forecastFinish } from '../core/schedule.ts';
import { artifactKeys } from '../farm/artifact-keys.ts';
import type { Fleet } from '../farm/fleet.ts';
import type { InputKeeper } from '../farm/input-keeper.ts';
import type { HistoryReader } from '../farm/job-history.ts';
import type { Jobs } from '../farm/jobs.ts';
import type { NodeRecord } from '../farm/node-record.ts';
import type { Nodes } from '../farm/nodes.ts';
import type { Office } from '../farm/office.ts';
import type { Planned, Submissions } from '../farm/submissions.ts';
import type { UploadRoom } from '../farm/upload-room.ts';
import type { PrefixVideo } from '../media/prefix-video.ts';
import type { Changes } from './changes.ts';
import { historyEntry } from './history-entry.ts';
import { withinPage } from './page-bytes.ts';
import { givenReason } from './reason.ts';
import { type PlanForecast, stateOf, type Views } from './views.ts';

/** Largest uploads in bytes. */
const UPLOAD_LIMITS = { INPUT_KIND_IMAGE: 50 * 1024 * 1024, INPUT_KIND_AUDIO: 4 * 1024 ** 3 } as const;

/** Most characters of a name in a log line about a job that was refused. */
const MAX_LOGGED = 100;

const MAX_PAGE = 500;
const DEFAULT_PAGE = 50;
const DEFAULT_EVENTS = 100;

/** What the service works with. */
export interface FarmServiceParts {
  readonly jobs: Jobs;
  readonly nodes: Nodes;
  readonly fleet: Fleet;
  readonly submissions: Submissions;
  readonly store: ArtifactStore;
  readonly inputs: InputKeeper;
  readonly room: UploadRoom;
  readonly views: Views;
  readonly office: Office;
  readonly changes: Changes;
  readonly history: HistoryReader;
  readonly wake: () => void;
  readonly log: Logger;
  /** The beginning of the video of a job that is not completed. */
  readonly prefix: (job: JobState, signal: AbortSignal) => Promise<PrefixVideo>;
}

/** The RPCs that users and operators call. */
export function farmService(rpc: RpcHandlers, parts: FarmServiceParts): FarmServiceServer {
  const { jobs, nodes, store, views, office } = parts;
  const staleReason = () => office.staleReason ?? '';
  return {
    uploadInput: rpc.clientStream(async (requests, { abort }) => {
      await office.whenTaken();
      const { header, pieces } = await readUpload(requests);
      const { kind, sha256, bytes } = header;
      if (kind !== 'INPUT_KIND_IMAGE' && kind !== 'INPUT_KIND_AUDIO') {
        throw new FarmError('invalid_argument', 'kind: must be image or audio', { field: 'kind' });
      }
      const limit = UPLOAD_LIMITS[kind];
      checkPromise({ sha256, bytes, limit });
      const field = kind === 'INPUT_KIND_IMAGE' ? 'image' : 'audio';
      await parts.room.during({ bytes, field, pieces, abort }, async (counted) => {
        const temp = await receiveToFile({ pieces: counted, dir: store.tempDir(), sha256, bytes, limit });
        await parts.inputs.use(sha256);
        await store.putFile(artifactKeys.input(sha256), temp, { sha256, bytes });
      });
      return { sha256 };
    }),
    statInput: rpc.unary(async ({ sha256 }) => {
      await office.whenTaken();
      if (!/^[0-9a-f]{64}$/.test(sha256)) {
        throw new FarmError('invalid_argument', 'sha256: must be 64 hexadecimal digits', { field: 'sha256' });
      }
      await parts.inputs.use(sha256);
      const stored = (await store.stat(artifactKeys.input(sha256))) !== null;
      if (!stored) parts.inputs.absent(sha256);
      return { stored };
    }),
    planJob: rpc.unary(async ({ spec }, { signal }) => {
      await office.whenTaken();
      const planned = await parts.submissions.plan(spec, signal);
      return { plan: views.plan(planned.definition, planned.fits, forecastOf(parts.fleet, planned)) };
    }),
    submitJob: rpc.unary(async ({ spec, idempotencyKey }, { signal }) => {
      await office.whenTaken();
      const { job, alreadyExisted } = await submit(parts, spec, idempotencyKey, signal);
      return { job: views.job(job), alreadyExisted };
    }),
    getJob: rpc.unary(({ jobId }) => ({ job: views.job(jobs.find(jobId)), staleReason: staleReason() })),
    listJobs: rpc.unary(({ pageSize, pageToken, states }) => {
      const wanted = wantedOf(jobs.all().reverse(), pageToken, states);
      checkPageSize(pageSize);
      const page = withinPage(views.jobs(wanted.slice(0, pageSize || DEFAULT_PAGE)), Job);
      const last = page.length < wanted.length ? wanted[page.length - 1] : undefined;
      const nextPageToken = last ? jobToken(last) : '';
      return { jobs: [...page], nextPageToken, staleReason: staleReason() };
    }),
    listJobEvents: rpc.unary(async ({ jobId, pageSize, pageToken }) => {
      checkPageSize(pageSize);
      const job = jobs.find(jobId);
      const page = await parts.history.page(job, pageSize || DEFAULT_EVENTS, positionIn(pageToken));
      const entries = page.events.map((past) => historyEntry(past, page.holders));
      const events = withinPage(entries, JobEvent);
      const oldest = events.at(-1)?.position ?? 1;
      return {
        jobId: job.definition.jobId,
        events: [...events],
        nextPageToken: oldest > 1 ? `${oldest}` : '',
        staleReason: staleReason(),
      };
    }),
    watchJob: rpc.serverStream(async ({ jobId }, responses, context) => {
      const job = jobs.find(jobId);
      for await (const _ of parts.changes.of(job.definition.jobId, context.signal)) {
        await responses.send({ job: views.job(job), staleReason: staleReason() });
        if (isOver(job)) return;
      }
    }),
    cancelJob: rpc.unary(({ jobId, reason }) =>
      command(parts, jobId, { type: 'cancel', reason: givenReason(reason, 'by the user') }),
    ),
    pauseJob: rpc.unary(({ jobId }) => {
      const job = jobs.find(jobId);
      return command(parts, jobId, {
        type: 'pause',
        reason: 'by the user',
        currentClips: clipsInHand(parts.fleet, job),
      });
    }),
    resumeJob: rpc.unary(({ jobId }) => command(parts, jobId, { type: 'resume' })),
    retryJob: rpc.unary(({ jobId }) => command(parts, jobId, { type: 'retry' })),
    setJobPriority: rpc.unary(({ jobId, priority }) => {
      if (priority < -100 || priority > 100) {
        throw new FarmError('invalid_argument', `priority: ${priority}; accepted is -100 to 100`, {
          field: 'priority',
        });
      }
      return command(parts, jobId, { type: 'setPriority', priority });
    }),
    downloadResult: rpc.serverStream(async ({ jobId, offset }, responses, { signal }) => {
      const job = jobs.find(jobId);
      if (!job.result) {
        throw new FarmError(
          'failed_precondition',
          `job ${job.definition.jobId} has no video: it is ${stateWord(job)}`,
          {
            field: 'job_id',
            hint: 'clipfarm job watch shows when it is completed',
          },
        );
      }
      const path = await store.localFile(artifactKeys.video(job.definition.jobId, job.result.video.sha256));
      await pipeFileToCall({ path, sink: responses, toMessage: (data) => ({ data }), start: offset, signal });
    }),
    downloadPrefix: rpc.serverStream(async ({ jobId }, responses, { signal }) => {
      office.requireLead();
      const job = jobs.find(jobId);
      await using prefix = await openPrefix(parts, job, signal);
      const { clips, frames, bytes } = prefix;
      await responses.send({ part: { $case: 'header', value: { clips, frames, bytes } } });
      const hash = createHash('sha256');
      for await (const data of prefix.pieces()) {
        signal.throwIfAborted();
        hash.update(data);
        await responses.send({ part: { $case: 'data', value: data } });
      }
      await responses.send({ part: { $case: 'sha256', value: hash.digest('hex') } });
    }),
    listNodes: rpc.unary(({ knowsLeft, pageToken }) => {
      // Only the leader hears agents, so only it knows how they are.
      office.requireLead();
      const wanted = nodesAfter(nodes.all(), pageToken);
      const page = withinPage(
        wanted.map((node) => views.node(node, knowsLeft)),
        Node,
      );
      const last = page.length < wanted.length ? page.at(-1) : undefined;
      return { nodes: [...page], nextPageToken: last ? nodeToken(last) : '' };
    }),
    drainNode: rpc.unary(async ({ nodeId, reason, knowsLeft }, { peer }) => {
      const why = givenReason(reason, 'by the operator');
      await office.whenTaken();
      const isDrained = nodes.find(nodeId).drainReason !== null;
      const node = await nodes.drain(nodeId, why);
      // The first reason stays.
      if (!isDrained)
        parts.log.info({ ...nodes.fieldsOf(node.nodeId), reason: node.drainReason, peer }, 'node drained');
      await giveBackTails(parts, node);
      return nodeAnswer(parts, node, knowsLeft);
    }),
    undrainNode: rpc.unary(async ({ nodeId, knowsLeft }, { peer }) => {
      await office.whenTaken();
      const found = nodes.findKept(nodeId);
      const before = { was: nodes.status(found), drained_for: found.drainReason };
      const node = await nodes.undrain(found.nodeId);
      parts.log.info({ ...nodes.fieldsOf(node.nodeId), ...before, peer }, 'node undrained');
      return nodeAnswer(parts, node, knowsLeft);
    }),
  };
}

/** Accepts a job; what is refused, or was accepted before, is logged here, because it leaves no event. */
async function submit(
  { submissions, log }: FarmServiceParts,
  spec: JobSpec | undefined,
  idempotencyKey: string,
  signal: AbortSignal,
) {
  try {
    const submitted = await submissions.submit(spec, idempotencyKey, signal);
    if (submitted.alreadyExisted) {
      const { jobId, name, owner } = submitted.job.definition;
      log.info({ job_id: jobId, job: name, owner }, 'job ordered once more: its idempotency key stands for it');
    }
    return submitted;
  } catch (error) {
    const { code, field, message } = FarmError.from(error);
    // What is no refusal is logged as a failed call, or told by the coordinator that leads.
    if (code === 'internal' || code === 'unavailable') throw error;
    const [job, owner] = [spec?.name, spec?.owner].map((text) => text?.slice(0, MAX_LOGGED));
    log.info({ job, owner, code, ...(field === undefined ? {} : { field }), reason: message }, 'job refused');
    throw error;
  }
}

async function openPrefix(parts: FarmServiceParts, job: JobState, signal: AbortSignal): Promise<PrefixVideo> {
  const { jobId } = job.definition;
  const refuse = (why: string, hint: string) =>
    new FarmError('failed_precondition', `job ${jobId} has no beginning of a video to send: ${why}`, {
      field: 'job_id',
      hint,
    });
  if (job.status === 'completed') throw refuse(`it is ${stateWord(job)}`, 'Download the finished video.');
  try {
    return await parts.prefix(job, signal);
  } catch (error) {
    const { code, message } = FarmError.from(error);
    if (code !== 'failed_precondition') throw error;
    const retry = `Take it up where it ended with: clipfarm job retry ${jobId}`;
    throw refuse(message, isOver(job) ? retry : 'Try again in a moment.');
  }
}

/** Clip in hand of each of the job's leases that has said where it is. */
function clipsInHand(fleet: Fleet, job: JobState): ReadonlyMap<string, number> {
  return new Map([...job.leases.keys()].map((id) => [id, fleet.progressOf(id)?.clip ?? -1] as const));
}

/** A drained node keeps the clip in hand; the rest of its leases goes to others at once. */
async function giveBackTails(parts: FarmServiceParts, node: NodeRecord): Promise<void> {
  for (const job of parts.jobs.live()) {
    const currentClips = clipsInHand(parts.fleet, job);
    const command = { type: 'leaveNode', nodeId: node.nodeId, reason: 'its node is drained', currentClips } as const;
    await parts.jobs.execute(job.definition.jobId, command);
  }
}

function nodeAnswer(parts: FarmServiceParts, node: NodeRecord, knowsLeft: boolean) {
  parts.wake();
  return { node: parts.views.node(node, knowsLeft) };
}

async function command(parts: FarmServiceParts, idOrPrefix: string, what: JobCommand) {
  await parts.office.whenTaken();
  const job = parts.jobs.find(idOrPrefix);
  const decision: Decision = await parts.jobs.execute(job.definition.jobId, what);
  if (decision.outcome === 'refused') {
    throw new FarmError('failed_precondition', `job ${job.definition.jobId}: ${decision.reason}`, { field: 'job_id' });
  }
  return { job: parts.views.job(job) };
}

/** What a job would take, were it submitted now. */
function forecastOf(fleet: Fleet, planned: Planned): PlanForecast {
  const { definition, priority, fits } = planned;
  const job = evolve(null, { type: 'JobSubmitted', definition, priority }, 0);
  const input = fleet.scheduleInput([job]);
  const seconds = forecastFinish(input, job);
  const fitting = fits.filter((fit) => fit.fits);
  const mean = fitting.reduce((sum, fit) => sum + fit.secondsPerClip, 0) / Math.max(1, fitting.length);
  return { seconds: Number.isFinite(seconds) ? seconds : 0, slotSeconds: mean * definition.clips, now: input.now };
}

/** Position before which a page of events ends; undefined for the first page. */
function positionIn(token: string): number | undefined {
  if (token === '') return undefined;
  if (/^[1-9]\d{0,14}$/.test(token)) return Number(token);
  throw new FarmError('invalid_argument', `page_token: "${token}" is not one of mine`, { field: 'page_token' });
}

function checkPageSize(size: number): void {
  if (size <= MAX_PAGE) return;
  throw new FarmError('invalid_argument', `page_size: ${size}; accepted is 1 to ${MAX_PAGE}`, { field: 'page_size' });
}

/** What a page of nodes that ends with this one is followed up with. */
function nodeToken({ nodeId, name }: Pick<NodeRecord, 'nodeId' | 'name'>): string {
  return `${nodeId} ${name}`;
}

/** The nodes after the page before, by name; that its last one may be gone since doesn't matter. */
function nodesAfter(all: readonly NodeRecord[], token: string): readonly NodeRecord[] {
  const sorted = all.toSorted(byName);
  if (token === '') return sorted;
  const [, nodeId, name] = /^(\S+) (.*)$/s.exec(token) ?? [];
  if (nodeId === undefined || name === undefined) {
    throw new FarmError('invalid_argument', `page_token: "${token}" is not one of mine`, { field: 'page_token' });
  }
  return sorted.filter((node) => byName(node, { nodeId, name }) > 0);
}

function byName(a: Pick<NodeRecord, 'nodeId' | 'name'>, b: Pick<NodeRecord, 'nodeId' | 'name'>): number {
  if (a.name !== b.name) return a.name < b.name ? -1 : 1;
  return a.nodeId < b.nodeId ? -1 : Number(a.nodeId > b.nodeId);
}

/** What a page of jobs that ends with this one is followed up with: its place, because it may be gone by then. */
function jobToken({ submittedAt, definition }: JobState): string {
  return `${submittedAt}/${definition.jobId}`;
}

/**
 * The jobs after the page before that are in one of the states.
 *
 * @param all newest first, whatever their states
 */
function wantedOf(all: readonly JobState[], token: string, states: readonly JobStateMessage[]): readonly JobState[] {
  const rest = token === '' ? all : jobsAfter(all, token);
  return rest.filter((job) => states.length === 0 || states.includes(stateOf(job)));
}

function jobsAfter(all: readonly JobState[], token: string): readonly JobState[] {
  const [, time, jobId] = /^(\d+)\/(.+)$/s.exec(token) ?? [];
  if (time !== undefined && jobId !== undefined) {
    const submittedAt = Number(time);
    return all.filter((job) => {
      return job.submittedAt < submittedAt || (job.submittedAt === submittedAt && job.definition.jobId < jobId);
    });
  }
  // Tokens of earlier versions name the job only.
  const at = all.findIndex((job) => job.definition.jobId === token);
  if (at !== -1) return all.slice(at + 1);
  throw new FarmError('invalid_argument', `page_token: "${token}" is not one of mine`, { field: 'page_token' });
}
