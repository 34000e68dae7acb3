import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { systemReason } from '@clipfarm/shared/disk-error';
import { FarmError } from '@clipfarm/shared/errors';
import { Secret } from '@clipfarm/shared/secret';
import { nonPublicKind } from './public-address.ts';

/** A place to which notices are posted. */
export interface WebhookEndpoint {
  /** First 16 hexadecimal digits of the URL's SHA-256: names it in logs and in the journal, and gives nothing away. */
  readonly id: string;
  /** Secret as a whole: paths and queries of such URLs often hold a key. */
  readonly url: Secret;
  /** Scheme, host and port, for logs. */
  readonly origin: string;
  /** What signs; several while one takes over from another. */
  readonly secrets: readonly Secret[];
  /** Whether it may be in a private network or on this machine. */
  readonly allowPrivate: boolean;
}

/** What is configured. */
export interface WebhookSettings {
  /** `--webhook-url`, each time it is given. */
  readonly urls: readonly string[];
  /** `--webhook-secret-file`: one for all, or as many as URLs, in the same order. */
  readonly secretFiles: readonly string[];
  /** `--webhook-allow-private`. */
  readonly allowPrivate: boolean;
}

/** Each endpoint reads every job's history by itself. */
const MAX_ENDPOINTS = 8;

const MAX_URL = 2048;

/** Fewer characters could be guessed from a few signed bodies. */
const MIN_SECRET = 16;

const MAX_SECRETS = 4;
const MAX_SECRET_FILE_BYTES = 4096;

/**
 * The endpoints that are configured, with their secrets read.
 *
 * @throws FarmError `invalid_argument` naming the flag, what is wrong with it and what is accepted; never more of a URL
 * than its origin
 */
export function webhookEndpoints(settings: WebhookSettings): WebhookEndpoint[] {
  const { urls, secretFiles, allowPrivate } = settings;
  if (urls.length > MAX_ENDPOINTS) throw badUrl(`given ${urls.length} times; at most ${MAX_ENDPOINTS} are accepted`);
  // The URLs first: what is wrong with one of them is not told by what else is missing.
  const checked = urls.map((text, index) => checkUrl(text, index, allowPrivate));
  if (secretFiles.length !== urls.length && (secretFiles.length !== 1 || urls.length === 0)) {
    const files = secretFiles.length === 1 ? 'file' : 'files';
    const given = `${secretFiles.length} ${files} for ${urls.length} of --webhook-url`;
    throw badSecret(`${given}; accepted is one for all, or one for each in the same order`);
  }
  const endpoints = checked.map((url, index) => {
    const secrets = readSecrets(secretFiles[index] ?? secretFiles[0] ?? '');
    const id = createHash('sha256').update(url.href).digest('hex').slice(0, 16);
    return { id, url: new Secret(url.href), origin: url.origin, secrets, allowPrivate };
  });
  const twice = endpoints.find(({ id }, index) => endpoints.findIndex((other) => other.id === id) !== index);
  if (twice) throw badUrl(`the same one is given twice, at ${twice.origin}`);
  return endpoints;
}

function checkUrl(text: string, index: number, allowPrivate: boolean): URL {
  const which = `number ${index + 1}`;
  const accepted = 'accepted is https://HOST[:PORT][/PATH][?QUERY], or http://';
  const url = text.length > MAX_URL ? null : URL.parse(text);
  if (url === null) throw badUrl(`${which} is no URL of at most ${MAX_URL} characters; ${accepted}`);
  if (url.protocol !== 'https:' && url.protocol !== 'http:') {
    throw badUrl(`${which} has the scheme "${url.protocol.slice(0, -1)}"; ${accepted}`);
  }
  if (url.username !== '' || url.password !== '') {
    throw badUrl(`${which}, at ${url.origin}, has a user or password in it; ${accepted}`);
  }
  if (url.hash !== '') throw badUrl(`${which}, at ${url.origin}, has a fragment, which is never sent; ${accepted}`);
  // Names are checked whenever they are resolved; an address is not resolved.
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const kind = isIP(host) === 0 ? null : nonPublicKind(host);
  if (kind !== null && !allowPrivate) {
    throw badUrl(`${which}, at ${url.origin}: the address is ${kind}; --webhook-allow-private accepts it`);
  }
  return url;
}

/** One secret a line. */
function readSecrets(path: string): Secret[] {
  let content: Buffer;
  try {
    content = readFileSync(path);
  } catch (error) {
    throw badSecret(`cannot read ${path}: ${systemReason(error)}`);
  }
  const lines = content.toString('utf8').split('\n');
  const secrets = lines.map((line) => line.trim()).filter((line) => line !== '');
  const fits = secrets.every((secret) => secret.length >= MIN_SECRET && /^[!-~]+$/.test(secret));
  if (content.length > MAX_SECRET_FILE_BYTES || secrets.length === 0 || secrets.length > MAX_SECRETS || !fits) {
    const line = `at least ${MIN_SECRET} printable ASCII characters without blanks, such as openssl rand -hex 32 prints`;
    throw badSecret(`${path} must hold 1 to ${MAX_SECRETS} lines, each of ${line}`);
  }
  return secrets.map((secret) => new Secret(secret));
}

function badUrl(what: string): FarmError {
  return new FarmError('invalid_argument', `--webhook-url: ${what}`, { field: '--webhook-url' });
}

function badSecret(what: string): FarmError {
  return new FarmError('invalid_argument', `--webhook-secret-file: ${what}`, { field: '--webhook-secret-file' });
}
