import { Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { FarmError } from '../errors.ts';
import { errorTrailers } from './error-status.ts';

/**
 * What a failed call threw, as FarmError: code, field, hint and leader are those that the server threw. An error of the
 * transport gets the code that its status stands for and a hint when nobody answered.
 */
export function farmErrorOf(error: unknown): FarmError {
  const general = FarmError.from(error);
  if (!hasMetadata(error)) return general;
  const field = trailer(error.metadata, errorTrailers.field);
  const fromFarm = trailer(error.metadata, errorTrailers.code) !== undefined;
  const hint = fromFarm ? trailer(error.metadata, errorTrailers.hint) : transportHint(error.code);
  const leader = trailer(error.metadata, errorTrailers.leader);
  return new FarmError(general.code, general.message, {
    ...(field === undefined ? {} : { field }),
    ...(hint === undefined ? {} : { hint }),
    ...(leader === undefined ? {} : { leader }),
    cause: error,
  });
}

/** What grpc-js says of a connection that it could not make, less its own words around that and the time of the attempt. */
export function connectionFault(message: string): string {
  const said = /Last error: (?:Error: )?(.*?)\.?\s*(?:Resolution note:.*)?$/s.exec(message)?.[1] ?? message;
  // Of OpenSSL's line only the reason is for people: 40CD…:error:0A00010B:SSL routines:function:reason:file:line:
  const fromTls = /error:[0-9A-F]+:SSL routines:[^:]*:([^:]+):/.exec(said)?.[1];
  return fromTls === undefined
    ? said.replace(/^Error /, '').replace(/ \(\d{4}-\d\d-\d\dT[\d:.]+Z\)$/, '')
    : `TLS: ${fromTls}`;
}

function hasMetadata(error: unknown): error is ServiceError {
  return error instanceof Error && 'metadata' in error && error.metadata instanceof Metadata;
}

function transportHint(code: status): string | undefined {
  if (code !== status.UNAVAILABLE) return undefined;
  return 'Check that the coordinator runs, that the address is right, and that both sides use TLS or neither does.';
}

function trailer(metadata: Metadata, key: string): string | undefined {
  const value = metadata.get(key)[0];
  if (typeof value !== 'string') return undefined;
  try {
    return decodeURI(value);
  } catch {
    return value;
  }
}
