import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { runTool } from '@clipfarm/shared/process';

const NVIDIA_SMI_TIMEOUT_MS = 10_000;
const MIB = 2 ** 20;

/** Bytes per page of /proc/PID/statm; Linux on x86-64 and on most ARM hosts with NVIDIA GPUs. */
const PAGE_BYTES = 4096;

/**
 * Memory in use on the most loaded of some GPUs, in bytes, whoever uses it: upstream's script has them to itself.
 * 0 where nvidia-smi is missing or knows none of them.
 *
 * @param devices value of CUDA_VISIBLE_DEVICES
 */
export async function gpuMemoryBytes(devices: string | undefined): Promise<number> {
  if (devices === undefined || devices === '') return 0;
  const query = ['--query-gpu=memory.used', '--format=csv,noheader,nounits', `--id=${devices}`];
  try {
    const { stdout } = await runTool('nvidia-smi', query, { timeoutMs: NVIDIA_SMI_TIMEOUT_MS });
    const used = stdout.toString('utf8').trim().split('\n').map(Number);
    return Math.max(0, ...used.filter(Number.isFinite)) * MIB;
  } catch {
    return 0;
  }
}

/** Resident memory of all processes of a group, in bytes; shared pages count for each. 0 where there is no /proc. */
export async function groupMemoryBytes(group: number): Promise<number> {
  const names = await readdir('/proc').catch(() => []);
  const sizes = await Promise.all(names.filter((name) => /^\d+$/.test(name)).map((pid) => memberBytes(pid, group)));
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}

/** Bytes of the files directly in a folder. */
export async function folderBytes(folder: string): Promise<number> {
  const names = await readdir(folder);
  const sizes = names.map((name) =>
    stat(join(folder, name)).then(
      (file) => file.size,
      () => 0,
    ),
  );
  return (await Promise.all(sizes)).reduce((sum, bytes) => sum + bytes, 0);
}

async function memberBytes(pid: string, group: number): Promise<number> {
  try {
    const line = await readFile(`/proc/${pid}/stat`, 'latin1');
    // The name in parentheses may hold anything; after it come state, parent and group.
    const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
    if (Number(fields[2]) !== group) return 0;
    const statm = await readFile(`/proc/${pid}/statm`, 'latin1');
    return Number(statm.split(' ')[1]) * PAGE_BYTES;
  } catch {
    // It ended meanwhile.
    return 0;
  }
}
