import { open } from 'node:fs/promises';
import { RunnerFailure } from '../common/runner-failure.ts';
import type { SyntheticOptions } from './options.ts';

/**
 * Acts out the fault that the options have for a clip, if any: throws a {@link RunnerFailure}, never resolves (after
 * calling `onHang`), or kills this process as the kernel does when memory runs out.
 */
export async function actFault(options: SyntheticOptions, clip: number, onHang: () => void): Promise<void> {
  const fault = options.faults.find((candidate) => candidate.clip === clip);
  if (fault === undefined || !(await isDue(options.failOnceFile))) return;
  if (fault.kind === 'fail') {
    throw new RunnerFailure(fault.errorClass ?? 'crash', `synthetic ${fault.errorClass} at clip ${clip}`);
  }
  if (fault.kind === 'crash') process.kill(process.pid, 'SIGKILL');
  onHang();
  await new Promise(() => {});
}

async function isDue(failOnceFile: string | undefined): Promise<boolean> {
  if (failOnceFile === undefined) return true;
  try {
    // Exclusive creation also decides between two runners that get here at the same time.
    await (await open(failOnceFile, 'wx')).close();
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw error;
  }
}
