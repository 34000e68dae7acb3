import { FarmError } from '@clipfarm/shared/errors';
import {
  type AgentServiceClient,
  type ArtifactHeader,
  ArtifactKind,
  type UploadArtifactRequest,
  type UploadArtifactResponse,
} from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import type { Logger } from '@clipfarm/shared/log';
import { callUnary, callUpload, responsesOf } from '@clipfarm/shared/rpc/client-call';
import { pipeFileToCall } from '@clipfarm/shared/rpc/stream';
import { fieldsOf } from './outbox.ts';
import { putPresigned } from './presigned-put.ts';
import type { SpoolEntry, SpoolManifest } from './spool.ts';

/** Longest upload in milliseconds; a chunk is a few MiB. */
const UPLOAD_MILLIS = 5 * 60_000;

/** Longest fetch in milliseconds; the audio of ten hours is about 1 GiB. */
const FETCH_MILLIS = 30 * 60_000;

/**
 * Uploads a file of the spool: straight to the store where the coordinator offers that, otherwise, and when the store
 * can't be reached from here, through the coordinator.
 *
 * @throws FarmError as the coordinator threw it; `invalid_argument` when the file is not what its manifest says;
 *   `internal` when something else was stored; `not_found` when the file is gone.
 */
export async function uploadArtifact(
  client: AgentServiceClient,
  entry: SpoolEntry,
  signal: AbortSignal,
  log: Logger,
): Promise<void> {
  const header = headerOf(entry.manifest);
  const { way } = await callUnary(client, client.prepareUpload, { header }, { signal });
  if (way?.$case === 'presigned') {
    try {
      await putPresigned(way.value, entry.path, AbortSignal.any([signal, AbortSignal.timeout(UPLOAD_MILLIS)]));
      return;
    } catch (error) {
      signal.throwIfAborted();
      const { code, message } = FarmError.from(error);
      if (code === 'invalid_argument') throw error;
      log.warn({ ...fieldsOf(entry), reason: message }, 'the file goes through the coordinator');
    }
  }
  await uploadThroughCoordinator(client, header, entry.path, signal);
}

async function uploadThroughCoordinator(
  client: AgentServiceClient,
  header: ArtifactHeader,
  path: string,
  signal: AbortSignal,
): Promise<void> {
  const response = await callUpload<UploadArtifactRequest, UploadArtifactResponse>(
    client,
    client.uploadArtifact,
    async (sink) => {
      await sink.send({ part: { $case: 'header', value: header } });
      await pipeFileToCall({ path, sink, signal, toMessage: (data) => ({ part: { $case: 'data', value: data } }) });
    },
    { timeoutMs: UPLOAD_MILLIS, signal },
  );
  if (response.sha256 === header.sha256) return;
  throw new FarmError('internal', `the coordinator stored ${response.sha256} instead of ${header.sha256}`);
}

function headerOf(manifest: SpoolManifest): ArtifactHeader {
  const { jobId, leaseId, sha256, bytes } = manifest;
  const kind = manifest.kind === 'chunk' ? ArtifactKind.ARTIFACT_KIND_CHUNK : ArtifactKind.ARTIFACT_KIND_ANCHOR;
  return { kind, jobId, leaseId, clip: manifest.kind === 'chunk' ? manifest.clip : 0, sha256, bytes };
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
