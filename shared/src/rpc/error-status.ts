import { Metadata, type StatusObject } from '@grpc/grpc-js';
import { type FarmError, grpcStatusOf } from '../errors.ts';

/** Trailing metadata that carries what a gRPC status has no place for; values are percent-encoded UTF-8. */
export const errorTrailers = {
  /** Code of the FarmError; its presence tells that the farm itself answered, not the transport. */
  code: 'clipfarm-code',
  /** Offending field. */
  field: 'clipfarm-field',
  /** What to do about it. */
  hint: 'clipfarm-hint',
  /** `host:port` of the coordinator to ask instead. */
  leader: 'clipfarm-leader',
} as const;

/** Characters of a text that are sent; all headers together must stay below HTTP/2's usual limit of 64 KiB. */
const MAX_TEXT = 2000;

/** The gRPC status that stands for an error, with its field and hint in trailing metadata. */
export function statusOf(error: FarmError): StatusObject {
  const metadata = new Metadata();
  metadata.set(errorTrailers.code, error.code);
  if (error.field !== undefined) metadata.set(errorTrailers.field, encodeURI(bounded(error.field)));
  if (error.hint !== undefined) metadata.set(errorTrailers.hint, encodeURI(bounded(error.hint)));
  if (error.leader !== undefined) metadata.set(errorTrailers.leader, encodeURI(bounded(error.leader)));
  return { code: grpcStatusOf(error.code), details: bounded(error.message), metadata };
}

/** Well-formed too, because encodeURI (which grpc-js applies to details as well) throws on half a surrogate pair. */
function bounded(text: string): string {
  return text.slice(0, MAX_TEXT).toWellFormed();
}
