import { FarmError } from '@clipfarm/shared/errors';
import type {
  AgentServiceServer,
  ArtifactHeader,
  AttachRequest,
  AttachResponse,
  Hello,
} from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { MAX_CHUNK_BYTES } from '@clipfarm/shared/media/chunk';
import type { CallContext, RpcHandlers } from '@clipfarm/shared/rpc/handlers';
import type { MessageSink } from '@clipfarm/shared/rpc/sink';
import { checkPromise, pipeFileToCall, readUpload, receiveToFile } from '@clipfarm/shared/rpc/stream';
import type { Metrics } from '../admin/metrics.ts';
import type { ArtifactStore } from '../artifacts/artifact-store.ts';
import type { JobState } from '../core/job-model.ts';
import { artifactKeys } from '../farm/artifact-keys.ts';
import type { Link, Links } from '../farm/links.ts';
import type { StorageHealth } from '../farm/storage-health.ts';
import { AgentSession, type SessionParts } from './agent-session.ts';
import { checkHello, refusalOf } from './hello-check.ts';
import { endOf, type LinkEnd } from './link-end.ts';

/** What the RPCs work with. */
export interface ServiceParts extends SessionParts {
  readonly links: Links;
  readonly store: ArtifactStore;
  readonly storage: StorageHealth;
  readonly metrics: Pick<Metrics, 'agentsRefused'>;
}

/** Most characters of an agent's names in a log line. */
const MAX_LOGGED = 100;

/** The RPCs that agents call. */
export function agentService(rpc: RpcHandlers, parts: ServiceParts): AgentServiceServer {
  return {
    attach: rpc.bidi((requests, responses, context) => attach(parts, requests, responses, context)),
    fetchInput: rpc.serverStream(async (request, responses, context) => {
      parts.office.requireLead();
      const job = requireJob(parts.jobs.get(request.jobId), request.jobId);
      const path = await parts.store.localFile(inputKey(job, request.sha256));
      await pipeFileToCall({ path, sink: responses, toMessage: (data) => ({ data }), signal: context.signal });
    }),
    prepareUpload: rpc.unary(async ({ header }) => {
      parts.office.requireLead();
      if (!header) throw new FarmError('invalid_argument', 'header: is missing', { field: 'header' });
      const { sha256, bytes } = header;
      checkPromise({ sha256, bytes, limit: MAX_CHUNK_BYTES });
      const put = await parts.store.presignPut(artifactKey(parts.jobs.get(header.jobId), header), { sha256, bytes });
      if (put === null) return { way: { $case: 'viaCoordinator', value: {} } };
      const { url, headers, validSeconds } = put;
      return { way: { $case: 'presigned', value: { url, headers: { ...headers }, validSeconds } } };
    }),
    uploadArtifact: rpc.clientStream(async (requests) => {
      parts.office.requireLead();
      const { header, pieces } = await readUpload(requests);
      const key = artifactKey(parts.jobs.get(header.jobId), header);
      const { sha256, bytes } = header;
      const dir = parts.store.tempDir();
      await parts.storage.watch(async () => {
        const temp = await receiveToFile({ pieces, dir, sha256, bytes, limit: MAX_CHUNK_BYTES });
        await parts.store.putFile(key, temp, { sha256, bytes });
      });
      return { sha256 };
    }),
  };
}

async function attach(
  parts: ServiceParts,
  requests: AsyncIterable<AttachRequest>,
  responses: MessageSink<AttachResponse>,
  context: CallContext,
): Promise<void> {
  parts.office.requireLead();
  let session: AgentSession | null = null;
  let closed: string | null = null;
  let complete = false;
  const link: Link = {
    send: (message) => void responses.post({ message }),
    close: (why) => {
      closed ??= why;
      session?.close();
      context.abort(new FarmError('unavailable', why));
    },
  };
  try {
    for await (const { message } of requests) {
      if (!message) continue;
      if (session) {
        session.handle(message);
        continue;
      }
      if (message.$case !== 'hello') throw new FarmError('invalid_argument', 'the first message must be Hello');
      const hello = message.value;
      try {
        checkHello(hello);
        session = new AgentSession(hello, parts, link.send, link.close);
        parts.links.open(session.nodeId, link);
        await session.welcome(hello);
      } catch (error) {
        noteRefusal(parts, hello, context.peer, error);
        throw error;
      }
    }
    complete = true;
  } finally {
    const silentMillis = session ? parts.nodes.silence(session.nodeId) : 0;
    // All that was sent has come, and what of it waits for the disk still counts.
    if (complete) await session?.settled();
    session?.close();
    if (session && parts.links.closed(session.nodeId, link)) {
      parts.nodes.disconnected(session.nodeId);
      const { farewell } = session;
      if (session.attached) noteEnd(parts, session.nodeId, context.peer, { closed, farewell, complete, silentMillis });
    }
  }
}

function noteEnd({ nodes, timings, log }: ServiceParts, nodeId: string, peer: string, end: LinkEnd): void {
  log.info({ ...nodes.fieldsOf(nodeId), peer, ...endOf(end, timings.heartbeatMillis) }, 'node detached');
}

function noteRefusal(parts: ServiceParts, { nodeId, name }: Hello, peer: string, error: unknown): void {
  const refusal = refusalOf(error);
  if (refusal === null) return;
  parts.metrics.agentsRefused.inc({ reason: refusal });
  // Not checked yet, so not to be trusted with the length of a log line.
  const node = { node_id: nodeId.slice(0, MAX_LOGGED), node: name.slice(0, MAX_LOGGED) };
  parts.log.warn({ ...node, peer, refusal, reason: FarmError.from(error).message }, 'agent refused');
}

function requireJob(job: JobState | undefined, jobId: string): JobState {
  if (!job) throw new FarmError('not_found', `there is no job ${jobId}`, { field: 'job_id' });
  return job;
}

/** Only what the job's leases need can be fetched through it. */
function inputKey(job: JobState, sha256: string): string {
  const { jobId, reference, modelAudio } = job.definition;
  if (sha256 === reference.sha256 || sha256 === modelAudio.sha256) return artifactKeys.input(sha256);
  if (sha256 === job.anchor?.sha256) return artifactKeys.anchor(jobId, sha256);
  throw new FarmError('not_found', `job ${jobId} has no input ${sha256}`, { field: 'sha256' });
}

/** Where an upload belongs, if the lease that it comes from may hand it in. */
function artifactKey(found: JobState | undefined, header: ArtifactHeader): string {
  const job = requireJob(found, header.jobId);
  const { jobId, clips } = job.definition;
  if (!job.leases.has(header.leaseId) && !job.pastLeases.has(header.leaseId)) {
    throw new FarmError('permission_denied', `lease ${header.leaseId} is not known to job ${jobId}`, {
      field: 'lease_id',
    });
  }
  switch (header.kind) {
    case 'ARTIFACT_KIND_CHUNK':
      if (header.clip >= clips)
        throw new FarmError('invalid_argument', `clip: ${header.clip}; the job has ${clips}`, { field: 'clip' });
      return artifactKeys.chunk(jobId, header.clip, header.sha256);
    case 'ARTIFACT_KIND_ANCHOR':
      return artifactKeys.anchor(jobId, header.sha256);
    default:
      throw new FarmError('invalid_argument', 'kind: must be chunk or anchor', { field: 'kind' });
  }
}
