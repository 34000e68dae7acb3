import { createWriteStream } from 'node:fs';
import { lstat, mkdir, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import {
  DeleteObjectCommand,
  DeleteObjectsCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  paginateListObjectsV2,
} from '@aws-sdk/client-s3';
import { type Clock, systemClock } from '@clipfarm/shared/clock';
import { diskError } from '@clipfarm/shared/disk-error';
import { FarmError } from '@clipfarm/shared/errors';
import { hashFile } from '@clipfarm/shared/hash-file';
import {
  type ArtifactContent,
  type ArtifactEntry,
  type ArtifactStore,
  type ByteRange,
  checkArtifactKey,
  checkByteRange,
  checkSize,
  noSuchFile,
  otherContent,
  type PresignedPut,
} from './artifact-store.ts';
import { FileCache } from './file-cache.ts';
import { type S3Credentials, type S3Location, type S3Place, s3Place } from './s3-client.ts';
import { mayBeDone, s3Error, statusOf } from './s3-error.ts';
import { presignPut } from './s3-presign.ts';
import { readObject, SHA256_METADATA, type StoredObject } from './s3-read.ts';
import { abortedBy, putObject } from './s3-write.ts';
import { ensureUploadCleanup } from './upload-cleanup.ts';

/** How to open a store in a bucket. */
export interface S3StoreOptions extends S3Location {
  /** @default the standard chain: environment, shared files, web identity, container and instance roles */
  readonly credentials?: S3Credentials;
  /** Directory of this process alone, for temporary files and local copies. */
  readonly cacheDir: string;
  /** Bytes of local copies, the last half minute's not counted. */
  readonly cacheMaxBytes: number;
  /** Whether {@link ArtifactStore.presignPut} hands out requests. @default true */
  readonly directUploads?: boolean;
  /** Seconds for which such a request works. @default 900 */
  readonly directUploadSeconds?: number;
  /** Makes sure that the bucket drops multipart uploads that were begun so many days ago. @default it is left as it is */
  readonly cleanUploadsAfterDays?: number;
  /** @default the machine's */
  readonly clock?: Clock;
}

/** Tries of a put that meets another one of the same key. */
const PUT_ATTEMPTS = 6;

/** Milliseconds before the second of them; doubles with each. */
const PUT_PAUSE_MILLIS = 50;

/** Keys in one request to delete; S3's own limit. */
const DELETE_BATCH = 1000;

/** Objects of a bucket; temporary files in `<cacheDir>/tmp`, local copies in `<cacheDir>/files`. */
class S3Store implements ArtifactStore {
  readonly #place: S3Place;
  readonly #options: S3StoreOptions;
  readonly #cache: FileCache;
  readonly #temp: string;
  readonly #clock: Clock;

  constructor(place: S3Place, options: S3StoreOptions, cache: FileCache, temp: string, clock: Clock) {
    this.#place = place;
    this.#options = options;
    this.#cache = cache;
    this.#temp = temp;
    this.#clock = clock;
  }

  async putFile(key: string, tempPath: string, content: ArtifactContent, signal?: AbortSignal): Promise<void> {
    checkArtifactKey(key);
    await this.#request(`store ${key}`, async () => {
      checkSize(key, (await lstat(tempPath)).size, content.bytes);
      await this.#put(key, tempPath, content, signal);
      await this.#cache.adopt(key, tempPath, content);
    });
  }

  async #put(key: string, path: string, content: ArtifactContent, signal?: AbortSignal): Promise<void> {
    for (let attempt = 1; attempt <= PUT_ATTEMPTS; attempt++) {
      // Asked first, so that a large file isn't sent in vain; S3 decides all the same.
      if (await this.#holds(key, content, signal)) return;
      try {
        if ((await putObject(this.#place, key, path, content, signal)) === 'stored') return;
      } catch (error) {
        if (mayBeDone(error) && (await this.#holds(key, content, signal))) return;
        throw error;
      }
      await this.#pause(PUT_PAUSE_MILLIS * 2 ** attempt);
      signal?.throwIfAborted();
    }
    throw new FarmError('unavailable', `cannot store ${key}: other puts of the same key are under way`);
  }

  /** Whether a key has this content; false when it has none. @throws FarmError `conflict` when it has another one */
  async #holds(key: string, content: ArtifactContent, signal?: AbortSignal): Promise<boolean> {
    const stored = await this.#head(key, signal);
    if (stored === null) return false;
    if (stored.bytes === content.bytes && stored.sha256 === content.sha256) return true;
    throw otherContent(key);
  }

  tempDir(): string {
    return this.#temp;
  }

  async stat(key: string): Promise<{ readonly bytes: number } | null> {
    checkArtifactKey(key);
    const stored = await this.#request(`look up ${key}`, () => this.#head(key));
    return stored === null ? null : { bytes: stored.bytes };
  }

  async #head(key: string, signal?: AbortSignal): Promise<StoredObject | null> {
    const { client, bucket, prefix } = this.#place;
    try {
      const found = await client.send(new HeadObjectCommand({ Bucket: bucket, Key: prefix + key }), abortedBy(signal));
      return { bytes: found.ContentLength ?? 0, sha256: found.Metadata?.[SHA256_METADATA] };
    } catch (error) {
      if (statusOf(error) === 404) return null;
      throw error;
    }
  }

  async localFile(key: string): Promise<string> {
    checkArtifactKey(key);
    return this.#request(`fetch ${key}`, () => this.#cache.get(key, (path) => this.#download(key, path)));
  }

  async #download(key: string, path: string): Promise<ArtifactContent> {
    const found: { stored?: StoredObject } = {};
    const pieces = readObject(this.#place, key, {}, this.#clock, (stored) => {
      found.stored = stored;
    });
    await pipeline(pieces, createWriteStream(path, { flags: 'wx' }));
    const bytes = (await stat(path)).size;
    const sha256 = await hashFile(path);
    if (found.stored?.bytes === bytes && found.stored.sha256 === sha256) return { sha256, bytes };
    const announced = `${found.stored?.bytes} bytes with ${found.stored?.sha256 ?? 'no SHA-256'}`;
    const message = `sha256: ${key} holds ${bytes} bytes with ${sha256}, announced were ${announced}`;
    throw new FarmError('invalid_argument', message, { field: 'sha256' });
  }

  open(key: string, range: ByteRange = {}): Readable {
    checkArtifactKey(key);
    checkByteRange(range);
    return Readable.from(this.#bytes(key, range), { objectMode: false });
  }

  async *#bytes(key: string, range: ByteRange): AsyncGenerator<Buffer> {
    const { start = 0, end } = range;
    try {
      if (end !== undefined && end <= start) {
        // S3 has no way to ask for nothing.
        if ((await this.#head(key)) === null) throw noSuchFile(key);
        return;
      }
      yield* readObject(this.#place, key, range, this.#clock);
    } catch (error) {
      throw s3Error(error, `read ${key}`, this.#place.bucket);
    }
  }

  async remove(key: string): Promise<void> {
    checkArtifactKey(key);
    const { client, bucket, prefix } = this.#place;
    await this.#request(`delete ${key}`, async () => {
      await client.send(new DeleteObjectCommand({ Bucket: bucket, Key: prefix + key }));
      await this.#cache.drop(key);
    });
  }

  async removePrefix(prefix: string): Promise<void> {
    checkArtifactKey(prefix);
    const { client, bucket, prefix: base } = this.#place;
    const keys = (await this.list(prefix)).map(({ key }) => key);
    await this.#request(`delete ${prefix}/`, async () => {
      for (let at = 0; at < keys.length; at += DELETE_BATCH) {
        const batch = keys.slice(at, at + DELETE_BATCH);
        const Delete = { Objects: batch.map((key) => ({ Key: base + key })), Quiet: true };
        const { Errors } = await client.send(new DeleteObjectsCommand({ Bucket: bucket, Delete }));
        for (const key of batch) await this.#cache.drop(key);
        const refused = Errors?.[0];
        if (refused === undefined) continue;
        const message = `cannot delete ${prefix}/: S3 kept ${Errors?.length} of ${batch.length} objects: ${refused.Code}`;
        throw new FarmError(refused.Code === 'AccessDenied' ? 'failed_precondition' : 'unavailable', message);
      }
    });
  }

  async list(prefix: string): Promise<readonly ArtifactEntry[]> {
    if (prefix !== '') checkArtifactKey(prefix);
    const { client, bucket, prefix: base } = this.#place;
    const found: ArtifactEntry[] = [];
    await this.#request(`list ${prefix}/`, async () => {
      const Prefix = base + (prefix === '' ? '' : `${prefix}/`);
      for await (const page of paginateListObjectsV2({ client }, { Bucket: bucket, Prefix })) {
        for (const { Key = '', Size = 0, LastModified } of page.Contents ?? []) {
          const key = Key.slice(base.length);
          if (isKey(key)) found.push({ key, bytes: Size, storedAt: LastModified?.getTime() ?? this.#clock.now() });
        }
      }
    });
    // S3 sorts by bytes, as this does; servers that keep files in directories don't.
    return found.sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  async freeBytes(): Promise<number> {
    const { bavail, bsize } = await this.#request('ask for free space', () => statfs(this.#temp));
    return bavail * bsize;
  }

  async presignPut(key: string, content: ArtifactContent): Promise<PresignedPut | null> {
    checkArtifactKey(key);
    const { directUploads = true, directUploadSeconds = 900 } = this.#options;
    if (!directUploads) return null;
    return this.#request(`sign an upload of ${key}`, () =>
      presignPut(this.#place, key, content, { now: this.#clock.now(), seconds: directUploadSeconds }),
    );
  }

  async #request<T>(action: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw s3Error(error, action, this.#place.bucket);
    }
  }

  async #pause(millis: number): Promise<void> {
    await new Promise<void>((resolve) => this.#clock.setTimeout(resolve, millis));
  }
}

