import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { checkServerIdentity, createSecureContext } from 'node:tls';
import {
  type ChannelCredentials,
  type ClientOptions,
  credentials,
  InterceptingCall,
  type Interceptor,
  Metadata,
  ServerCredentials,
} from '@grpc/grpc-js';
import { formatAddress, isLoopback, parseAddress } from '../address.ts';
import { systemReason } from '../disk-error.ts';
import { FarmError } from '../errors.ts';
import { Secret } from '../secret.ts';
import { clientChannelOptions } from './limits.ts';

/** Where the coordinator is and how to prove to it, and have it prove, who is who. Paths name PEM files. */
export interface ClientChannelOptions {
  /** `host:port`. */
  readonly address: string;
  /** Certificate authority that signed the coordinator's certificate. Given: TLS. Not given: plaintext. */
  readonly caPath?: string;
  /** Own certificate chain for mutual TLS; goes with `keyPath`. */
  readonly certPath?: string;
  readonly keyPath?: string;
  /** File with the bearer token. */
  readonly tokenPath?: string;
  /** Allows plaintext to another machine: token and videos are readable on the way. @default false */
  readonly insecure?: boolean;
}

/** Arguments of a generated client's constructor. */
export interface ClientChannel {
  readonly address: string;
  readonly credentials: ChannelCredentials;
  readonly options: ClientOptions;
}

/** How a coordinator listens. Paths name PEM files. */
export interface ServerCredentialsOptions {
  /** `host:port`. */
  readonly listen: string;
  /** Own certificate chain; goes with `keyPath`. Given: TLS. */
  readonly certPath?: string;
  readonly keyPath?: string;
  /** Certificate authority of the clients. Given: only clients with a certificate that it signed may connect. */
  readonly clientCaPath?: string;
  /** File with the bearer token that every call must carry. */
  readonly tokenPath?: string;
  /** Allows to listen beyond this machine without TLS or without a token. @default false */
  readonly insecure?: boolean;
}

/** What a server needs in order to listen. */
export interface ServerAccess {
  /** `host:port`, normalised. */
  readonly address: string;
  readonly credentials: ServerCredentials;
  /** Token that every call must carry; undefined when none is required. */
  readonly token: Secret | undefined;
}

/** Longest token file in bytes. */
const MAX_TOKEN_BYTES = 4096;

/**
 * Credentials and options to dial a coordinator: plaintext to this machine, TLS when `caPath` is given, and the token
 * as `authorization: Bearer` with every call.
 *
 * @throws FarmError `invalid_argument` when the address is wrong, a file can't be used, or plaintext would leave this
 * machine.
 */
export function clientChannel(options: ClientChannelOptions): ClientChannel {
  const address = parseAddress(options.address, '--coordinator');
  const tls = options.caPath !== undefined;
  if (!tls && !isLoopback(address.host) && options.insecure !== true) {
    throw new FarmError(
      'invalid_argument',
      `--tls-ca: none given for ${options.address}; plaintext is accepted only to this machine (127.0.0.1, ::1, localhost)`,
      {
        field: '--tls-ca',
        hint: 'Give the coordinator’s certificate authority with --tls-ca FILE, or --insecure on a network you trust.',
      },
    );
  }
  const useless = options.certPath === undefined ? options.keyPath && '--tls-key' : '--tls-cert';
  if (!tls && useless !== undefined) {
    throw new FarmError('invalid_argument', `${useless}: has no effect without --tls-ca`, { field: useless });
  }
  const token = options.tokenPath === undefined ? undefined : readToken(options.tokenPath);
  const base = clientChannelOptions(isLoopback(address.host));
  const target = formatAddress(address);
  if (options.caPath === undefined) {
    const interceptors = token === undefined ? [] : [bearerInterceptor(token)];
    return { address: target, credentials: credentials.createInsecure(), options: { ...base, interceptors } };
  }
  const ca = readAuthority(options.caPath, '--tls-ca');
  const pair = readPair(options.certPath, options.keyPath);
  const verify = isIP(address.host) === 0 ? {} : { checkServerIdentity: identityOf(address.host) };
  const channel = credentials.createSsl(ca, pair?.private_key ?? null, pair?.cert_chain ?? null, verify);
  const tlsOptions = isIP(address.host) === 0 ? base : { ...base, 'grpc.ssl_target_name_override': SNI_FOR_IP };
  if (token === undefined) return { address: target, credentials: channel, options: tlsOptions };
  const call = credentials.createFromMetadataGenerator((_params, done) => done(null, bearerMetadata(token)));
  return { address: target, credentials: credentials.combineChannelCredentials(channel, call), options: tlsOptions };
}

/**
 * Credentials to listen with. Beyond this machine TLS is required, and a token or client certificates.
 *
 * @throws FarmError `invalid_argument` naming everything that is missing, or the file that can't be used.
 */
