import { FarmError } from '@clipfarm/shared/errors';
import { FarmServiceClient } from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
import { callUnary, type UnaryMethod } from '@clipfarm/shared/rpc/client-call';
import { connectionFault } from '@clipfarm/shared/rpc/client-error';
import { type ClientChannel, clientChannel } from '@clipfarm/shared/rpc/credentials';

/** Where the coordinator is, and how to get in. Paths name files. */
export interface ConnectOptions {
  /** `host:port` of the coordinator; several with commas between them. */
  readonly address: string;
  readonly tokenPath: string | undefined;
  readonly caPath: string | undefined;
  readonly certPath: string | undefined;
  readonly keyPath: string | undefined;
  /** Allows plaintext to another machine. */
  readonly insecure: boolean;
  /** Cancels every call. */
  readonly signal: AbortSignal;
}

/** A connection to a coordinator. */
export interface Connection {
  /** Client of the coordinator that is asked now. */
  readonly client: FarmServiceClient;
  /** Cancels every call. */
  readonly signal: AbortSignal;
  /**
   * One request, one answer.
   *
   * @param timeoutMs milliseconds after which the call fails with `timeout`; 10 s unless given.
   * @throws FarmError as the coordinator threw it, or `unavailable` naming the address when nobody answers.
   */
  call<Req, Res>(method: UnaryMethod<Req, Res>, request: Req, timeoutMs?: number): Promise<Res>;
  /**
   * Anything that may be done twice: `attempt` gets the client of one coordinator after the other, until one does it.
   *
   * @throws FarmError as {@link call} does; where coordinators answer and nobody leads, that they do.
   */
  ask<Res>(attempt: (client: FarmServiceClient) => Promise<Res>): Promise<Res>;
  /**
   * The same error, saying what to do when nobody answers at all. Where it names the leader, or nobody answers, later
   * calls go to the next coordinator.
   */
  explain(error: unknown): FarmError;
  close(): void;
}

/**
 * Prepares a connection; nothing is dialled before the first call.
 *
 * @throws FarmError `invalid_argument` naming the flag whose address or file can't be used.
 */
export function connect(options: ConnectOptions): Connection {
  const addresses = options.address.split(',').map((address) => address.trim());
  const clients = new Map<string, FarmServiceClient>();
  const dial = (address: string): FarmServiceClient => {
    const known = clients.get(address);
    if (known) return known;
    const { address: target, credentials, options: channelOptions } = channelOf({ ...options, address });
    const client = new FarmServiceClient(target, credentials, channelOptions);
    clients.set(address, client);
    return client;
  };
  // All of them, so that a wrong one is told before anything is done.
  for (const address of addresses) dial(address);
  let current = addresses[0] ?? options.address;
  const explain = (thrown: unknown): FarmError => {
    const error = FarmError.from(thrown);
    const said = withHint(error, current);
    if (error.leader !== undefined) current = error.leader;
    else if (isSilence(said) || isDead(error))
      current = addresses[(addresses.indexOf(current) + 1) % addresses.length] ?? current;
    return said;
  };
  const ask = async <Res>(attempt: (client: FarmServiceClient) => Promise<Res>): Promise<Res> => {
    const silent = new Map<string, FarmError>();
    // What a coordinator answers says more than that another one does not.
    let refusal: FarmError | undefined;
    // Every coordinator once, and the leader that the last of them names.
    for (let left = addresses.length; ; left -= 1) {
      const asked = current;
      try {
        return await attempt(dial(asked));
      } catch (error) {
        const said = explain(error);
        if (isSilence(said)) silent.set(asked, said);
        else refusal = said;
        if (current !== asked && left > 0) continue;
        if (refusal === undefined) throw nobodyAnswers([...silent.values()]);
        if (refusal.leader === undefined || !silent.has(refusal.leader)) throw refusal;
        throw leaderIsGone(refusal.leader, refusal);
      }
    }
  };
  return {
    get client() {
      return dial(current);
    },
    signal: options.signal,
    call(method, request, timeoutMs) {
      const limits = timeoutMs === undefined ? {} : { timeoutMs };
      return ask((client) => callUnary(client, method, request, { signal: options.signal, ...limits }));
    },
    ask,
    explain,
    close: () => {
      for (const client of clients.values()) client.close();
    },
  };
}

