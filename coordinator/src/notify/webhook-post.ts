import { createHmac } from 'node:crypto';
import { type ClientRequest, request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { isIP } from 'node:net';
import { lookupFor, nonPublicKind } from './public-address.ts';
import type { WebhookEndpoint } from './webhook-endpoint.ts';

/** What is posted. */
export interface Delivery {
  /** The notice's identity: the same in every repetition. */
  readonly id: string;
  /** JSON. */
  readonly body: string;
}

/** What came of a post. */
export type PostAnswer =
  | { readonly outcome: 'delivered' }
  /** It was answered, but not with 2xx: this notice's trouble, or so it seems. */
  | { readonly outcome: 'refused'; readonly reason: string }
  /** The endpoint as a whole has trouble: no answer, or one that asks for patience, perhaps for a given time. */
  | { readonly outcome: 'unreachable'; readonly reason: string; readonly waitMillis?: number };

/** An endpoint that takes longer is treated like one that does not answer. */
const ATTEMPT_MILLIS = 10_000;

/** Bytes of an answer's body that are taken, and thrown away, so that the other side can end in peace. */
const MAX_ANSWER_BYTES = 64 * 1024;

/** Statuses with which proxies and busy servers speak for the whole endpoint. */
const BUSY: ReadonlySet<number> = new Set([429, 502, 503, 504]);

/**
 * The value of `clipfarm-signature`: `t=<unix seconds>,v1=<hex HMAC-SHA-256 of "t.body">`, with one `v1` for each secret.
 *
 * @param now wall-clock milliseconds
 */
export function signatureHeader(secrets: WebhookEndpoint['secrets'], body: string, now: number): string {
  const t = Math.floor(now / 1000);
  const signatures = secrets.map((secret) =>
    createHmac('sha256', secret.reveal()).update(`${t}.${body}`).digest('hex'),
  );
  return [`t=${t}`, ...signatures.map((hex) => `v1=${hex}`)].join(',');
}

/**
 * Posts a notice once. Redirects are answers like any other. Every attempt has a connection of its own, so that its
 * address is checked anew.
 *
 * @param now wall-clock milliseconds
 * @param attemptMillis for the whole attempt, from resolving the name to the end of the answer
 * @returns what came of it; never rejects
 */
export function postNotice(
  endpoint: WebhookEndpoint,
  delivery: Delivery,
  now: number,
  signal: AbortSignal,
  attemptMillis = ATTEMPT_MILLIS,
): Promise<PostAnswer> {
  return new Promise((resolve) => {
    const late = AbortSignal.timeout(attemptMillis);
    let answer: PostAnswer | null = null;
    const settle = () => resolve(answer ?? { outcome: 'unreachable', reason: 'closed without an answer' });
    let request: ClientRequest;
    try {
      request = open(endpoint, delivery, now, AbortSignal.any([signal, late]));
    } catch (error) {
      resolve({ outcome: 'unreachable', reason: reasonOf(error) });
      return;
    }
    request.on('response', (response) => {
      answer = judge(response.statusCode ?? 0, response.headers['retry-after'], now);
      let bytes = 0;
      response.on('data', (part: Buffer) => {
        bytes += part.length;
        if (bytes > MAX_ANSWER_BYTES) response.destroy();
      });
      // The status has been said; what becomes of the body changes nothing.
      response.on('error', () => undefined);
      response.on('close', settle);
    });
    request.on('error', (error) => {
      const reason = late.aborted ? `no answer within ${attemptMillis / 1000} s` : reasonOf(error);
      answer ??= { outcome: 'unreachable', reason };
    });
    request.on('close', settle);
    request.end(delivery.body);
  });
}

function open(endpoint: WebhookEndpoint, { id, body }: Delivery, now: number, signal: AbortSignal): ClientRequest {
  const url = new URL(endpoint.url.reveal());
  const host = url.hostname.replace(/^\[|\]$/g, '');
  // Node does not call `lookup` for an address, so that one is checked here.
  const kind = isIP(host) === 0 || endpoint.allowPrivate ? null : nonPublicKind(host);
  if (kind !== null) throw new Error(`the address ${host} is ${kind}`);
  const headers = {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    'user-agent': 'clipfarm',
    'clipfarm-delivery': id,
    'clipfarm-signature': signatureHeader(endpoint.secrets, body, now),
  };
  // No agent: neither a kept connection nor a proxy from the environment comes between the check and the address.
  const options = { method: 'POST', headers, signal, agent: false, lookup: lookupFor(endpoint) } as const;
  return url.protocol === 'https:' ? httpsRequest(url, options) : httpRequest(url, options);
}

function judge(status: number, retryAfter: string | undefined, now: number): PostAnswer {
  if (status >= 200 && status < 300) return { outcome: 'delivered' };
  const reason = `status ${status}${status >= 300 && status < 400 ? ': redirects are not followed' : ''}`;
  if (!BUSY.has(status)) return { outcome: 'refused', reason };
  return { outcome: 'unreachable', reason, waitMillis: waitMillis(retryAfter, now) };
}

/** Milliseconds that a `retry-after` header, seconds or a date, asks for; 0 when it asks for nothing. */
function waitMillis(header: string | undefined, now: number): number {
  if (header === undefined) return 0;
  const millis = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - now;
  return Number.isFinite(millis) ? Math.max(0, millis) : 0;
}

function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return error.errors.map(reasonOf).join('; ');
  return error instanceof Error ? error.message : String(error);
}
