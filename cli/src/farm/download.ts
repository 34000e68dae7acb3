import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { diskError } from '@clipfarm/shared/disk-error';
import { renameDurable } from '@clipfarm/shared/durable-file';
import { FarmError } from '@clipfarm/shared/errors';
import type { JobResult } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { responsesOf } from '@clipfarm/shared/rpc/client-call';
import { checkOutput, partPath } from '../inputs/output-file.ts';
import type { Connection } from './connection.ts';
import { retry, shortOutage } from './retry.ts';

/** What to download, and where to. */
export interface DownloadOptions {
  readonly jobId: string;
  /** Promised size and SHA-256. */
  readonly result: JobResult;
  readonly path: string;
  /** Replaces a file that is there already. */
  readonly force: boolean;
  /** Told after every piece, in bytes. */
  readonly onProgress: (received: number, total: number) => void;
  /** Told when the line breaks; the download goes on where it stopped. */
  readonly onOutage: (error: FarmError, delayMillis: number) => void;
}

interface Part {
  readonly file: FileHandle;
  readonly hash: Hash;
  received: number;
}

/**
 * Downloads a finished video to `path`.part, compares its SHA-256 and size with what the coordinator promised, and only
 * then gives it its name. Whatever goes wrong, no half file stays behind.
 *
 * @throws FarmError `internal` when the content is not the promised one, `resource_exhausted` when the disk is full.
 */
export async function downloadResult(farm: Connection, options: DownloadOptions): Promise<void> {
  const temporary = partPath(options.path);
  try {
    const part: Part = { file: await openPart(temporary), hash: createHash('sha256'), received: 0 };
    try {
      await retry(() => receive(farm, options, part), {
        ...shortOutage,
        signal: farm.signal,
        onRetry: options.onOutage,
      });
    } finally {
      await part.file.close();
    }
    compare(options.result, part.received, part.hash.digest('hex'));
    // Somebody may have put a file there while the job was rendered.
    await checkOutput(options.path, options.force);
    await renameDurable(temporary, options.path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

async function receive(farm: Connection, options: DownloadOptions, part: Part): Promise<void> {
  const { result } = options;
  const call = farm.client.downloadResult({ jobId: options.jobId, offset: part.received });
  const responses = responsesOf(call);
  const cancel = () => call.cancel();
  farm.signal.addEventListener('abort', cancel, { once: true });
  if (farm.signal.aborted) cancel();
  try {
    for await (const { data } of responses) {
      if (part.received + data.length > result.bytes) break;
      await write(part.file, data, options.path);
      part.hash.update(data);
      part.received += data.length;
      options.onProgress(part.received, result.bytes);
    }
  } catch (error) {
    throw farm.explain(error);
  } finally {
    farm.signal.removeEventListener('abort', cancel);
  }
}

function compare(result: JobResult, received: number, sha256: string): void {
  if (received === result.bytes && sha256 === result.sha256) return;
  throw new FarmError(
    'internal',
    `the download has ${received} bytes with SHA-256 ${sha256}; promised were ${result.bytes} bytes with ${result.sha256}`,
    { hint: 'Download it again; if that fails too, the disk of the coordinator needs a look.' },
  );
}

async function openPart(path: string): Promise<FileHandle> {
  // What an earlier, killed download left behind is of no use.
  await rm(path, { force: true });
  try {
    return await open(path, 'wx');
  } catch (error) {
    throw diskError(error, `write ${path}`);
  }
}

async function write(file: FileHandle, data: Buffer, path: string): Promise<void> {
  try {
    await file.writeFile(data);
  } catch (error) {
    throw diskError(error, `write ${path}`);
  }
}