/** How an error begins that says that nobody answered. */
export const NOBODY = 'no coordinator answers at ';

/** Whether an error of a {@link Connection} says that nobody answered at all. */
export function isSilence(error: FarmError): boolean {
  return error.code === 'unavailable' && error.message.startsWith(NOBODY);
}

/** One error for the silence of every coordinator that was asked: each with what happened there, and what to do. */
function nobodyAnswers(silences: readonly FarmError[]): FarmError {
  const places = silences.map(({ message }) => message.slice(NOBODY.length));
  const hints = new Set(silences.flatMap(({ hint }) => hint ?? []));
  return new FarmError('unavailable', `${NOBODY}${places.join('; nor at ')}`, {
    hint: [...hints].join(' '),
    cause: silences.at(-1),
  });
}

function leaderIsGone(leader: string, cause: FarmError): FarmError {
  return new FarmError(
    'unavailable',
    `no coordinator leads just now: the one that led, at ${leader}, does not answer`,
    {
      hint: 'Another one takes over in a few seconds; then run this again.',
      cause,
    },
  );
}

function channelOf(options: ConnectOptions): ClientChannel {
  const { address, tokenPath, caPath, certPath, keyPath, insecure } = options;
  try {
    return clientChannel({
      address,
      insecure,
      ...(tokenPath === undefined ? {} : { tokenPath }),
      ...(caPath === undefined ? {} : { caPath }),
      ...(certPath === undefined ? {} : { certPath }),
      ...(keyPath === undefined ? {} : { keyPath }),
    });
  } catch (error) {
    const { code, message, field, hint, cause } = FarmError.from(error);
    if (field === undefined || hint !== undefined) throw error;
    const where = `Correct ${field}, or the environment variable that stands for it.`;
    throw new FarmError(code, message, { field, hint: where, cause });
  }
}

/** What grpc-js says when it has no connection; the farm's own refusals never begin like this. */
const deadLine = /^(?:No connection established|Name resolution failed|14 UNAVAILABLE)/;

/** What Node's TLS says about a certificate that it does not accept, or that the other side does not. */
const badCertificate = /certificate|ERR_TLS_CERT|altnames|self.signed|alert (?:unknown ca|bad certificate)/i;

/** What grpc-js says about an answer that is no gRPC: a proxy's, or some other service's. */
const noGrpc = /^Received HTTP status code \d+$/;

function isDead(error: FarmError): boolean {
  return error.code === 'unavailable' && deadLine.test(error.message);
}

function withHint(error: FarmError, address: string): FarmError {
  if (noGrpc.test(error.message)) {
    return new FarmError('unavailable', `${NOBODY}${address}: ${error.message}`, {
      hint: 'Another service or a proxy answers there; no_proxy keeps a host from the proxy of https_proxy.',
      cause: error,
    });
  }
  if (!isDead(error)) return error;
  const reason = connectionFault(error.message);
  if (badCertificate.test(reason)) {
    return new FarmError('unauthenticated', `no trust between this program and ${address}: ${reason}`, {
      hint: 'Give the authority that signed its certificate with --tls-ca, and dial a name or address that is in it.',
      cause: error,
    });
  }
  return new FarmError('unavailable', `${NOBODY}${address}: ${reason}`, {
    hint: reason.includes('ECONNREFUSED')
      ? 'Start one with `clipfarm up`, or name the right one with --coordinator HOST:PORT.'
      : 'Check --coordinator HOST:PORT; a coordinator with TLS needs --tls-ca here, one without must not get it.',
    cause: error,
  });
}
