import { readdir, readFile } from 'node:fs/promises';
import { runTool } from '@clipfarm/shared/process';

const NVIDIA_SMI_TIMEOUT_MS = 10_000;
const MIB = 2 ** 20;

/** A process on a GPU, as the driver accounts for it. */
export interface GpuUser {
  readonly gpu: string;
  readonly pid: number;
  /** Its own of everything: tensors, what an allocator keeps in reserve, the driver's context. */
  readonly bytes: number;
}

/**
 * Bytes that the processes of a group take on the most loaded GPU, as the driver accounts for them: other programs on the
 * card are left out. Null where the driver lists none of them: it has none on a GPU, or can't tell, as in a container
 * whose process ids are not the host's, and where nvidia-smi is missing.
 *
 * @param group id of the process group
 */
export async function groupGpuBytes(group: number): Promise<number | null> {
  const query = ['--query-compute-apps=gpu_uuid,pid,used_memory', '--format=csv,noheader,nounits'];
  try {
    const { stdout } = await runTool('nvidia-smi', query, { timeoutMs: NVIDIA_SMI_TIMEOUT_MS });
    const users = parseGpuUsers(stdout.toString('utf8'));
    // In this order: what is on a GPU is in the group by then.
    return users.length === 0 ? null : mostLoaded(users, new Set(await groupMembers(group)));
  } catch {
    return null;
  }
}

/** Lines of `gpu_uuid, pid, used_memory` in MiB; a line whose memory the driver does not tell is left out. */
export function parseGpuUsers(csv: string): readonly GpuUser[] {
  return csv.split(/\r?\n/).flatMap((line) => {
    const [gpu = '', pid = '', mib = ''] = line.split(',').map((value) => value.trim());
    const known = gpu !== '' && /^\d{1,10}$/.test(pid) && /^\d{1,10}$/.test(mib);
    return known ? [{ gpu, pid: Number(pid), bytes: Number(mib) * MIB }] : [];
  });
}

/** Most bytes that these processes take together on one GPU; null where none of them is listed. */
export function mostLoaded(users: readonly GpuUser[], pids: ReadonlySet<number>): number | null {
  const byGpu = new Map<string, number>();
  for (const { gpu, pid, bytes } of users) {
    if (pids.has(pid)) byGpu.set(gpu, (byGpu.get(gpu) ?? 0) + bytes);
  }
  return byGpu.size === 0 ? null : Math.max(...byGpu.values());
}

/** Process ids of a group; empty where there is no /proc. */
export async function groupMembers(group: number): Promise<readonly number[]> {
  const names = (await readdir('/proc').catch(() => [])).filter((name) => /^\d+$/.test(name));
  const groups = await Promise.all(names.map(groupOf));
  return names.flatMap((name, i) => (groups[i] === group ? [Number(name)] : []));
}

async function groupOf(pid: string): Promise<number | null> {
  try {
    const line = await readFile(`/proc/${pid}/stat`, 'latin1');
    // The name in parentheses may hold anything; after it come state, parent and group.
    return Number(line.slice(line.lastIndexOf(')') + 2).split(' ')[2]);
  } catch {
    // It ended meanwhile.
    return null;
  }
}
