import { status as grpcStatus, type ServiceError } from '@grpc/grpc-js';

/** Every kind of refusal or fault that the farm reports, with its gRPC status and CLI exit code. */
const codes = {
  /** The request is wrong and stays wrong. */
  invalid_argument: { grpc: grpcStatus.INVALID_ARGUMENT, exit: 2 },
  /** No such job, node or artifact. */
  not_found: { grpc: grpcStatus.NOT_FOUND, exit: 5 },
  /** It exists with other content. */
  conflict: { grpc: grpcStatus.ALREADY_EXISTS, exit: 7 },
  /** Right request, wrong state. */
  failed_precondition: { grpc: grpcStatus.FAILED_PRECONDITION, exit: 7 },
  /** No connection, or not the leader, or shutting down: try again. */
  unavailable: { grpc: grpcStatus.UNAVAILABLE, exit: 3 },
  /** It took too long. */
  timeout: { grpc: grpcStatus.DEADLINE_EXCEEDED, exit: 3 },
  /** No token, or a wrong one. */
  unauthenticated: { grpc: grpcStatus.UNAUTHENTICATED, exit: 4 },
  /** The token does not allow this. */
  permission_denied: { grpc: grpcStatus.PERMISSION_DENIED, exit: 4 },
  /** Disk, quota or size limit. */
  resource_exhausted: { grpc: grpcStatus.RESOURCE_EXHAUSTED, exit: 1 },
  /** The host lacks something, or a bug. */
  internal: { grpc: grpcStatus.INTERNAL, exit: 1 },
  /** The job ended without a video. */
  job_failed: { grpc: grpcStatus.ABORTED, exit: 6 },
} as const;

/** Kind of a {@link FarmError}. */
export type FarmErrorCode = keyof typeof codes;

/** What a {@link FarmError} carries beside its message. */
export interface FarmErrorOptions {
  /** Name of the offending field or flag, as the user spells it. */
  readonly field?: string;
  /** What the user can do about it. */
  readonly hint?: string;
  /** `host:port` of the coordinator to ask instead. */
  readonly leader?: string;
  readonly cause?: unknown;
}

/** The one error class of the product. Its message names the field, the value and what would be accepted. */
export class FarmError extends Error {
  override readonly name = 'FarmError';
  readonly code: FarmErrorCode;
  readonly field: string | undefined;
  readonly hint: string | undefined;
  readonly leader: string | undefined;

  constructor(code: FarmErrorCode, message: string, options: FarmErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.field = options.field;
    this.hint = options.hint;
    this.leader = options.leader;
  }

  /** Any thrown value as a FarmError; gRPC errors get the code that their status stands for. */
  static from(error: unknown): FarmError {
    if (error instanceof FarmError) return error;
    if (isServiceError(error)) {
      const code = codeOfStatus(error.code);
      return new FarmError(code, error.details || error.message, { cause: error });
    }
    const message = error instanceof Error ? error.message : String(error);
    return new FarmError('internal', message, { cause: error });
  }
}

/** gRPC status number of a code. */
export function grpcStatusOf(code: FarmErrorCode): grpcStatus {
  return codes[code].grpc;
}

/** Exit code of the CLI for a code: 1 failure, 2 usage, 3 unavailable, 4 auth, 5 not found, 6 job failed, 7 conflict. */
export function exitCodeOf(code: FarmErrorCode): number {
  return codes[code].exit;
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' && 'details' in error;
}

function codeOfStatus(status: number): FarmErrorCode {
  for (const [code, entry] of Object.entries(codes)) {
    if (entry.grpc === status) return code as FarmErrorCode;
  }
  return status === grpcStatus.CANCELLED ? 'unavailable' : 'internal';
}
