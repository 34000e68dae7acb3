import { randomUUID } from 'node:crypto';
import type { Writable } from 'node:stream';
import type {
  handleBidiStreamingCall,
  handleClientStreamingCall,
  handleServerStreamingCall,
  handleUnaryCall,
  ServerReadableStream,
  StatusObject,
} from '@grpc/grpc-js';
import { FarmError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { statusOf } from './error-status.ts';
import { createSink, type MessageSink } from './sink.ts';

/** What a handler may know about its call. */
export interface CallContext {
  /** Full method name, for example `/clipfarm.v1.FarmService/GetJob`. */
  readonly method: string;
  /** Address of the client. */
  readonly peer: string;
  /** Aborted when the client cancels or is gone, when the deadline passes, and after the call ended. */
  readonly signal: AbortSignal;
  /** Ends the call from this side: the signal is aborted, and a streaming client is told the reason. */
  readonly abort: (reason: FarmError) => void;
}

/** Turns async functions into grpc-js handlers; see {@link rpcHandlers}. */
export interface RpcHandlers {
  /** One request, one response. */
  unary<Req, Res>(handler: (request: Req, context: CallContext) => Promise<Res> | Res): handleUnaryCall<Req, Res>;
  /** Many requests, one response. */
  clientStream<Req, Res>(
    handler: (requests: AsyncIterable<Req>, context: CallContext) => Promise<Res>,
  ): handleClientStreamingCall<Req, Res>;
  /** One request, many responses; the call ends when the handler returns. */
  serverStream<Req, Res>(
    handler: (request: Req, responses: MessageSink<Res>, context: CallContext) => Promise<void>,
  ): handleServerStreamingCall<Req, Res>;
  /** Many of both; the call ends when the handler returns. */
  bidi<Req, Res>(
    handler: (requests: AsyncIterable<Req>, responses: MessageSink<Res>, context: CallContext) => Promise<void>,
  ): handleBidiStreamingCall<Req, Res>;
}

/** The part of a server call that all four kinds share. */
interface ServerCall {
  readonly cancelled: boolean;
  getPath(): string;
  getPeer(): string;
  on(event: 'cancelled', listener: () => void): unknown;
}

type Outcome<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly status: StatusObject };

/**
 * Wrappers that let handlers throw: a FarmError becomes the gRPC status of its code with field and hint in trailing
 * metadata; anything else becomes `internal` without its text, and the log has the rest under the correlation id that
 * the client is told. Iterating over requests throws FarmError `unavailable` when the client is gone; nothing that a
 * client does makes an error that nobody catches. The normal end of the iteration does not prove that all was sent:
 * Node's HTTP/2 client closes its side before it resets a stream, so uploads carry their size and hash.
 */
export function rpcHandlers(logger: Logger): RpcHandlers {
  const outcomeOf = async <T>(call: ServerCall, handler: () => Promise<T>): Promise<Outcome<T>> => {
    try {
      return { ok: true, value: await handler() };
    } catch (error) {
      return { ok: false, status: statusOf(reported(error, call, logger)) };
    }
  };
  return {
    unary: (handler) => async (call, callback) => {
      const context = begin(call);
      const outcome = await outcomeOf(call, async () => handler(call.request, context));
      if (outcome.ok) callback(null, outcome.value);
      else callback(outcome.status);
    },
    clientStream: (handler) => async (call, callback) => {
      const context = begin(call);
      const outcome = await outcomeOf(call, () => handler(requestsOf(call, context.signal), context));
      if (outcome.ok) callback(null, outcome.value);
      else callback(outcome.status);
    },
    serverStream: (handler) => async (call) => {
      const context = begin(call);
      endStream(call, await outcomeOf(call, () => handler(call.request, createSink(call, context.abort), context)));
    },
    bidi: (handler) => async (call) => {
      const context = begin(call);
      const requests = requestsOf(call, context.signal);
      endStream(call, await outcomeOf(call, () => handler(requests, createSink(call, context.abort), context)));
    },
  };
}

function begin(call: ServerCall): CallContext {
  const controller = new AbortController();
  const abort = (reason: FarmError): void => controller.abort(reason);
  // grpc-js emits this at the end of every call, whatever ended it.
  call.on('cancelled', () => abort(new FarmError('unavailable', 'the client cancelled the call')));
  return { method: call.getPath(), peer: call.getPeer(), signal: controller.signal, abort };
}

/**
 * Requests in order. Node's own iterator is not used: it destroys the call when it is left early, after which no
 * status can be sent, and it throws ERR_STREAM_PREMATURE_CLOSE when the client cancels.
 */
async function* requestsOf<Req>(call: ServerReadableStream<Req, unknown>, signal: AbortSignal): AsyncGenerator<Req> {
  let wake: (() => void) | undefined;
  const notify = (): void => wake?.();
  for (const event of ['readable', 'end', 'close']) call.on(event, notify);
  signal.addEventListener('abort', notify);
  try {
    while (!call.readableEnded) {
      signal.throwIfAborted();
      const request: Req | null = call.read();
      if (request !== null) yield request;
      else if (!call.readableEnded) await new Promise<void>((resolve) => (wake = resolve));
    }
  } finally {
    for (const event of ['readable', 'end', 'close']) call.off(event, notify);
    signal.removeEventListener('abort', notify);
  }
}

/** Ends a streaming response. With an error, grpc-js clients may drop messages that they have not read yet. */
function endStream(call: Writable & ServerCall, outcome: Outcome<void>): void {
  if (call.cancelled) return;
  if (outcome.ok) call.end();
  // This is how grpc-js wants to be told the status of a stream; it ends the call by itself.
  else call.emit('error', outcome.status);
}

/** The error that the client is told; internal ones are logged in full and told by their correlation id. */
function reported(error: unknown, call: ServerCall, logger: Logger): FarmError {
  const method = call.getPath();
  if (call.cancelled || (error instanceof FarmError && error.code !== 'internal')) {
    logger.debug({ err: error, method, peer: call.getPeer(), cancelled: call.cancelled }, 'call refused');
    return FarmError.from(error);
  }
  const correlationId = randomUUID();
  logger.error({ err: error, method, peer: call.getPeer(), correlation_id: correlationId }, 'call failed');
  // A FarmError's text is written for users; any other text may hold paths, queries or secrets.
  const text = error instanceof FarmError ? error.message : 'internal error';
  return new FarmError('internal', `${text} (correlation id ${correlationId})`, {
    ...(error instanceof FarmError && error.field !== undefined ? { field: error.field } : {}),
    hint: (error instanceof FarmError ? error.hint : undefined) ?? "The coordinator's log says more under this id.",
    cause: error,
  });
}
