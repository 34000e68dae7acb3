import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { runTool } from '@clipfarm/shared/process';
import { groupGpuBytes, groupMembers } from '../../src/gpu/process-memory.ts';

const NVIDIA_SMI_TIMEOUT_MS = 10_000;
const MIB = 2 ** 20;

/** Bytes per page of /proc/PID/statm; Linux on x86-64 and on most ARM hosts with NVIDIA GPUs. */
const PAGE_BYTES = 4096;

/** What was measured of the GPUs while the script ran. */
export interface GpuPeak {
  /** Most bytes on the most loaded GPU; 0 where nothing was found out. */
  readonly bytes: number;
  /**
   * `processes`: what the driver accounts to the script's own processes. `cards`: the driver listed none of them, and this
   * is what came to be in use on the whole card since before the start, whoever uses it.
   */
  readonly basis: 'processes' | 'cards';
  /** Bytes that were in use on the most loaded card before the start. */
  readonly beforeBytes: number;
}

/** Measures the GPU memory of a process group, from before its start. */
export class GpuMeter {
  readonly #devices: string | undefined;
  readonly #before: readonly number[];
  #processes = 0;
  #cards = 0;

  private constructor(devices: string | undefined, before: readonly number[]) {
    this.#devices = devices;
    this.#before = before;
  }

  /**
   * Notes what is in use already.
   *
   * @param devices value of CUDA_VISIBLE_DEVICES
   */
  static async start(devices: string | undefined): Promise<GpuMeter> {
    return new GpuMeter(devices, await usedOnCards(devices));
  }

  /** Takes one look at the group. */
  async look(group: number): Promise<void> {
    const [own, cards] = await Promise.all([groupGpuBytes(group), usedOnCards(this.#devices)]);
    this.#processes = Math.max(this.#processes, own ?? 0);
    this.#cards = Math.max(this.#cards, ...cards.map((bytes, i) => bytes - (this.#before[i] ?? 0)));
  }

  /** The most of all looks. */
  get peak(): GpuPeak {
    const beforeBytes = Math.max(0, ...this.#before);
    if (this.#processes > 0) return { bytes: this.#processes, basis: 'processes', beforeBytes };
    return { bytes: this.#cards, basis: 'cards', beforeBytes };
  }
}

/** Bytes in use on each card, whoever uses them; empty where nvidia-smi is missing or knows none of them. */
async function usedOnCards(devices: string | undefined): Promise<readonly number[]> {
  if (devices === undefined || devices === '') return [];
  const query = ['--query-gpu=memory.used', '--format=csv,noheader,nounits', `--id=${devices}`];
  try {
    const { stdout } = await runTool('nvidia-smi', query, { timeoutMs: NVIDIA_SMI_TIMEOUT_MS });
    const used = stdout.toString('utf8').trim().split('\n').map(Number);
    return used.map((mib) => (Number.isFinite(mib) ? mib * MIB : 0));
  } catch {
    return [];
  }
}

/** Resident memory of all processes of a group, in bytes; shared pages count for each. 0 where there is no /proc. */
export async function groupMemoryBytes(group: number): Promise<number> {
  const sizes = await Promise.all((await groupMembers(group)).map(residentBytes));
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

async function residentBytes(pid: number): Promise<number> {
  try {
    const statm = await readFile(`/proc/${pid}/statm`, 'latin1');
    return Number(statm.split(' ')[1]) * PAGE_BYTES;
  } catch {
    // It ended meanwhile.
    return 0;
  }
}
