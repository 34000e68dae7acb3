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
 * disk is full and `internal` when it fails.
 */
export interface ArtifactStore {
  /**
   * Takes over a finished file from {@link tempDir}; once it resolves, the file survives a power cut under its key and
   * the temporary one is gone. Storing the same content again is fine.
   *
   * @param content what the caller has checked that the file holds.
   * @throws FarmError `conflict` when other content is stored under the key, `invalid_argument` when the file's size is
   * not `content.bytes`; the temporary file is left alone then.
   */
  putFile(key: string, tempPath: string, content: ArtifactContent): Promise<void>;

  /** Directory for files that are to be stored; on the same disk, emptied when the store is opened. */
  tempDir(): string;

  /** Size of a stored file; null when there is none. */
  stat(key: string): Promise<{ readonly bytes: number } | null>;

  /**
   * Path of a file on this machine with the content, for tools that read files. Nobody may write to it. It stays
   * readable for as long as the caller holds it open; a store that keeps copies may remove older ones.
   *
   * @throws FarmError `not_found` when there is no such file.
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

  /** Bytes that can still be stored. */
  freeBytes(): Promise<number>;
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
