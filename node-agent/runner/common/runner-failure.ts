import { FarmError } from '@clipfarm/shared/errors';
import type { RunnerErrorClass } from '../../src/runner/protocol.ts';

/** A failure that a runner reports with its class. */
export class RunnerFailure extends Error {
  override readonly name = 'RunnerFailure';
  readonly errorClass: RunnerErrorClass;
  /** Evidence, such as `neededBytes`. */
  readonly numbers: Readonly<Record<string, number>>;

  constructor(errorClass: RunnerErrorClass, message: string, numbers: Readonly<Record<string, number>> = {}) {
    super(message);
    this.errorClass = errorClass;
    this.numbers = numbers;
  }

  /** Any thrown value as a failure: what the request got wrong, what the host lacks, or a crash. */
  static from(error: unknown): RunnerFailure {
    if (error instanceof RunnerFailure) return error;
    const { code, message } = FarmError.from(error);
    if (code === 'invalid_argument') return new RunnerFailure('bad_input', message);
    if (code === 'failed_precondition' || code === 'resource_exhausted') {
      return new RunnerFailure('environment', message);
    }
    return new RunnerFailure('crash', message);
  }
}