/**
 * Opens a store in a bucket, which must exist. What an earlier process left in the temporary directory is deleted; its
 * local copies are used again. Only one process may use the cache directory, many may use the bucket.
 *
 * @throws FarmError `failed_precondition` when there is no such bucket, no credentials, or S3 refuses; `unavailable`
 * when it does not answer; `internal` or `resource_exhausted` when the cache directory can't be made
 */
export async function openS3Store(options: S3StoreOptions): Promise<ArtifactStore> {
  const { bucket, cacheDir, cacheMaxBytes, clock = systemClock, cleanUploadsAfterDays } = options;
  const place = s3Place(options, options.credentials);
  try {
    // Not a HEAD, whose answer would not say what is wrong.
    await place.client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: place.prefix, MaxKeys: 1 }));
  } catch (error) {
    throw s3Error(error, `open bucket ${bucket}`, bucket);
  }
  if (cleanUploadsAfterDays !== undefined) await ensureUploadCleanup(place, cleanUploadsAfterDays);
  try {
    const temp = join(cacheDir, 'tmp');
    await rm(temp, { recursive: true, force: true });
    await mkdir(temp, { recursive: true });
    const cache = await FileCache.open({ dir: join(cacheDir, 'files'), maxBytes: cacheMaxBytes, clock });
    return new S3Store(place, options, cache, temp, clock);
  } catch (error) {
    throw diskError(error, `open the cache directory ${cacheDir}`);
  }
}

function isKey(key: string): boolean {
  try {
    checkArtifactKey(key);
    return true;
  } catch {
    return false;
  }
}
