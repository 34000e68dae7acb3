import { createHash } from 'node:crypto';
import type { TestContext } from 'node:test';
import { FarmError } from '@clipfarm/shared/errors';
import type {
  DownloadPrefixResponse,
  DownloadResultRequest,
  DownloadResultResponse,
  ListJobEventsRequest,
  ListJobsRequest,
  ListNodesRequest,
  PlanJobRequest,
  SubmitJobRequest,
  UploadInputRequest,
  WatchJobRequest,
  WatchJobResponse,
} from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
import { type Job, type JobEvent, type JobPlan, JobState } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { type Node, NodeState } from '@clipfarm/shared/gen/clipfarm/v1/node';
import type { CallContext } from '@clipfarm/shared/rpc/handlers';
import { startServer } from '@clipfarm/shared/rpc/rpc-harness';
import type { MessageSink } from '@clipfarm/shared/rpc/sink';
import { readUpload } from '@clipfarm/shared/rpc/stream';
import { job, node, plan, result } from './farm-fixtures.ts';

/** What a {@link FakeFarm} does; tests change it while it runs. */
export interface FakeFarmState {
  /** Stored inputs by SHA-256. */
  readonly inputs: Map<string, Buffer>;
  readonly submitted: SubmitJobRequest[];
  readonly planned: PlanJobRequest[];
  readonly listed: ListJobsRequest[];
  /** Names of the calls that change something, with their request. */
  readonly changes: { readonly call: string; readonly request: unknown }[];
  nodes: Node[];
  plan: JobPlan;
  /** What each WatchJob call sends: one array per call, the last one for all further calls. */
  watches: Job[][];
  /** True ends a watch without an end of the job, as a coordinator that goes down does. */
  breakWatch: (call: number) => boolean;
  /** Keeps a watch open after its last message. */
  holdWatch: boolean;
  jobs: Job[];
  video: Buffer;
  /** Digest that is sent with a beginning, where it is not the right one. */
  prefixSha256: string | undefined;
  /** Bytes after which the n-th download breaks; undefined sends all. */
  breakDownload: (call: number) => number | undefined;
  /** What happened to any job, oldest first. */
  events: JobEvent[];
  /** Why answers may be outdated. */
  staleReason: string;
  /** Error that the n-th change of a job or a node throws, before or after it is done. */
  failChange: (call: number) => { readonly error: FarmError; readonly done: boolean } | undefined;
  /** Error that PlanJob throws. */
  refusePlan: FarmError | undefined;
  /** Error that the n-th SubmitJob throws. */
  failSubmit: (call: number) => FarmError | undefined;
}

/** A FarmService on a real grpc-js server. */
export interface FakeFarm {
  readonly address: string;
  readonly state: FakeFarmState;
}

