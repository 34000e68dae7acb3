import { FarmError } from '@clipfarm/shared/errors';
import type { PrefixHeader } from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
import type { JobResult } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { responsesOf } from '@clipfarm/shared/rpc/client-call';
import type { Connection } from './connection.ts';
import { type OutputPart, writeOutput } from './output-part.ts';
import { retry, shortOutage } from './retry.ts';

/** Which job's video, and where to. */
export interface DownloadOptions {
  readonly jobId: string;
  readonly path: string;
  /** Replaces a file that is there already. */
  readonly force: boolean;
  /** Told after every piece, in bytes. */
  readonly onProgress: (received: number, total: number) => void;
  /** Told when the line breaks; the download goes on where it stopped, or starts anew. */
  readonly onOutage: (error: FarmError, delayMillis: number) => void;
}

/** The beginning of a video, as it was saved. */
export interface SavedPrefix extends PrefixHeader {
  /** SHA-256 (hex) of the MP4. */
  readonly sha256: string;
}

/**
 * Downloads a finished video to `path`.part, compares its SHA-256 and size with what the coordinator promised, and only
 * then gives it its name. Whatever goes wrong, no half file stays behind.
 *
 * @param result promised size and SHA-256.
 * @throws FarmError `internal` when the content is not the promised one, `resource_exhausted` when the disk is full.
 */
export async function downloadResult(farm: Connection, result: JobResult, options: DownloadOptions): Promise<void> {
  await writeOutput(options.path, options.force, async (part) => {
    const receive = async () => {
      const call = farm.client.downloadResult({ jobId: options.jobId, offset: part.received });
      for await (const { data } of messagesOf(farm, call)) {
        if (part.received + data.length > result.bytes) break;
        await part.write(data);
        options.onProgress(part.received, result.bytes);
      }
    };
    await retry(receive, { ...shortOutage, signal: farm.signal, onRetry: options.onOutage });
    compare(result, part.received, part.digest());
  });
}

/**
 * Downloads the video of a job as far as it is there. A broken line starts it anew, because there is more of it by then.
 *
 * @throws FarmError `failed_precondition` when there is nothing yet; as {@link downloadResult} otherwise.
 */
export async function downloadPrefix(farm: Connection, options: DownloadOptions): Promise<SavedPrefix> {
  let saved: SavedPrefix | undefined;
  await writeOutput(options.path, options.force, async (part) => {
    const receive = () => receivePrefix(farm, part, options);
    saved = await retry(receive, { ...shortOutage, signal: farm.signal, onRetry: options.onOutage });
  });
  if (saved === undefined) throw new FarmError('internal', 'the download ended without a video');
  return saved;
}

async function receivePrefix(farm: Connection, part: OutputPart, options: DownloadOptions): Promise<SavedPrefix> {
  await part.restart();
  let header: PrefixHeader = { clips: 0, frames: 0, bytes: 0 };
  for await (const { part: message } of messagesOf(farm, farm.client.downloadPrefix({ jobId: options.jobId }))) {
    if (message?.$case === 'header') header = message.value;
    else if (message?.$case === 'data') {
      if (part.received + message.value.length > header.bytes) break;
      await part.write(message.value);
      options.onProgress(part.received, header.bytes);
    } else if (message?.$case === 'sha256') {
      const promised = { bytes: header.bytes, sha256: message.value };
      compare(promised, part.received, part.digest());
      return { ...header, sha256: promised.sha256 };
    }
  }
  throw new FarmError('internal', `the download has more than the ${header.bytes} bytes that were promised, or no end`);
}

/** The messages of a call, which ends when the user interrupts. */
async function* messagesOf<M>(
  farm: Connection,
  call: Parameters<typeof responsesOf<M>>[0] & { cancel(): void },
): AsyncGenerator<M> {
  const responses = responsesOf(call);
  const cancel = () => call.cancel();
  farm.signal.addEventListener('abort', cancel, { once: true });
  if (farm.signal.aborted) cancel();
  try {
    yield* responses;
  } catch (error) {
    throw farm.explain(error);
  } finally {
    farm.signal.removeEventListener('abort', cancel);
  }
}

function compare(promised: Pick<JobResult, 'bytes' | 'sha256'>, received: number, sha256: string): void {
  if (received === promised.bytes && sha256 === promised.sha256) return;
  throw new FarmError(
    'internal',
    `the download has ${received} bytes with SHA-256 ${sha256}; promised were ${promised.bytes} bytes with ${promised.sha256}`,
    { hint: 'Download it again; if that fails too, the disk of the coordinator needs a look.' },
  );
}
