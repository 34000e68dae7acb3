import { FarmError } from '@clipfarm/shared/errors';
import { ErrorCode, NatsError } from 'nats';

/** JetStream's error numbers that are told apart; see server/errors.json of nats-server. */
export const jetStreamError = {
  accountLimit: 10002,
  noSuitablePeers: 10005,
  consumerNotFound: 10014,
  insufficientResources: 10023,
  messageNotFound: 10037,
  notEnabledForAccount: 10039,
  storageLimit: 10047,
  streamNameInUse: 10058,
  streamNotFound: 10059,
  wrongLastSequence: 10071,
  replicasWithoutCluster: 10074,
  notEnabled: 10076,
  storeFailed: 10077,
  messageInProcess: 10158,
  subjectInProcess: 10164,
} as const;

const CHECK_SERVERS =
  'Check that the NATS servers run and that most of them see each other, with clipfarm doctor --journal nats://HOST[,HOST...]; it goes on by itself then.';

const outOfSpace: ReadonlySet<number | undefined> = new Set([
  jetStreamError.accountLimit,
  jetStreamError.insufficientResources,
  jetStreamError.storageLimit,
  jetStreamError.storeFailed,
]);

const temporaryCodes: ReadonlySet<string> = new Set([
  ErrorCode.Timeout,
  ErrorCode.NoResponders,
  ErrorCode.Disconnect,
  ErrorCode.ConnectionRefused,
  ErrorCode.ConnectionTimeout,
  ErrorCode.JetStream408RequestTimeout,
]);

/** A message is on its way through the servers, the same one or another to its subject, and what becomes of it is open. */
const inProcess: ReadonlySet<number | undefined> = new Set([
  jetStreamError.messageInProcess,
  jetStreamError.subjectInProcess,
]);

/** JetStream has no leader, or too much to do. */
const temporaryStatus: ReadonlySet<number> = new Set([503, 429]);

/** JetStream's own number of an error, if it has one. */
export function jetStreamCode(error: unknown): number | undefined {
  return error instanceof NatsError ? error.api_error?.err_code : undefined;
}

/** Whether the servers have no room for it: limits by number, and a full disk also by the system's words. */
function isOutOfSpace(error: unknown): boolean {
  if (!(error instanceof NatsError) || !error.api_error) return false;
  return outOfSpace.has(error.api_error.err_code) || /no space left on device/.test(error.api_error.description);
}

/** Whether trying again may help: no answer, no leader at the moment, connection lost. It may also have been done. */
export function isTemporary(error: unknown): boolean {
  if (!(error instanceof NatsError) || isOutOfSpace(error)) return false;
  if (inProcess.has(jetStreamCode(error))) return true;
  return error.api_error ? temporaryStatus.has(error.api_error.code) : temporaryCodes.has(error.code);
}

/**
 * Whether another writer was first, or is: the end of the subject is not the expected one, or a message to it is on its way,
 * which nats-server tells from 2.11 on.
 */
export function isOvertaken(error: unknown): boolean {
  const code = jetStreamCode(error);
  return code === jetStreamError.wrongLastSequence || code === jetStreamError.subjectInProcess;
}

/**
 * An error of the NATS client as FarmError that says what to do about it.
 *
 * @param doing what was attempted, for example `appending to stream jobs/1`.
 */
export function natsFarmError(error: unknown, doing: string): FarmError {
  if (error instanceof FarmError) return error;
  const told = error instanceof NatsError ? error.api_error?.description : undefined;
  const reason = told ?? (error instanceof Error ? error.message : String(error));
  if (!(error instanceof NatsError)) return new FarmError('internal', `${doing}: ${reason}`, { cause: error });
  if (isOutOfSpace(error)) {
    return new FarmError('resource_exhausted', `${doing}: NATS has no room: ${reason}`, {
      hint: 'Free disk space on the NATS servers or raise max_file_store and the account limits; from nats-server 2.14 on, restart those whose disk was full. Nothing acknowledged is lost.',
      cause: error,
    });
  }
  if (error.isPermissionError() || error.isAuthError()) {
    const { operation, subject } = error.permissionContext ?? {};
    const what = operation === undefined ? reason : `${operation} to ${subject} is not allowed`;
    return new FarmError('permission_denied', `${doing}: NATS refuses: ${what}`, {
      hint: 'Allow this user to publish and subscribe to $JS.API.>, $KV.>, _INBOX.> and the farm’s own subjects.',
      cause: error,
    });
  }
  if (isTemporary(error) || error.code === ErrorCode.ConnectionClosed) {
    const what = error.code === ErrorCode.Timeout ? 'no answer in time' : reason;
    return new FarmError('unavailable', `${doing}: NATS can’t be reached or has no leader: ${what}`, {
      hint: CHECK_SERVERS,
      cause: error,
    });
  }
  return new FarmError('internal', `${doing}: NATS: ${reason}`, { cause: error });
}

/** The error for a request that NATS left without an answer until its time was over. */
export function notAnswered(doing: string, cause: unknown): FarmError {
  const reason = cause === undefined ? 'there is no connection' : 'no answer in time';
  return new FarmError('unavailable', `${doing}: NATS: ${reason}`, {
    hint: CHECK_SERVERS,
    cause,
  });
}
