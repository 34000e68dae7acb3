import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { backoffMillis } from '@clipfarm/shared/backoff';
import { diskError } from '@clipfarm/shared/disk-error';
import { FarmError } from '@clipfarm/shared/errors';
import type { PresignedUpload } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';

/** Longest part of a refusal that is read. */
const MAX_REFUSAL_BYTES = 4096;

/**
 * Tries of an upload that nobody answers or that a store is too busy for. A store may close a kept connection at the very
 * moment that it is used.
 */
const ATTEMPTS = 3;

/** Waits between them. */
const AGAIN = { firstMillis: 50, maxMillis: 1000 } as const;

/** What S3 calls content that is not what the signature covers. */
const wrongContent: ReadonlySet<string> = new Set(['BadDigest', 'XAmzContentChecksumMismatch']);

/**
 * Sends a file straight to the store, a few times when need be: to put it again changes nothing. The URL is a credential:
 * no message holds it, nor what the store says about it.
 *
 * @throws FarmError `invalid_argument` when the store found other content than announced; `unavailable` when it refuses
 * for any other reason or does not answer; `internal` when the file can't be read; the signal's reason when it aborts.
 */
export async function putPresigned(
  { url, headers }: Pick<PresignedUpload, 'url' | 'headers'>,
  path: string,
  signal: AbortSignal,
): Promise<void> {
  const response = await answerOf(() => send(url, headers, path, signal), signal);
  if (response.ok) {
    await response.body?.cancel();
    return;
  }
  const code = /<Code>(\w{1,60})<\/Code>/.exec(await beginning(response))?.[1] ?? 'no reason given';
  if (wrongContent.has(code)) {
    throw new FarmError('invalid_argument', `sha256: the store found other content than announced: ${code}`, {
      field: 'sha256',
    });
  }
  throw new FarmError('unavailable', `the store at ${hostOf(url)} refused the upload: ${response.status} ${code}`);
}

/** The first answer that another try would not change, or the last one. */
async function answerOf(attempt: () => Promise<Response>, signal: AbortSignal): Promise<Response> {
  for (let failures = 1; ; failures++) {
    try {
      const response = await attempt();
      if (!isPassing(response.status) || failures === ATTEMPTS) return response;
      await response.body?.cancel();
    } catch (error) {
      signal.throwIfAborted();
      if (FarmError.from(error).code !== 'unavailable' || failures === ATTEMPTS) throw error;
    }
    await sleep(backoffMillis(failures, Math.random(), AGAIN), undefined, { signal }).catch(() => undefined);
    signal.throwIfAborted();
  }
}

/** Whether a status stands for trouble that may be over in a moment. */
function isPassing(status: number): boolean {
  return status >= 500 || status === 429;
}

async function send(
  url: string,
  headers: Readonly<Record<string, string>>,
  path: string,
  signal: AbortSignal,
): Promise<Response> {
  const file = await open(path).catch((error: unknown) => {
    throw diskError(error, 'read the file');
  });
  const body = file.createReadStream();
  try {
    // `duplex` is needed for a body that is a stream, which can't be sent again wherever a redirect leads.
    return await fetch(url, { method: 'PUT', headers, body, signal, duplex: 'half', redirect: 'error' });
  } catch (error) {
    signal.throwIfAborted();
    throw new FarmError('unavailable', `the store at ${hostOf(url)} could not be reached: ${reasonOf(error)}`);
  } finally {
    body.destroy();
  }
}

async function beginning(response: Response): Promise<string> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const piece of response.body ?? []) {
      pieces.push(piece);
      bytes += piece.length;
      if (bytes >= MAX_REFUSAL_BYTES) break;
    }
  } catch {
    // The status alone has to do.
  }
  return Buffer.concat(pieces).toString('utf8', 0, MAX_REFUSAL_BYTES);
}

function hostOf(url: string): string {
  return URL.parse(url)?.host ?? 'a malformed address';
}

/** System error code of a failed fetch; its own message only says that it failed. */
function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof Error ? ('code' in cause ? String(cause.code) : cause.message) : 'no connection';
}
