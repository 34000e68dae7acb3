import { FarmError } from '@clipfarm/shared/errors';
import {
  type AgentServiceClient,
  ArtifactKind,
  type UploadArtifactRequest,
  type UploadArtifactResponse,
} from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { callUpload, responsesOf } from '@clipfarm/shared/rpc/client-call';
import { pipeFileToCall } from '@clipfarm/shared/rpc/stream';
import type { SpoolEntry } from './spool.ts';

/** Longest upload in milliseconds; a chunk is a few MiB. */
const UPLOAD_MILLIS = 5 * 60_000;

/** Longest fetch in milliseconds; the audio of ten hours is about 1 GiB. */
const FETCH_MILLIS = 30 * 60_000;

/**
 * Uploads a file of the spool.
 *
 * @throws FarmError as the coordinator threw it; `internal` when it stored something else; `not_found` when the file is
 *   gone.
 */
export async function uploadArtifact(
  client: AgentServiceClient,
  entry: SpoolEntry,
  signal: AbortSignal,
): Promise<void> {
  const { manifest, path } = entry;
  const { jobId, leaseId, sha256, bytes } = manifest;
  const kind = manifest.kind === 'chunk' ? ArtifactKind.ARTIFACT_KIND_CHUNK : ArtifactKind.ARTIFACT_KIND_ANCHOR;
  const clip = manifest.kind === 'chunk' ? manifest.clip : 0;
  const response = await callUpload<UploadArtifactRequest, UploadArtifactResponse>(
    client,
    client.uploadArtifact,
    async (sink) => {
      await sink.send({ part: { $case: 'header', value: { kind, jobId, leaseId, clip, sha256, bytes } } });
      await pipeFileToCall({ path, sink, signal, toMessage: (data) => ({ part: { $case: 'data', value: data } }) });
    },
    { timeoutMs: UPLOAD_MILLIS, signal },
  );
  if (response.sha256 === sha256) return;
  throw new FarmError('internal', `the coordinator stored ${response.sha256} instead of ${sha256}`);
}

/**
 * Content of an input, piece by piece.
 *
 * @throws FarmError as the coordinator threw it; the signal's reason when it aborts.
 */
export async function* fetchInput(
  client: AgentServiceClient,
  jobId: string,
  sha256: string,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  signal.throwIfAborted();
  const call = client.fetchInput({ jobId, sha256 }, { deadline: Date.now() + FETCH_MILLIS });
  const responses = responsesOf(call);
  const cancel = (): void => call.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  try {
    for await (const { data } of responses) yield data;
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', cancel);
  }
}
