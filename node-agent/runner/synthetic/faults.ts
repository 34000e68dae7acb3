import { open } from 'node:fs/promises';
import { FarmError } from '@clipfarm/shared/errors';
import type { RunnerErrorClass } from '../../src/runner/protocol.ts';
import type { SyntheticOptions } from './options.ts';

/** A failure that the runner reports with its class. */
export class RunnerFailure extends Error {
  override readonly name = 'RunnerFailure';
  readonly errorClass: RunnerErrorClass;

  constructor(errorClass: RunnerErrorClass, message: string) {
    super(message);
    this.errorClass = errorClass;
  }

  /** Any thrown value as a failure: what the request got wrong, what the host lacks, or a crash. */
  static from(error: unknown): RunnerFailure {
    if (error instanceof RunnerFailure) return error;
    const { code, message } = FarmError.from(error);
    if (code === 'invalid_argument') return new RunnerFailure('bad_input', message);
    if (code === 'failed_precondition') return new RunnerFailure('environment', message);
    return new RunnerFailure('crash', message);
  }
}

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