/** Starts a fake farm on a free port; it is closed after the test. Wants no token unless a file is given. */
export async function startFakeFarm(t: TestContext, tokenPath?: string): Promise<FakeFarm> {
  const state = initialState();
  const calls = { watch: 0, download: 0, submit: 0, change: 0 };
  const server = await startServer(
    t,
    (wrap) => ({
      statInput: wrap.unary(({ sha256 }: { sha256: string }) => ({ stored: state.inputs.has(sha256) })),
      uploadInput: wrap.clientStream((messages: AsyncIterable<UploadInputRequest>) => storeInput(state, messages)),
      planJob: wrap.unary((request: PlanJobRequest) => {
        state.planned.push(request);
        if (state.refusePlan !== undefined) throw state.refusePlan;
        return { plan: state.plan };
      }),
      submitJob: wrap.unary((request: SubmitJobRequest) => {
        const failure = state.failSubmit(calls.submit++);
        if (failure !== undefined) throw failure;
        const known = state.submitted.some(({ idempotencyKey }) => idempotencyKey === request.idempotencyKey);
        state.submitted.push(request);
        const accepted = job(JobState.JOB_STATE_QUEUED, { spec: request.spec, plan: state.plan });
        return { job: accepted, alreadyExisted: known };
      }),
      getJob: wrap.unary(({ jobId }: { jobId: string }) => ({
        job: find(state, jobId),
        staleReason: state.staleReason,
      })),
      listJobs: wrap.unary((request: ListJobsRequest) => {
        state.listed.push(request);
        return { ...page(state.jobs, request), staleReason: state.staleReason };
      }),
      listJobEvents: wrap.unary((request: ListJobEventsRequest) => eventPage(state, request)),
      watchJob: wrap.serverStream((request: WatchJobRequest, responses: MessageSink<WatchJobResponse>, context) =>
        sendWatch(state, calls.watch++, request, responses, context),
      ),
      downloadPrefix: wrap.serverStream((_: unknown, responses: MessageSink<DownloadPrefixResponse>) =>
        sendPrefix(state, calls.download++, responses),
      ),
      downloadResult: wrap.serverStream(
        (request: DownloadResultRequest, responses: MessageSink<DownloadResultResponse>) =>
          sendVideo(state, calls.download++, request, responses),
      ),
      // One node a page.
      listNodes: wrap.unary(({ pageToken }: ListNodesRequest) => {
        const start = Number(pageToken || '0');
        const isLast = start + 1 >= state.nodes.length;
        return { nodes: state.nodes.slice(start, start + 1), nextPageToken: isLast ? '' : `${start + 1}` };
      }),
      ...Object.fromEntries(
        (['cancelJob', 'pauseJob', 'resumeJob', 'retryJob', 'setJobPriority'] as const).map((call) => [
          call,
          wrap.unary((request: { jobId: string }) => {
            return withFailure(state, calls.change++, () => {
              const found = find(state, request.jobId);
              const retriable = [JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED] as JobState[];
              if (call === 'retryJob' && !retriable.includes(found.state)) {
                throw new FarmError('failed_precondition', `only a failed or cancelled job can be retried`);
              }
              if (call === 'retryJob') {
                state.jobs = state.jobs.map((other) =>
                  other === found ? { ...found, state: JobState.JOB_STATE_RENDERING } : other,
                );
              }
              state.changes.push({ call, request });
              return { job: find(state, request.jobId) };
            });
          }),
        ]),
      ),
      drainNode: wrap.unary((request: { nodeId: string }) =>
        withFailure(state, calls.change++, () => changeNode(state, 'drainNode', request)),
      ),
      undrainNode: wrap.unary((request: { nodeId: string }) =>
        withFailure(state, calls.change++, () => changeNode(state, 'undrainNode', request)),
      ),
    }),
    tokenPath === undefined ? {} : { tokenPath },
  );
  return { address: `127.0.0.1:${server.port}`, state };
}

/** A finished job with this video. */
export function completed(video: Buffer): Job {
  return job(JobState.JOB_STATE_COMPLETED, {
    clipsCommitted: 50,
    clipsPrefix: 50,
    spans: [{ nodeId: 'node-a', slotId: 'gpu0', start: 0, end: 50 }],
    startedAt: { seconds: 1_893_456_002, nanos: 0 },
    finishedAt: { seconds: 1_893_456_042, nanos: 0 },
    etaSeconds: 0,
    result: result(createHash('sha256').update(video).digest('hex'), video.length),
  });
}

function initialState(): FakeFarmState {
  const video = Buffer.alloc(700_000, 'clip');
  return {
    inputs: new Map(),
    submitted: [],
    planned: [],
    listed: [],
    changes: [],
    nodes: [node('node-a', 'fast'), node('node-b', 'slow')],
    plan: plan(50, ['node-a', 'node-b']),
    watches: [[job(JobState.JOB_STATE_RENDERING, { clipsCommitted: 10 }), completed(video)]],
    breakWatch: () => false,
    holdWatch: false,
    jobs: [],
    video,
    prefixSha256: undefined,
    breakDownload: () => undefined,
    refusePlan: undefined,
    events: [],
    staleReason: '',
    failChange: () => undefined,
    failSubmit: () => undefined,
  };
}

async function storeInput(state: FakeFarmState, messages: AsyncIterable<UploadInputRequest>) {
  const { header, pieces } = await readUpload(messages);
  const parts: Buffer[] = [];
  for await (const piece of pieces) parts.push(piece);
  const content = Buffer.concat(parts);
  const sha256 = createHash('sha256').update(content).digest('hex');
  if (sha256 !== header.sha256 || content.length !== header.bytes) {
    throw new FarmError('invalid_argument', 'sha256: the content is not the one announced', { field: 'sha256' });
  }
  state.inputs.set(sha256, content);
  return { sha256 };
}

