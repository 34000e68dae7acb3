import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { FarmError } from '@clipfarm/shared/errors';
import type { ArtifactContent } from './artifact-store.ts';
import type { S3Place } from './s3-client.ts';
import { nameOf } from './s3-error.ts';
import { SHA256_METADATA } from './s3-read.ts';

/** Bytes up to which a file goes up in one request; larger ones go in parts of this size, or of more if need be. */
export const PART_BYTES = 16 * 1024 * 1024;

/** Parts that are in memory and under way at the same time. */
const PARALLEL_PARTS = 4;

/** S3's own limit, from the API reference of multipart uploads. */
const MAX_PARTS = 10_000;

/** What became of a put: `taken` when the key has an object, `contended` when another put was under way. */
export type PutOutcome = 'stored' | 'taken' | 'contended';

/**
 * Sends a file under a key that has none yet. S3 checks it against the announced SHA-256 when it goes in one request;
 * in parts, each part has a checksum and the whole is hashed on its way out, before the parts are joined.
 *
 * @param signal gives it up
 * @throws FarmError `invalid_argument` when the file isn't the announced content; what the client throws
 */
export async function putObject(
  { client, bucket, prefix }: S3Place,
  key: string,
  path: string,
  content: ArtifactContent,
  signal?: AbortSignal,
): Promise<PutOutcome> {
  const params = {
    Bucket: bucket,
    Key: prefix + key,
    IfNoneMatch: '*',
    Metadata: { [SHA256_METADATA]: content.sha256 },
  };
  try {
    if (content.bytes <= PART_BYTES) {
      const Body = await readFile(path);
      const command = new PutObjectCommand({ ...params, Body, ChecksumSHA256: base64Of(content.sha256) });
      await client.send(command, abortedBy(signal));
    } else {
      const Body = Readable.from(checkedPieces(path, content), { objectMode: false });
      const partSize = Math.max(PART_BYTES, Math.ceil(content.bytes / MAX_PARTS));
      // It aborts what it began when anything fails.
      const upload = new Upload({ client, params: { ...params, Body }, partSize, queueSize: PARALLEL_PARTS });
      await doneUnless(upload, signal);
    }
    return 'stored';
  } catch (error) {
    if (nameOf(error) === 'PreconditionFailed') return 'taken';
    if (nameOf(error) === 'ConditionalRequestConflict') return 'contended';
    throw error;
  }
}

/** Waits for an upload, or gives it up; parts that it can't take back then are dropped by the bucket's own rule. */
async function doneUnless(upload: Upload, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  const giveUp = () => void upload.abort().catch(() => undefined);
  signal?.addEventListener('abort', giveUp, { once: true });
  try {
    await upload.done();
  } finally {
    signal?.removeEventListener('abort', giveUp);
  }
}

/** Options of a request that a signal gives up. */
export function abortedBy(signal: AbortSignal | undefined) {
  return signal === undefined ? {} : { abortSignal: signal };
}

/** A SHA-256 as S3's headers have it. */
export function base64Of(sha256: string): string {
  return Buffer.from(sha256, 'hex').toString('base64');
}

async function* checkedPieces(path: string, { sha256 }: ArtifactContent): AsyncGenerator<Buffer> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path, { highWaterMark: 1024 * 1024 })) {
    hash.update(piece);
    yield piece;
  }
  const actual = hash.digest('hex');
  if (actual === sha256) return;
  const message = `sha256: the content has ${actual}, announced was ${sha256}`;
  throw new FarmError('invalid_argument', message, { field: 'sha256' });
}
