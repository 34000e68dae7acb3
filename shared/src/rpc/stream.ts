import { createHash, randomUUID } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { diskError } from '../disk-error.ts';
import { FarmError } from '../errors.ts';
import { MAX_PIECE_BYTES } from './limits.ts';
import type { MessageSink } from './sink.ts';

/** What {@link pipeFileToCall} sends, and how. */
export interface PipeFileOptions<M> {
  readonly path: string;
  readonly sink: MessageSink<M>;
  /** Wraps one piece of the file. */
  readonly toMessage: NoInfer<(data: Buffer) => M>;
  /** First byte to send. @default 0 */
  readonly start?: number;
  /** Bytes per message, 1 to 1 MiB. @default 262144 */
  readonly pieceBytes?: number;
  readonly signal?: AbortSignal;
}

/**
 * Sends a file from `start` to its end, piece by piece, never ahead of what the peer takes.
 *
 * @returns the bytes sent.
 * @throws FarmError `not_found` when there is no such file, `unavailable` when the call is over; the signal's reason.
 */
export async function pipeFileToCall<M>(options: PipeFileOptions<M>): Promise<number> {
  const pieceBytes = options.pieceBytes ?? 256 * 1024;
  if (!Number.isInteger(pieceBytes) || pieceBytes < 1 || pieceBytes > MAX_PIECE_BYTES) {
    throw new FarmError('invalid_argument', `pieceBytes: ${pieceBytes}; accepted is 1 to ${MAX_PIECE_BYTES}`);
  }
  const start = options.start ?? 0;
  let position = start;
  const file = await open(options.path, 'r').catch((error: unknown) => {
    throw readError(error, options.path);
  });
  try {
    for (;;) {
      options.signal?.throwIfAborted();
      // A new buffer each time: grpc-js serialises a message after write() has returned.
      const buffer = Buffer.allocUnsafeSlow(pieceBytes);
      const { bytesRead } = await file.read(buffer, 0, pieceBytes, position);
      if (bytesRead === 0) return position - start;
      await options.sink.send(options.toMessage(buffer.subarray(0, bytesRead)));
      position += bytesRead;
    }
  } finally {
    await file.close();
  }
}

function readError(error: unknown, path: string): FarmError {
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT') {
    return new FarmError('not_found', `no file ${path}`, { cause: error });
  }
  return diskError(error, `read ${path}`);
}

/** What {@link receiveToFile} takes, and what it must turn out to be. */
export interface ReceiveOptions {
  readonly pieces: AsyncIterable<Uint8Array>;
  /** Existing directory for the temporary file. */
  readonly dir: string;
  /** Promised SHA-256, 64 lower-case hex digits. */
  readonly sha256: string;
  /** Promised size in bytes. */
  readonly bytes: number;
  /** Largest size in bytes that is accepted. */
  readonly limit: number;
}

/**
 * Writes what arrives to a new file, checks size and SHA-256 against the promise and syncs it to disk. Whatever goes
 * wrong, the file is deleted.
 *
 * @returns path of the file.
 * @throws FarmError `invalid_argument` when content and promise differ, `resource_exhausted` above the limit or when
 * the disk is full; what the pieces throw.
 */
export async function receiveToFile(options: ReceiveOptions): Promise<string> {
  checkPromise(options);
  const path = join(options.dir, `${randomUUID()}.tmp`);
  try {
    await writeChecked(path, options);
    return path;
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  }
}

/**
 * Checks what an upload promises to be.
 *
 * @throws FarmError `invalid_argument` unless `sha256` is 64 lower-case hex digits and `bytes` 1 or more;
 * `resource_exhausted` above the limit.
 */
export function checkPromise({ sha256, bytes, limit }: Pick<ReceiveOptions, 'sha256' | 'bytes' | 'limit'>): void {
  if (!/^[0-9a-f]{64}$/.test(sha256)) {
    const message = `sha256: "${sha256.slice(0, 80)}"; accepted are 64 lower-case hex digits`;
    throw new FarmError('invalid_argument', message, { field: 'sha256' });
  }
  if (!Number.isSafeInteger(bytes) || bytes < 1) {
    throw new FarmError('invalid_argument', `bytes: ${bytes}; accepted is 1 or more`, { field: 'bytes' });
  }
  if (bytes > limit) {
    throw new FarmError('resource_exhausted', `bytes: ${bytes}; accepted are at most ${limit}`, { field: 'bytes' });
  }
}

async function writeChecked(path: string, { pieces, sha256, bytes }: ReceiveOptions): Promise<void> {
  const hash = createHash('sha256');
  let received = 0;
  const file = await open(path, 'wx').catch((error: unknown) => {
    throw diskError(error, 'store the upload');
  });
  try {
    for await (const piece of pieces) {
      received += piece.length;
      if (received > bytes) throw wrongSize(`more than the ${bytes} announced`);
      hash.update(piece);
      await file.writeFile(piece).catch((error: unknown) => {
        throw diskError(error, 'store the upload');
      });
    }
    if (received !== bytes) throw wrongSize(`${received} arrived, ${bytes} were announced`);
    const actual = hash.digest('hex');
    if (actual !== sha256) {
      const message = `sha256: the content has ${actual}, announced was ${sha256}`;
      throw new FarmError('invalid_argument', message, { field: 'sha256' });
    }
    await file.sync().catch((error: unknown) => {
      throw diskError(error, 'store the upload');
    });
  } finally {
    await file.close();
  }
}

function wrongSize(detail: string): FarmError {
  return new FarmError('invalid_argument', `bytes: ${detail}`, { field: 'bytes' });
}

/** A message of an upload: a header first, then data. */
interface UploadPart<H> {
  readonly part?:
    | { readonly $case: 'header'; readonly value: H }
    | { readonly $case: 'data'; readonly value: Buffer }
    | undefined;
}

/**
 * Splits an upload into its header and its data.
 *
 * @throws FarmError `invalid_argument` when the first message is no header; the pieces throw it when a later one is no
 * data or longer than 1 MiB.
 */
export async function readUpload<H>(
  messages: AsyncIterable<UploadPart<H>>,
): Promise<{ readonly header: H; readonly pieces: AsyncIterable<Buffer> }> {
  const iterator = messages[Symbol.asyncIterator]();
  const first = await iterator.next();
  const part = first.done === true ? undefined : first.value.part;
  if (part?.$case !== 'header') {
    throw new FarmError('invalid_argument', 'header: the first message of an upload must be its header', {
      field: 'header',
    });
  }
  return { header: part.value, pieces: dataOf(iterator) };
}

async function* dataOf<H>(iterator: AsyncIterator<UploadPart<H>>): AsyncGenerator<Buffer> {
  try {
    for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) {
      const { part } = next.value;
      if (part?.$case !== 'data') {
        throw new FarmError('invalid_argument', 'data: only data may follow the header', { field: 'data' });
      }
      if (part.value.length > MAX_PIECE_BYTES) {
        const message = `data: ${part.value.length} bytes in one message; accepted are at most ${MAX_PIECE_BYTES}`;
        throw new FarmError('invalid_argument', message, { field: 'data' });
      }
      yield part.value;
    }
  } finally {
    await iterator.return?.();
  }
}