export function serverCredentials(options: ServerCredentialsOptions): ServerAccess {
  const address = parseAddress(options.listen, '--listen');
  const pair = readPair(options.certPath, options.keyPath);
  if (!isLoopback(address.host) && options.insecure !== true) refuseOpenListener(options, pair !== undefined);
  if (pair === undefined && options.clientCaPath !== undefined) {
    throw new FarmError('invalid_argument', '--tls-client-ca: has no effect without --tls-cert and --tls-key', {
      field: '--tls-client-ca',
    });
  }
  const token = options.tokenPath === undefined ? undefined : readToken(options.tokenPath);
  const target = formatAddress(address);
  if (pair === undefined) return { address: target, credentials: ServerCredentials.createInsecure(), token };
  const clientCa = options.clientCaPath === undefined ? null : readAuthority(options.clientCaPath, '--tls-client-ca');
  return { address: target, credentials: ServerCredentials.createSsl(clientCa, [pair], clientCa !== null), token };
}

function refuseOpenListener(options: ServerCredentialsOptions, tls: boolean): void {
  const missing: string[] = [];
  if (!tls) missing.push('TLS (--tls-cert and --tls-key)');
  if (options.tokenPath === undefined && options.clientCaPath === undefined) {
    missing.push('authentication (--token-file, or --tls-client-ca for client certificates)');
  }
  if (missing.length === 0) return;
  throw new FarmError(
    'invalid_argument',
    `--listen: ${options.listen} can be reached from other machines and lacks ${missing.join(' and ')}`,
    { field: '--listen', hint: 'Add what is missing, or listen on 127.0.0.1.' },
  );
}

/**
 * Reads a bearer token from a file, white space at both ends taken off.
 *
 * @throws FarmError `invalid_argument` when the file is missing, empty, longer than 4096 bytes or not plain ASCII.
 */
export function readToken(path: string): Secret {
  const text = readSmallFile(path, '--token-file', MAX_TOKEN_BYTES).toString('utf8').trim();
  // Header values are ASCII without blanks; anything else would fail later, far from here.
  if (!/^[!-~]+$/.test(text)) {
    throw new FarmError(
      'invalid_argument',
      `--token-file: ${path} must hold one line of printable ASCII without blanks`,
      {
        field: '--token-file',
      },
    );
  }
  return new Secret(text);
}

/**
 * TLS has no way to ask for a server by IP address. grpc-js would send the address all the same, which Node warns
 * about; so a name that nobody has is sent instead, and the certificate is checked against the address.
 */
const SNI_FOR_IP = 'coordinator.invalid';

function identityOf(ip: string): typeof checkServerIdentity {
  return (_name, certificate) => checkServerIdentity(ip, certificate);
}

function bearerMetadata(token: Secret): Metadata {
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${token.reveal()}`);
  return metadata;
}

/** grpc-js refuses call credentials on a plaintext channel, so there the header is added call by call. */
function bearerInterceptor(token: Secret): Interceptor {
  return (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      start(metadata, listener, next) {
        metadata.merge(bearerMetadata(token));
        next(metadata, listener);
      },
    });
}

interface KeyPair {
  readonly private_key: Buffer;
  readonly cert_chain: Buffer;
}

function readPair(certPath: string | undefined, keyPath: string | undefined): KeyPair | undefined {
  if (certPath === undefined && keyPath === undefined) return undefined;
  if (certPath === undefined || keyPath === undefined) {
    const field = certPath === undefined ? '--tls-cert' : '--tls-key';
    throw new FarmError('invalid_argument', `${field}: missing; --tls-cert and --tls-key go together`, { field });
  }
  const pair = { cert_chain: readPem(certPath, '--tls-cert'), private_key: readPem(keyPath, '--tls-key') };
  try {
    createSecureContext({ cert: pair.cert_chain, key: pair.private_key });
  } catch (error) {
    const message = `--tls-cert: ${certPath} and ${keyPath} are not usable or do not belong together (${reasonOf(error)})`;
    throw new FarmError('invalid_argument', message, { field: '--tls-cert', cause: error });
  }
  return pair;
}

/** OpenSSL reads them now: grpc-js would notice what is wrong only at the first connection. */
function readAuthority(path: string, field: string): Buffer {
  const pem = readPem(path, field);
  try {
    new X509Certificate(pem);
  } catch (error) {
    throw new FarmError('invalid_argument', `${field}: ${path} holds no usable certificate (${reasonOf(error)})`, {
      field,
      cause: error,
    });
  }
  return pem;
}

function readPem(path: string, field: string): Buffer {
  const pem = readSmallFile(path, field, 1024 * 1024);
  if (!pem.includes('-----BEGIN ')) {
    throw new FarmError('invalid_argument', `${field}: ${path} is no PEM file`, { field });
  }
  return pem;
}

function readSmallFile(path: string, field: string, limit: number): Buffer {
  let content: Buffer;
  try {
    content = readFileSync(path);
  } catch (error) {
    throw new FarmError('invalid_argument', `${field}: cannot read ${path}: ${systemReason(error)}`, {
      field,
      cause: error,
    });
  }
  if (content.length > limit) {
    const message = `${field}: ${path} has ${content.length} bytes; accepted: at most ${limit}`;
    throw new FarmError('invalid_argument', message, { field });
  }
  return content;
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
