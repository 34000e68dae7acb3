import type { Clock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import type { Logger } from '@clipfarm/shared/log';
import type { Metrics, UploadRefusal } from '../admin/metrics.ts';
import type { ArtifactStore } from '../artifacts/artifact-store.ts';
import { Mutex } from './mutex.ts';

/** Uploads leave this much free, so that the journal and the chunks of running jobs always find room. */
export const KEPT_FREE_BYTES = 64 * 1024 * 1024;

/** An upload of which nothing came for this long is given up: others wait for the room that it holds. */
const STALLED_MILLIS = 60_000;

/** So slow may an upload be on average, in bytes per second: half a megabit. Four gigabytes then take 17 hours. */
const SLOWEST_BYTES_PER_SECOND = 64 * 1024;

/** On top of that, for a connection that is away for a while; so long it is not judged. */
const ALLOWANCE_MILLIS = 10 * 60_000;

/** What an {@link UploadRoom} works with. */
export interface UploadRoomParts {
  readonly store: Pick<ArtifactStore, 'freeBytes'>;
  readonly clock: Clock;
  readonly metrics: Pick<Metrics, 'uploadsRefused'>;
  readonly log: Logger;
}

/** An upload that asks for room. */
export interface RoomRequest {
  /** Size that was announced, 1 or more. */
  readonly bytes: number;
  /** What it is, as the user names it. */
  readonly field: string;
  readonly pieces: AsyncIterable<Buffer>;
  /** Ends the upload's call, because nothing comes any more, or too little. */
  readonly abort: (reason: FarmError) => void;
}

/** Something that is made of an upload and asks for room. */
export interface HoldRequest {
  /** Most bytes that it may take. */
  readonly bytes: number;
  /** What it is made of, as the user names it. */
  readonly field: string;
  /** What takes the room, for people: `bytes of decoded sound`. */
  readonly what: string;
  /** Bytes that are free where it is written; in the store unless given. */
  readonly freeBytes?: () => Promise<number>;
}

type ReserveRequest = Pick<RoomRequest, 'bytes' | 'field'> & Partial<HoldRequest>;

/**
 * Gives uploads room on the disk. What an accepted one may still write counts as used, so that uploads that come at the
 * same time are not each promised the same bytes.
 *
 * Chunks don't ask: agents keep theirs until the disk takes them, whereas a user would have sent gigabytes in vain.
 */
export class UploadRoom {
  readonly #parts: UploadRoomParts;
  /** Bytes that accepted uploads may still write. */
  #reserved = 0;
  /** Two must not be promised the same bytes while the disk is asked for them. */
  readonly #asking = new Mutex();

  constructor(parts: UploadRoomParts) {
    this.#parts = parts;
  }

  /**
   * Reserves room for an upload until `receive` is over, however it ends.
   *
   * @param receive gets the pieces; asks for the next one when the one before is written
   * @throws FarmError `resource_exhausted` when there is not enough room; what `receive` throws
   */
  async during<T>(request: RoomRequest, receive: (pieces: AsyncIterable<Buffer>) => Promise<T>): Promise<T> {
    await this.#asking.run(() => this.#reserve(request));
    const promise = { left: request.bytes };
    try {
      return await receive(this.#counted(request, promise));
    } finally {
      this.#reserved -= promise.left;
    }
  }

  /**
   * Reserves room for what is made of an upload until `work` is over, however it ends. Meanwhile what it has written
   * counts twice, which the others wait for.
   *
   * @throws FarmError `resource_exhausted` when there is not enough room; what `work` throws
   */
  async hold<T>(request: HoldRequest, work: () => Promise<T>): Promise<T> {
    await this.#asking.run(() => this.#reserve(request));
    try {
      return await work();
    } finally {
      this.#reserved -= request.bytes;
    }
  }

  async #reserve({ bytes, field, what = 'bytes', freeBytes }: ReserveRequest): Promise<void> {
    // Before the disk is asked: what is written meanwhile counts twice then, and not at all otherwise.
    const others = this.#reserved;
    const free = await (freeBytes?.() ?? this.#parts.store.freeBytes());
    if (free < bytes + others + KEPT_FREE_BYTES) {
      const message =
        `${field}: ${bytes} ${what} have no room in the coordinator's store: ${free} are free, ` +
        `${others} of them reserved by other uploads and ${KEPT_FREE_BYTES} kept for running jobs`;
      const hint = 'Free space in its data directory, or try again when the other uploads are over.';
      throw this.#refused('room', new FarmError('resource_exhausted', message, { field, hint }));
    }
    this.#reserved += bytes;
  }

  async *#counted({ bytes, pieces, field, abort }: RoomRequest, promise: { left: number }): AsyncGenerator<Buffer> {
    const { clock } = this.#parts;
    const end = (reason: UploadRefusal, message: string, hint?: string): void =>
      abort(this.#refused(reason, new FarmError('timeout', message, { field, ...(hint && { hint }) })));
    const stalled = () => end('stalled', `${field}: no data came for ${STALLED_MILLIS / 1000} s`);
    const begun = clock.monotonic();
    const slow = (elapsed: number) => {
      const came = `${bytes - promise.left} of ${bytes} bytes came in ${Math.round(elapsed / 1000)} s`;
      const least = `${SLOWEST_BYTES_PER_SECOND} bytes per second, and ${ALLOWANCE_MILLIS / 1000} s on top`;
      const message = `${field}: ${came}; an upload must come with ${least}`;
      end('slow', message, 'Send it over a faster connection, or as a smaller file.');
    };
    // Judged all the time, not at the end: what has come so far says how long the upload may have taken.
    const judge = () => {
      const elapsed = clock.monotonic() - begun;
      const allowed = ALLOWANCE_MILLIS + Math.ceil(((bytes - promise.left) / SLOWEST_BYTES_PER_SECOND) * 1000);
      if (elapsed < allowed) limit = clock.setTimeout(judge, allowed - elapsed);
      else slow(elapsed);
    };
    let limit = clock.setTimeout(judge, ALLOWANCE_MILLIS);
    let timer = clock.setTimeout(stalled, STALLED_MILLIS);
    try {
      for await (const piece of pieces) {
        timer.cancel();
        yield piece;
        // Whoever sends more than announced is refused with the first byte too many.
        const written = Math.min(piece.length, promise.left);
        promise.left -= written;
        this.#reserved -= written;
        timer = clock.setTimeout(stalled, STALLED_MILLIS);
      }
    } finally {
      limit.cancel();
      timer.cancel();
    }
  }

  #refused(reason: UploadRefusal, error: FarmError): FarmError {
    const { log, metrics } = this.#parts;
    metrics.uploadsRefused.inc({ reason });
    log.warn({ reason: error.message, hint: error.hint }, 'upload refused');
    return error;
  }
}
