import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { diskError } from '@clipfarm/shared/disk-error';
import { writeFileDurable } from '@clipfarm/shared/durable-file';

/**
 * The coordinator's name for itself, kept with its data and made on first use.
 *
 * @throws FarmError `resource_exhausted` when the disk is full, `internal` when it refuses otherwise
 */
export async function ownIdentity(dataDir: string): Promise<string> {
  const path = join(dataDir, 'coordinator-id');
  const known = await readFile(path, 'utf8').catch(() => '');
  if (/^[0-9a-f-]{36}$/.test(known)) return known;
  const id = randomUUID();
  await writeFileDurable(path, id).catch((error: unknown) => {
    throw diskError(error, `write ${path}`);
  });
  return id;
}
