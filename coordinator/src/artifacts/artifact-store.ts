import type { Readable } from 'node:stream';
import { FarmError } from '@clipfarm/shared/errors';

/** What a stored file holds. */
export interface ArtifactContent {
  /** SHA-256, 64 lower-case hex digits. */
  readonly sha256: string;
  /** Size in bytes. */
  readonly bytes: number;
}

/** A stored file in a listing. */
export interface ArtifactEntry {
  readonly key: string;
  /** Size in bytes. */
  readonly bytes: number;
  /** Milliseconds since 1970 when it was stored first, by the clock of whoever keeps it. */
  readonly storedAt: number;
}

/** A request that stores one file without passing through the coordinator. Whoever has it can send it. */
export interface PresignedPut {
  /** Where to `PUT` the content. It carries a signature: it belongs in no log and no message. */
  readonly url: string;
  /** Headers to send exactly as they are; the signature covers them, so that no other content is taken. */
  readonly headers: Readonly<Record<string, string>>;
  /** Seconds from now for which it works. */
  readonly validSeconds: number;
}

/** Part of a file. */
export interface ByteRange {
  /** First byte. @default 0 */
  readonly start?: number;
  /** First byte that is not part of it. @default the file's size */
  readonly end?: number;
}

/**
 * Files under keys such as `inputs/<sha256>`. A key is made by the coordinator, never taken from outside, and its
 * content never changes.
 *
 * Every method throws FarmError `invalid_argument` for a malformed key, and can throw `resource_exhausted` when the
 * disk is full and `internal` when it fails; a store behind a network also `unavailable` when it doesn't answer and
 * `failed_precondition` when it refuses.
 */
export interface ArtifactStore {
  /**
   * Takes over a finished file from {@link tempDir}; once it resolves, the file survives a power cut under its key and
   * the temporary one is gone. Storing the same content again is fine.
   *
   * @param content what the caller has checked that the file holds.
   * @param signal ends the wait for a store behind a network; what is under way may be stored or not.
   * @throws FarmError `conflict` when other content is stored under the key, `invalid_argument` when the file's size is
   * not `content.bytes`; the temporary file is left alone then.
   */
  putFile(key: string, tempPath: string, content: ArtifactContent, signal?: AbortSignal): Promise<void>;

  /** Directory for files that are to be stored; on the same disk, emptied when the store is opened. */
  tempDir(): string;

  /** Size of a stored file; null when there is none. */
  stat(key: string): Promise<{ readonly bytes: number } | null>;

  /**
   * Path of a file on this machine with the content, for tools that read files. Nobody may write to it. It stays
   * readable for as long as the caller holds it open; a store that keeps copies may remove older ones.
   *
   * @throws FarmError `not_found` when there is no such file; `invalid_argument` (field `sha256`) when it was stored by
   * way of {@link presignPut} and is not the content that was announced.
   */
  localFile(key: string): Promise<string>;

  /** The content or a part of it. The stream fails with FarmError `not_found` when there is no such file. */
  open(key: string, range?: ByteRange): Readable;

  /** Deletes a file; fine when there is none. */
  remove(key: string): Promise<void>;

  /** Deletes every file whose key begins with `<prefix>/`. */
  removePrefix(prefix: string): Promise<void>;

  /** Every file whose key begins with `<prefix>/`, or every file for an empty prefix; ordered by key. */
  list(prefix: string): Promise<readonly ArtifactEntry[]>;

  /**
   * Bytes that the disk of {@link tempDir} can still take. Every file that is put passes through it, so that no larger one
   * can be stored; a store that lies elsewhere may hold more, which nobody can ask it for.
   */
  freeBytes(): Promise<number>;

  /**
   * A request with which somebody else can store this content under the key, within minutes; null when the store takes
   * files from the coordinator only. The content was not checked here: {@link localFile} does it.
   */
  presignPut(key: string, content: ArtifactContent): Promise<PresignedPut | null>;
}

const segment = '[A-Za-z0-9][A-Za-z0-9._-]{0,199}';
const grammar = new RegExp(`^${segment}(?:/${segment}){0,7}$`);

/**
 * @throws FarmError `invalid_argument` unless the key is one to eight parts joined by `/`, each of 1 to 200 letters,
 * digits and `._-` with a letter or digit first. So no part can be `.`, `..`, empty, hidden or an option.
 */
export function checkArtifactKey(key: string): void {
  if (grammar.test(key)) return;
  throw new FarmError(
    'invalid_argument',
    `key: ${JSON.stringify(key.slice(0, 200))}; accepted are 1 to 8 parts of letters, digits and . _ - joined by /`,
    { field: 'key' },
  );
}

/** @throws FarmError `invalid_argument` unless both ends are whole numbers, 0 <= start <= end. */
export function checkByteRange({ start = 0, end }: ByteRange): void {
  const whole = (value: number) => Number.isSafeInteger(value) && value >= 0;
  if (whole(start) && (end === undefined || (whole(end) && end >= start))) return;
  const message = `range: ${start} to ${end ?? 'the end'}; accepted is 0 <= start <= end`;
  throw new FarmError('invalid_argument', message, { field: 'range' });
}

/** Error of a method that needs a file that is not there. */
export function noSuchFile(key: string): FarmError {
  return new FarmError('not_found', `key: no file ${key}`, { field: 'key' });
}

/** Error of a put of other content under a key that is taken. */
export function otherContent(key: string): FarmError {
  return new FarmError('conflict', `key: ${key} holds other content already`, { field: 'key' });
}

/** @throws FarmError `invalid_argument` when a file that is to be stored has another size than announced. */
export function checkSize(key: string, size: number, announced: number): void {
  if (size === announced) return;
  throw new FarmError('invalid_argument', `bytes: ${key} has ${size}, announced were ${announced}`, { field: 'bytes' });
}
