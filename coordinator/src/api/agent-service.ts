import { FarmError } from '@clipfarm/shared/errors';
import type {
  AgentServiceServer,
  ArtifactHeader,
  AttachRequest,
  AttachResponse,
} from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import type { CallContext, RpcHandlers } from '@clipfarm/shared/rpc/handlers';
import type { MessageSink } from '@clipfarm/shared/rpc/sink';
import { pipeFileToCall, readUpload, receiveToFile } from '@clipfarm/shared/rpc/stream';
import type { ArtifactStore } from '../artifacts/artifact-store.ts';
import type { JobState } from '../core/job-model.ts';
import { artifactKeys } from '../farm/artifact-keys.ts';
import type { Link, Links } from '../farm/links.ts';
import type { StorageHealth } from '../farm/storage-health.ts';
import { AgentSession, type SessionParts } from './agent-session.ts';

/** Version of the agent link that this coordinator speaks. */
const PROTOCOL = 1;

/** Largest chunk: 48 frames of the largest picture stay far below it at any quality. */
const MAX_CHUNK_BYTES = 64 * 1024 * 1024;

/** The RPCs that agents call. */
export function agentService(
  rpc: RpcHandlers,
  parts: SessionParts & { readonly links: Links; readonly store: ArtifactStore; readonly storage: StorageHealth },
): AgentServiceServer {
  return {
    attach: rpc.bidi((requests, responses, context) => attach(parts, requests, responses, context)),
    fetchInput: rpc.serverStream(async (request, responses, context) => {
      parts.office.requireLead();
      const job = requireJob(parts.jobs.get(request.jobId), request.jobId);
      const path = await parts.store.localFile(inputKey(job, request.sha256));
      await pipeFileToCall({ path, sink: responses, toMessage: (data) => ({ data }), signal: context.signal });
    }),
    uploadArtifact: rpc.clientStream(async (requests) => {
      parts.office.requireLead();
      const { header, pieces } = await readUpload(requests);
      const job = requireJob(parts.jobs.get(header.jobId), header.jobId);
      const key = artifactKey(job, header);
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
  parts: SessionParts & { readonly links: Links },
  requests: AsyncIterable<AttachRequest>,
  responses: MessageSink<AttachResponse>,
  context: CallContext,
): Promise<void> {
  parts.office.requireLead();
  let session: AgentSession | null = null;
  let closeReason = '';
  const ended = Promise.withResolvers<never>();
  const link: Link = {
    send: (message) => void responses.post({ message }),
    close: (reason) => {
      closeReason = reason;
      ended.reject(new FarmError('unavailable', reason));
    },
  };
  ended.promise.catch(() => undefined);
  try {
    const iterator = requests[Symbol.asyncIterator]();
    for (;;) {
      const next = await Promise.race([iterator.next(), ended.promise]);
      if (next.done) break;
      const { message } = next.value;
      if (!message) continue;
      if (session) {
        await session.handle(message);
        continue;
      }
      if (message.$case !== 'hello') throw new FarmError('invalid_argument', 'the first message must be Hello');
      const hello = message.value;
      if (hello.protocol !== PROTOCOL) {
        const hint = 'Run the agent and the coordinator from the same release.';
        throw new FarmError(
          'failed_precondition',
          `the agent speaks protocol ${hello.protocol}, this coordinator ${PROTOCOL}`,
          { hint },
        );
      }
      if (hello.nodeId === '' || hello.slots.length === 0) {
        throw new FarmError('invalid_argument', 'Hello must name the node and at least one slot');
      }
      session = new AgentSession(hello, parts, (m) => link.send(m));
      parts.links.open(hello.nodeId, link);
      await session.welcome(hello);
    }
  } finally {
    session?.close();
    if (session && parts.links.closed(session.nodeId, link)) {
      parts.nodes.disconnected(session.nodeId);
      parts.log.info({ node_id: session.nodeId, peer: context.peer, reason: closeReason }, 'node detached');
    }
  }
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

function artifactKey(job: JobState, header: ArtifactHeader): string {
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
