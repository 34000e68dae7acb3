import { logVerbosity, Server, setLogVerbosity } from '@grpc/grpc-js';
import type { Clock } from '../clock.ts';
import { FarmError } from '../errors.ts';
import type { Secret } from '../secret.ts';
import { bearerAuth } from './auth.ts';
import type { ServerAccess } from './credentials.ts';
import { serverChannelOptions } from './limits.ts';

/** A gRPC server with the farm's limits and keepalive; with a token, every call except health must carry it. */
export function createFarmServer(options: { readonly token: Secret | undefined }): Server {
  // grpc-js also prints to the console what it reports to its callers.
  setLogVerbosity(logVerbosity.NONE);
  const interceptors = options.token === undefined ? [] : [bearerAuth(options.token)];
  return new Server({ ...serverChannelOptions, interceptors });
}

/**
 * Starts to listen.
 *
 * @returns the port, which matters when the address asked for port 0.
 * @throws FarmError `failed_precondition` when the address can't be bound, for example because it is in use.
 */
export function listen(server: Server, access: ServerAccess): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(access.address, access.credentials, (error, port) => {
      if (error === null) resolve(port);
      else reject(cannotListen('--listen', access.address, error));
    });
  });
}

/**
 * The error for a socket that could not be bound.
 *
 * @param field flag or setting that holds the address.
 */
export function cannotListen(field: string, address: string, cause: Error): FarmError {
  const inUse = cause.message.includes('EADDRINUSE');
  const hint = inUse
    ? 'Another process listens there: stop it, or choose another port (0 lets the system choose).'
    : 'Give an address of this machine and a port that this user may use.';
  const reason = inUse ? 'the port is in use' : cause.message;
  return new FarmError('failed_precondition', `${field}: cannot listen on ${address}: ${reason}`, {
    field,
    hint,
    cause,
  });
}

/**
 * Stops taking calls, lets running ones end, and cuts off those that remain after the grace period. Streams that the
 * server itself keeps open should be ended first, otherwise the whole period passes.
 *
 * @param graceMs milliseconds.
 */
export async function closeServer(server: Server, graceMs: number, clock: Clock): Promise<void> {
  const timer = clock.setTimeout(() => server.forceShutdown(), graceMs);
  await new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
  timer.cancel();
}
