import {
  type CallOptions,
  type Client,
  type ClientReadableStream,
  type ClientUnaryCall,
  type ClientWritableStream,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js';
import { FarmError } from '../errors.ts';
import { farmErrorOf } from './client-error.ts';
import { createSink, type MessageSink } from './sink.ts';

type Callback<Res> = (error: ServiceError | null, response: Res) => void;

/** A generated client's method with one request and one response. */
export type UnaryMethod<Req, Res> = (
  request: Req,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: Callback<Res>,
) => ClientUnaryCall;

/** A generated client's method with many requests and one response. */
export type UploadMethod<Req, Res> = (
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: Callback<Res>,
) => ClientWritableStream<Req>;

/** How long a call may take and what cancels it. */
export interface CallLimits {
  /** Milliseconds until the call fails with `timeout`. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** Milliseconds that a unary call may take unless told otherwise. */
const UNARY_TIMEOUT_MS = 10_000;

/**
 * Calls a unary method: `await callUnary(client, client.getJob, { jobId })`.
 *
 * @throws FarmError as the server threw it, `timeout` after `timeoutMs` (default 10 s), `unavailable` when nobody
 * answers or the signal cancels.
 */
export function callUnary<Req, Res>(
  client: Client,
  method: UnaryMethod<Req, Res>,
  request: Req,
  limits: CallLimits = {},
): Promise<Res> {
  const options = optionsOf({ timeoutMs: UNARY_TIMEOUT_MS, ...limits });
  return settle(limits.signal, (done) => method.call(client, request, new Metadata(), options, done));
}

/**
 * Calls a method that takes a stream and gives one answer. `feed` sends the messages; when it returns, the sending
 * side is closed. An answer that comes early (a refusal, as a rule) ends the feeding.
 *
 * @throws FarmError as the server threw it; what `feed` throws, after the call was cancelled.
 */
export async function callUpload<Req, Res>(
  client: Client,
  method: UploadMethod<Req, Res>,
  feed: (sink: MessageSink<Req>) => Promise<void>,
  limits: CallLimits = {},
): Promise<Res> {
  let feeding: Promise<void> = Promise.resolve();
  const fault: { error?: unknown } = {};
  const answer = settle<Res>(limits.signal, (done) => {
    const call = method.call(client, new Metadata(), optionsOf(limits), done);
    const sink = createSink<Req>(call, () => call.cancel());
    feeding = feed(sink).then(
      () => void call.end(),
      (error: unknown) => {
        fault.error = error;
        call.cancel();
      },
    );
    return call;
  });
  try {
    return await answer;
  } catch (error) {
    // Cancelling because the feed failed makes the call fail too; the feed's own error is the one that says why. The
    // sink's `unavailable` is no reason: it follows from the call's end, and the answer has the cause.
    await feeding;
    const reason = fault.error;
    const fromSink = reason instanceof FarmError && reason.code === 'unavailable';
    throw reason === undefined || fromSink ? error : reason;
  }
}

/**
 * Responses of a streaming call, in order. Call it as soon as the call exists. Leaving the iteration cancels the call.
 * The iteration throws FarmError as the server threw it, `unavailable` when the connection breaks; it ends normally
 * only when the server said that all is sent.
 */
export function responsesOf<Res>(call: ClientReadableStream<Res>): AsyncIterable<Res> {
  // Listened to from the beginning: an error that comes before the first read would otherwise look like a normal end.
  let failure: unknown;
  call.on('error', (error: unknown) => {
    failure ??= error;
  });
  return iterate(call, () => failure);
}

async function* iterate<Res>(call: ClientReadableStream<Res>, failure: () => unknown): AsyncGenerator<Res> {
  try {
    for await (const response of call) yield response as Res;
  } catch (error) {
    throw farmErrorOf(failure() ?? error);
  } finally {
    call.cancel();
  }
  if (failure() !== undefined) throw farmErrorOf(failure());
}

/** Runs a call with one answer, cancels it when the signal says so, and turns its error into a FarmError. */
function settle<Res>(
  signal: AbortSignal | undefined,
  start: (done: Callback<Res>) => { cancel(): void },
): Promise<Res> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(cancelled(signal));
      return;
    }
    const call = start((error, response) => {
      signal?.removeEventListener('abort', cancel);
      if (error === null) resolve(response);
      else reject(signal?.aborted === true ? cancelled(signal) : farmErrorOf(error));
    });
    const cancel = (): void => call.cancel();
    signal?.addEventListener('abort', cancel, { once: true });
  });
}

function cancelled({ reason }: AbortSignal): FarmError {
  return reason instanceof FarmError
    ? reason
    : new FarmError('unavailable', 'the call was cancelled', { cause: reason });
}

function optionsOf(limits: CallLimits): Partial<CallOptions> {
  return limits.timeoutMs === undefined ? {} : { deadline: Date.now() + limits.timeoutMs };
}
