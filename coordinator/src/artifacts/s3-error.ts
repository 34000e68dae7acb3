import { diskError } from '@clipfarm/shared/disk-error';
import { FarmError } from '@clipfarm/shared/errors';

/** Longest part of a server's own words that goes into a message. */
const MAX_WORDS = 300;

/** System errors and names that mean that nobody answered, or stopped doing so. */
const silence =
  /^(E(CONNREFUSED|CONNRESET|CONNABORTED|PIPE|TIMEDOUT|HOSTUNREACH|NETUNREACH|NOTFOUND|AI_AGAIN|PROTO)|TimeoutError|AbortError|RequestTimeout|RequestTimeoutException)$/;

const rights = [
  'Check the credentials, the clock of this host, and that they allow s3:GetObject, s3:PutObject, s3:DeleteObject,',
  's3:AbortMultipartUpload on the objects and s3:ListBucket on the bucket.',
].join(' ');

/**
 * A failed request as FarmError. The client's error is not kept as the cause: it carries the key id and the signed
 * request, whose headers can hold a session token.
 *
 * - `unavailable`: nobody answered, or the server failed or asked to slow down; the client has tried several times.
 * - `failed_precondition`: it refused; the hint says what to check. Also a missing bucket, another region, no
 *   credentials, and what the server doesn't implement.
 * - `resource_exhausted`: the server is full. `not_found`: there is no such object. `invalid_argument`: the content is
 *   not the announced one.
 * - what failed on the disk of this host, as {@link diskError} has it; everything else is `internal`.
 *
 * @param action what was being done, for example "store inputs/ab12".
 */
export function s3Error(error: unknown, action: string, bucket: string): FarmError {
  if (error instanceof FarmError) return error;
  const { name, code, status, words } = parts(error);
  const answer = `${name}${status === undefined ? '' : ` (HTTP ${status})`}: ${words}`;
  const make = (kind: FarmError['code'], detail: string, hint?: string) =>
    new FarmError(kind, `cannot ${action}: ${detail}`, hint === undefined ? {} : { hint });
  if (name === 'CredentialsProviderError') {
    const hint = 'Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a shared profile, or a role of this host.';
    return make('failed_precondition', `no credentials for bucket ${bucket}: ${words}`, hint);
  }
  if (silence.test(name) || silence.test(code)) return make('unavailable', `the S3 server does not answer: ${answer}`);
  if (status === undefined) return diskError(error, action);
  if (name === 'NoSuchBucket') {
    return make('failed_precondition', `there is no bucket ${bucket}`, 'Create it, or correct its name or endpoint.');
  }
  if (status === 301 || status === 307 || name === 'AuthorizationHeaderMalformed') {
    return make('failed_precondition', `bucket ${bucket} is in another region: ${answer}`, 'Correct the region.');
  }
  if (status === 507 || /StorageFull|QuotaExceeded|InsufficientCapacity/.test(name)) {
    return make('resource_exhausted', `the S3 server is full: ${answer}`, 'Free space there or raise the quota.');
  }
  // A refused HEAD has no reason with it; of this store's requests only a bad token can get that answer.
  const silent = status === 400 && /^(Unknown|BadRequest|400)$/.test(name);
  if (status === 401 || status === 403 || silent || /^(Expired|Invalid)Token$/.test(name)) {
    return make('failed_precondition', `S3 refuses: ${answer}`, rights);
  }
  if (name === 'BadDigest' || name === 'XAmzContentChecksumMismatch') {
    return new FarmError('invalid_argument', `sha256: cannot ${action}: the content is not the announced one`, {
      field: 'sha256',
    });
  }
  if (status === 404) return new FarmError('not_found', `cannot ${action}: no such object`, { field: 'key' });
  if (status === 501) {
    const hint = 'Use a server that has conditional writes (If-None-Match) and multipart uploads.';
    return make('failed_precondition', `the S3 server lacks what is needed: ${answer}`, hint);
  }
  if (status >= 500 || status === 429) return make('unavailable', `the S3 server fails: ${answer}`);
  return make('internal', `S3 answered ${answer}`);
}

/** HTTP status of a failed request; undefined when there was no answer. */
export function statusOf(error: unknown): number | undefined {
  return parts(error).status;
}

/**
 * Whether what failed may have been done all the same: its answer was lost, or a gateway gave it up, or, for an upload in
 * parts, it is its repetition that failed: there is no upload any more once its parts are joined.
 */
export function mayBeDone(error: unknown): boolean {
  const { name, code, status = 0 } = parts(error);
  return silence.test(name) || silence.test(code) || status >= 500 || name === 'NoSuchUpload';
}

/** What the server calls its refusal, for example `NoSuchKey`. */
export function nameOf(error: unknown): string {
  return parts(error).name;
}

function parts(error: unknown) {
  if (!(error instanceof Error)) return { name: 'Error', code: '', status: undefined, words: String(error) };
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  const metadata: unknown = '$metadata' in error ? error.$metadata : undefined;
  const found = typeof metadata === 'object' && metadata !== null && 'httpStatusCode' in metadata;
  const status = found && typeof metadata.httpStatusCode === 'number' ? metadata.httpStatusCode : undefined;
  const words = /^(UnknownError)?$/.test(error.message) ? 'no reason given' : error.message.slice(0, MAX_WORDS);
  return { name: error.name, code, status, words };
}
