import { Readable } from 'node:stream';
import { GetObjectCommand } from '@aws-sdk/client-s3';
import type { Clock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import type { ByteRange } from './artifact-store.ts';
import type { S3Place } from './s3-client.ts';
import { nameOf } from './s3-error.ts';

/** What S3 knows about a stored file. */
export interface StoredObject {
  readonly bytes: number;
  /** SHA-256 (hex) that was announced when it was stored; undefined when something else stored it. */
  readonly sha256: string | undefined;
}

/** Under this name the announced SHA-256 (hex) is kept with an object. */
export const SHA256_METADATA = 'sha256';

/** Breaks in a row, with no byte in between, after which reading is given up. */
const MAX_BREAKS = 4;

/** Milliseconds before going on after a break; doubles with each. */
const BREAK_MILLIS = 50;

/**
 * The bytes of an object. When the connection breaks it goes on where it stopped, with the same version of the object.
 *
 * @param onFound called once, before the first byte, with what is known about the whole object.
 * @throws what the client throws; see `s3Error`
 */
export async function* readObject(
  { client, bucket, prefix }: S3Place,
  key: string,
  { start = 0, end }: ByteRange,
  clock: Clock,
  onFound: (found: StoredObject) => void = () => {},
): AsyncGenerator<Buffer> {
  let position = start;
  let version: string | undefined;
  for (let breaks = 0; ; breaks++) {
    if (breaks > 0) await new Promise<void>((resolve) => clock.setTimeout(resolve, BREAK_MILLIS * 2 ** breaks));
    const whole = position === 0 && end === undefined;
    const command = new GetObjectCommand({
      ...{ Bucket: bucket, Key: prefix + key },
      ...(whole ? {} : { Range: `bytes=${position}-${end === undefined ? '' : end - 1}` }),
      ...(version === undefined ? {} : { IfMatch: version }),
    });
    const response = await client.send(command).catch((error: unknown) => {
      // The object exists, and has no byte there.
      if (nameOf(error) === 'InvalidRange') return null;
      throw error;
    });
    if (response === null) return;
    if (!(response.Body instanceof Readable)) throw new FarmError('internal', `S3 sent no content for ${key}`);
    if (version === undefined) {
      onFound({ bytes: response.ContentLength ?? 0, sha256: response.Metadata?.[SHA256_METADATA] });
      version = response.ETag;
    }
    try {
      for await (const piece of response.Body) {
        position += piece.length;
        breaks = 0;
        yield piece;
      }
      return;
    } catch (error) {
      if (breaks >= MAX_BREAKS || version === undefined) throw error;
    }
  }
}
