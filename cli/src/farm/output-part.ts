import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { diskError } from '@clipfarm/shared/disk-error';
import { renameDurable } from '@clipfarm/shared/durable-file';
import { checkOutput, partPath } from '../inputs/output-file.ts';

/** A download that grows beside its destination. */
export interface OutputPart {
  /** Bytes written since the last {@link restart}. */
  readonly received: number;
  write(data: Buffer): Promise<void>;
  /** Throws away what was written. */
  restart(): Promise<void>;
  /** SHA-256 (hex) of what was written; to be asked for once. */
  digest(): string;
}

/**
 * Lets `fill` write to `path`.part and gives the file its name once that is done. Whatever goes wrong, no half file stays
 * behind.
 *
 * @param force replaces a file that is there already.
 * @throws FarmError `invalid_argument` when the output exists by then, `resource_exhausted` when the disk is full; what
 *   `fill` throws.
 */
export async function writeOutput(
  path: string,
  force: boolean,
  fill: (part: OutputPart) => Promise<void>,
): Promise<void> {
  const temporary = partPath(path);
  try {
    // What an earlier, killed download left behind is of no use.
    await rm(temporary, { force: true });
    const file = await open(temporary, 'wx').catch((error: unknown) => {
      throw diskError(error, `write ${temporary}`);
    });
    try {
      await fill(partOf(file, path));
    } finally {
      await file.close();
    }
    // Somebody may have put a file there meanwhile.
    await checkOutput(path, force);
    await renameDurable(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

function partOf(file: FileHandle, path: string): OutputPart {
  let hash: Hash = createHash('sha256');
  let received = 0;
  const failed = (error: unknown): never => {
    throw diskError(error, `write ${path}`);
  };
  return {
    get received() {
      return received;
    },
    async write(data) {
      await file.write(data, 0, data.length, received).catch(failed);
      hash.update(data);
      received += data.length;
    },
    async restart() {
      await file.truncate(0).catch(failed);
      hash = createHash('sha256');
      received = 0;
    },
    digest: () => hash.digest('hex'),
  };
}
