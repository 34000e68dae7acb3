import { FarmError } from '@clipfarm/shared/errors';
import type { Gpu } from '@clipfarm/shared/gen/clipfarm/v1/node';
import type { Logger } from '@clipfarm/shared/log';
import { runTool } from '@clipfarm/shared/process';

const QUERY = ['--query-gpu=index,name,memory.total', '--format=csv,noheader,nounits'] as const;

/** More GPUs than any host has; what is beyond is ignored. */
const MAX_GPUS = 64;

/**
 * GPUs of this host by `nvidia-smi`; none when the program is missing. A driver that fails is logged and also counts
 * as none, because a host without a working driver has no GPU to offer.
 */
export async function readGpus(log: Logger): Promise<readonly Gpu[]> {
  try {
    const { stdout } = await runTool('nvidia-smi', QUERY, { timeoutMs: 15_000, maxOutputBytes: 64 * 1024 });
    return parseGpus(stdout.toString('utf8'));
  } catch (error) {
    const failure = FarmError.from(error);
    if (failure.code !== 'failed_precondition') log.warn({ reason: failure.message }, 'the GPUs could not be read');
    return [];
  }
}

/**
 * GPUs from the CSV of `nvidia-smi`: index, name, total memory in MiB per line.
 *
 * @throws FarmError `internal` naming a line that is not understood.
 */
export function parseGpus(csv: string): readonly Gpu[] {
  const lines = csv.split(/\r?\n/).filter((line) => line.trim() !== '');
  return lines.slice(0, MAX_GPUS).map((line) => {
    const match = /^\s*(\d{1,3})\s*,\s*(.+?)\s*,\s*(\d{1,9})\s*$/.exec(line);
    if (match === null) throw new FarmError('internal', `nvidia-smi: line not understood: "${line.slice(0, 200)}"`);
    const [, index, name, mebibytes] = match;
    return { index: Number(index), name: (name ?? '').slice(0, 100), memoryBytes: Number(mebibytes) * 2 ** 20 };
  });
}