function find(state: FakeFarmState, jobId: string): Job {
  const found = state.jobs.find((candidate) => candidate.jobId.startsWith(jobId));
  if (found === undefined) throw new FarmError('not_found', `there is no job "${jobId}"`, { hint: 'clipfarm jobs' });
  return found;
}

function page(jobs: readonly Job[], { states, pageSize, pageToken }: ListJobsRequest) {
  const wanted = jobs.filter(({ state }) => states.length === 0 || states.includes(state));
  const start = Number(pageToken || '0');
  const end = start + (pageSize || 50);
  return { jobs: wanted.slice(start, end), nextPageToken: end < wanted.length ? String(end) : '' };
}

function eventPage(state: FakeFarmState, { jobId, pageSize, pageToken }: ListJobEventsRequest) {
  const found = find(state, jobId);
  const before = pageToken === '' ? Number.POSITIVE_INFINITY : Number(pageToken);
  const events = state.events
    .filter(({ position }) => position < before)
    .slice(-pageSize)
    .reverse();
  const oldest = events.at(-1)?.position ?? 1;
  const nextPageToken = oldest > 1 ? `${oldest}` : '';
  return { jobId: found.jobId, events, nextPageToken, staleReason: state.staleReason };
}

async function sendWatch(
  state: FakeFarmState,
  call: number,
  { jobId }: WatchJobRequest,
  responses: MessageSink<WatchJobResponse>,
  { signal }: CallContext,
): Promise<void> {
  if (jobId === 'missing') throw new FarmError('not_found', 'there is no job "missing"', { hint: 'clipfarm jobs' });
  for (const next of state.watches[Math.min(call, state.watches.length - 1)] ?? [])
    await responses.send({ job: next, staleReason: state.staleReason });
  if (state.breakWatch(call)) throw new FarmError('unavailable', 'the coordinator shuts down');
  if (state.holdWatch) await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
}

async function sendVideo(
  state: FakeFarmState,
  call: number,
  { offset }: DownloadResultRequest,
  responses: MessageSink<DownloadResultResponse>,
): Promise<void> {
  const limit = state.breakDownload(call);
  const end = limit === undefined ? state.video.length : Math.min(state.video.length, offset + limit);
  for (let start = offset; start < end; start += 100_000) {
    await responses.send({ data: state.video.subarray(start, Math.min(end, start + 100_000)) });
  }
  if (limit !== undefined) throw new FarmError('unavailable', 'the coordinator shuts down');
}

/** The first half of the video as the beginning of it; cut off like other downloads. */
async function sendPrefix(
  state: FakeFarmState,
  call: number,
  responses: MessageSink<DownloadPrefixResponse>,
): Promise<void> {
  const half = state.video.subarray(0, state.video.length / 2);
  const limit = state.breakDownload(call);
  await responses.send({ part: { $case: 'header', value: { clips: 2, frames: 96, bytes: half.length } } });
  await responses.send({ part: { $case: 'data', value: half.subarray(0, limit) } });
  if (limit !== undefined) throw new FarmError('unavailable', 'the coordinator shuts down');
  await responses.send({
    part: { $case: 'sha256', value: state.prefixSha256 ?? createHash('sha256').update(half).digest('hex') },
  });
}

/** Makes a change, or fails before or after it as the test wants. */
function withFailure<T>(state: FakeFarmState, call: number, change: () => T): T {
  const failure = state.failChange(call);
  if (failure?.done === false) throw failure.error;
  const answer = change();
  if (failure !== undefined) throw failure.error;
  return answer;
}

function changeNode(farm: FakeFarmState, call: string, request: { nodeId: string }) {
  const found = farm.nodes.find(({ name, nodeId }) => name === request.nodeId || nodeId === request.nodeId);
  if (found === undefined) throw new FarmError('not_found', `there is no node "${request.nodeId}"`);
  farm.changes.push({ call, request });
  const state = call === 'drainNode' ? NodeState.NODE_STATE_DRAINING : NodeState.NODE_STATE_ONLINE;
  const isAway = found.state === NodeState.NODE_STATE_LOST || found.state === NodeState.NODE_STATE_LEFT;
  return { node: { ...found, state: isAway ? found.state : state } };
}
