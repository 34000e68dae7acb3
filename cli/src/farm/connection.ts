import { FarmError } from '@clipfarm/shared/errors';
import { FarmServiceClient } from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
import { callUnary, type UnaryMethod } from '@clipfarm/shared/rpc/client-call';
import { type ClientChannel, clientChannel } from '@clipfarm/shared/rpc/credentials';

/** Where the coordinator is, and how to get in. Paths name files. */
export interface ConnectOptions {
  /** `host:port`. */
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
  /** The same error, saying what to do when nobody answers at all. */
  explain(error: unknown): FarmError;
  close(): void;
}

/** Flags by the field that shared/src/rpc/credentials.ts names. */
const flagOf: Readonly<Record<string, string>> = {
  address: '--coordinator',
  ca: '--tls-ca',
  cert: '--tls-cert',
  key: '--tls-key',
  token: '--token-file',
};

/**
 * Prepares a connection; nothing is dialled before the first call.
 *
 * @throws FarmError `invalid_argument` naming the flag whose address or file can't be used.
 */
export function connect(options: ConnectOptions): Connection {
  const { address, credentials, options: channelOptions } = channelOf(options);
  const client = new FarmServiceClient(address, credentials, channelOptions);
  const explain = (error: unknown) => withHint(FarmError.from(error), address);
  return {
    client,
    signal: options.signal,
    async call(method, request, timeoutMs) {
      const limits = timeoutMs === undefined ? {} : { timeoutMs };
      try {
        return await callUnary(client, method, request, { signal: options.signal, ...limits });
      } catch (error) {
        throw explain(error);
      }
    },
    explain,
    close: () => client.close(),
  };
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
    const { code, message, field, cause } = FarmError.from(error);
    const flag = flagOf[field ?? ''];
    if (field === undefined || flag === undefined) throw error;
    const named = message.startsWith(`${field}: `) ? `${flag}: ${message.slice(field.length + 2)}` : message;
    const hint =
      field === 'ca'
        ? 'Give the coordinator’s certificate authority with --tls-ca FILE, or --insecure on a network you trust.'
        : `Correct ${flag}, or the environment variable that stands for it.`;
    throw new FarmError(code, named, { field, hint, cause });
  }
}

/** What grpc-js says when it has no connection; the farm's own refusals never begin like this. */
const deadLine = /^(?:No connection established|Name resolution failed|14 UNAVAILABLE)/;

function withHint(error: FarmError, address: string): FarmError {
  if (error.code !== 'unavailable' || !deadLine.test(error.message)) return error;
  const reason = /Last error: (?:Error: )?(.*?)\.? *(?:Resolution note:.*)?$/.exec(error.message)?.[1] ?? error.message;
  return new FarmError('unavailable', `no coordinator answers at ${address}: ${reason}`, {
    hint: 'Start one with `clipfarm up`, or name the right one with --coordinator HOST:PORT.',
    cause: error,
  });
}
