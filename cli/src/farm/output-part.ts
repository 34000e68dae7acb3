import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, link, open, rm, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { diskError, isSystemError } from '@clipfarm/shared/disk-error';
import { renameDurable, syncPath } from '@clipfarm/shared/durable-file';
import { FarmError } from '@clipfarm/shared/errors';
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
 * @throws FarmError `invalid_argument` when the output exists by then, `conflict` when another download to the same output
 *   has taken its place, `resource_exhausted` when the disk is full; what `fill` throws.
 */
export async function writeOutput(
  path: string,
  force: boolean,
  fill: (part: OutputPart) => Promise<void>,
): Promise<void> {
  const temporary = partPath(path);
  // What an earlier, killed download left behind is of no use.
  await rm(temporary, { force: true });
  const file = await open(temporary, 'wx').catch((error: unknown) => {
    throw diskError(error, `write ${temporary}`);
  });
  const made = await file.stat();
  const isOwn = async () => {
    const there = await stat(temporary).catch(() => null);
    return there?.ino === made.ino && there.dev === made.dev;
  };
  try {
    try {
      await fill(partOf(file, path));
      await file.sync().catch((error: unknown) => {
        throw diskError(error, `write ${path}`);
      });
    } finally {
      await file.close();
    }
    // Another download to the same output has removed this file and made its own, which may be half done.
    if (!(await isOwn())) {
      const message = `output: "${path}" is being written by another download`;
      throw new FarmError('conflict', message, { field: 'output' });
    }
    // Somebody may have put a file there meanwhile.
    await checkOutput(path, force);
    if (!force && (await claim(temporary, path))) {
      await rm(temporary);
      await syncPath(dirname(resolve(path)));
    } else await renameDurable(temporary, path);
  } catch (error) {
    if (await isOwn()) await rm(temporary, { force: true });
    throw error;
  }
}

/**
 * Gives a file its final name as well, unless that is taken: a renaming alone would replace what is there.
 *
 * @returns false on a file system that has no second names; then what was checked a moment ago must do.
 */
async function claim(temporary: string, path: string): Promise<boolean> {
  try {
    await link(temporary, path);
    return true;
  } catch (error) {
    if (isSystemError(error, 'EEXIST')) await checkOutput(path, false);
    return false;
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
      // A disk that is about to be full takes a part of it and says nothing.
      for (let done = 0; done < data.length; ) {
        const { bytesWritten } = await file.write(data, done, data.length - done, received + done).catch(failed);
        done += bytesWritten;
      }
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
