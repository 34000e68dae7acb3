import type { FileHandle } from 'node:fs/promises';
import { FarmError } from '@clipfarm/shared/errors';

/** What a {@link PrefixVideo} is made of. */
export interface PrefixParts {
  /** Everything before the media data. */
  readonly front: Buffer;
  /** The growing file, open for reading. */
  readonly file: FileHandle;
  /** Bytes of it that are the media data. They are never written again. */
  readonly part: { readonly from: number; readonly to: number };
  readonly clips: number;
  readonly frames: number;
}

/** Bytes that are read at a time. */
const PIECE_BYTES = 256 * 1024;

/** The beginning of a video that is still growing, as an MP4 of its own. Dispose of it. */
export class PrefixVideo implements AsyncDisposable {
  /** Clips in it, from clip 0 on. */
  readonly clips: number;
  readonly frames: number;
  /** Size of the MP4. */
  readonly bytes: number;
  readonly #parts: PrefixParts;

  constructor(parts: PrefixParts) {
    this.#parts = parts;
    this.clips = parts.clips;
    this.frames = parts.frames;
    this.bytes = parts.front.length + parts.part.to - parts.part.from;
  }

  /**
   * The MP4, in pieces of at most 256 KiB.
   *
   * @throws FarmError `unavailable` when the file was begun anew meanwhile.
   */
  async *pieces(): AsyncGenerator<Buffer> {
    const { front, file, part } = this.#parts;
    for (let at = 0; at < front.length; at += PIECE_BYTES) yield front.subarray(at, at + PIECE_BYTES);
    for (let at = part.from; at < part.to; ) {
      // A new buffer each time: whoever takes a piece may keep it for a while.
      const buffer = Buffer.allocUnsafeSlow(Math.min(PIECE_BYTES, part.to - at));
      const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
      if (bytesRead === 0) throw new FarmError('unavailable', 'the video was begun anew while it was read');
      yield buffer.subarray(0, bytesRead);
      at += bytesRead;
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#parts.file.close();
  }
}
