import { type FileHandle, open, rm } from 'node:fs/promises';
import { diskError } from '@clipfarm/shared/disk-error';
import { renameDurable } from '@clipfarm/shared/durable-file';
import { FarmError } from '@clipfarm/shared/errors';
import { type ChunkInfo, checkChunk, readChunk } from '@clipfarm/shared/media/chunk';
import { clipsForFrames, DELIVERY_SAMPLE_RATE, FPS, framesInClip } from '@clipfarm/shared/model/clip';
import { type AudioTrack, readAudioTrack } from './audio-track.ts';
import { box, u32, u64Table } from './mp4-box-write.ts';
import { buildMoov, FTYP, type SampleRun } from './mp4-write.ts';
import { PrefixVideo } from './prefix-video.ts';

/** What a {@link GrowingMp4} will hold. */
export interface GrowingMp4Options {
  /** Where the finished video goes; until then it grows in the file of this name with `.part` at the end. */
  readonly path: string;
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;
  /** Frames of the finished video. */
  readonly totalFrames: number;
  /** Clips of the finished video; must hold `totalFrames`. */
  readonly clips: number;
  /** Path of the delivery audio (M4A), once it is there. Clips may be appended before. */
  readonly audio: Promise<string>;
}

/** Audio samples of one frame. */
const SAMPLES_PER_FRAME = DELIVERY_SAMPLE_RATE / FPS;

/** Samples of one AAC packet. */
const SAMPLES_PER_PACKET = 1024;

/** Header of a box whose size needs 64 bits. */
const LONG_HEADER_BYTES = 16;
const SHORT_HEADER_BYTES = 8;
const LARGEST_SHORT_BOX = 2 ** 32 - 1;

/** Bytes of audio that are copied at a time. */
const COPY_BYTES = 1024 * 1024;

/** Bytes after which written data is forced to the disk, so that little is left to do when the last clip is in. */
const SYNC_BYTES = 32 * 1024 * 1024;

/**
 * An MP4 that grows clip by clip by copying the chunks' bytes. Space at its front is kept free for the tables, so
 * finishing it costs the writing of the tables alone, and players can begin before they have all of it.
 *
 * States: growing (after `create`), finished (after `finish` succeeded), closed (after `close`). A call that fails
 * leaves the file growing: it can be made again. The file is derived from the chunks and keeps no journal; after a
 * crash it is begun anew. One caller at a time.
 */
export class GrowingMp4 {
  readonly #options: GrowingMp4Options;
  readonly #partPath: string;
  readonly #file: FileHandle;
  /** First byte after the header of the media data. */
  readonly #dataOffset: number;
  readonly #sizes: Uint32Array;
  readonly #videoRuns: SampleRun[] = [];
  readonly #audioRuns: SampleRun[] = [];
  /** Settled when the audio is open or has failed. */
  readonly #audioKnown: Promise<void>;
  /** Whether the audio's path is known; appending then waits the moment until it is open. */
  #audioArrived = false;
  #audio: { readonly track: AudioTrack; readonly file: FileHandle } | undefined;
  #audioFailure: unknown;
  /** Packets and bytes of the audio that were copied. */
  #audioCopied = { packets: 0, bytes: 0 };
  #first: ChunkInfo | undefined;
  #frames = 0;
  /** Where the next byte goes. */
  #end: number;
  #synced: number;
  #busy = false;
  #state: 'growing' | 'finished' | 'closed' = 'growing';

  /**
   * Begins the file, replacing a `.part` that an earlier process left.
   *
   * @throws FarmError `resource_exhausted` or `internal` when it can't be made.
   */
  static async create(options: GrowingMp4Options): Promise<GrowingMp4> {
    const { totalFrames, clips, path, audio } = options;
    // The next call reports a failure; until then it must not count as unhandled.
    audio.catch(() => undefined);
    if (totalFrames < 1 || clipsForFrames(totalFrames) !== clips) {
      throw new FarmError('internal', `${totalFrames} frames do not fill ${clips} clips`);
    }
    try {
      const partPath = `${path}.part`;
      return new GrowingMp4(options, partPath, await open(partPath, 'w'));
    } catch (error) {
      throw diskError(error, `create ${path}`);
    }
  }

  private constructor(options: GrowingMp4Options, partPath: string, file: FileHandle) {
    this.#options = options;
    this.#partPath = partPath;
    this.#file = file;
    this.#dataOffset = dataOffsetFor(options.totalFrames);
    this.#end = this.#dataOffset;
    this.#synced = this.#dataOffset;
    this.#sizes = new Uint32Array(options.totalFrames);
    this.#audioKnown = options.audio
      .then((path) => {
        this.#audioArrived = true;
        return this.#openAudio(path);
      })
      .catch((error: unknown) => {
        this.#audioFailure = error;
      });
  }

  /**
   * Appends the chunk of the next clip, and the audio up to its end as far as it is there.
   *
   * @param sha256 hex digest of the whole chunk.
   * @throws FarmError `invalid_argument` (field `chunk`) when the chunk is another one, damaged or does not fit the others,
   *   `failed_precondition` when every clip is there or another call is going on, `resource_exhausted` when the disk is
   *   full; whatever made the audio fail.
   */
  append(chunkPath: string, sha256: string): Promise<void> {
    return this.#exclusively(`append clip ${this.#videoRuns.length}`, async () => {
      const { width, height, totalFrames, clips } = this.#options;
      const clip = this.#videoRuns.length;
      if (clip === clips) throw new FarmError('failed_precondition', `all ${clips} clips are appended already`);
      if (this.#audioArrived) await this.#audioKnown;
      if (this.#audioFailure !== undefined) throw this.#audioFailure;
      const { info, payload } = await readChunk(chunkPath, sha256);
      const frames = framesInClip(clip, totalFrames);
      checkChunk(info, { width, height, frames, ...(this.#first && { headerHash: this.#first.headerHash }) });
      await this.#copyAudio(clip + 1 === clips ? undefined : (this.#frames + frames) * SAMPLES_PER_FRAME);
      await this.#write(payload, this.#end);
      this.#videoRuns.push({ offset: this.#end, samples: frames });
      this.#sizes.set(info.sampleSizes, this.#frames);
      this.#end += payload.length;
      this.#frames += frames;
      this.#first ??= info;
      if (this.#end - this.#synced >= SYNC_BYTES) {
        await this.#file.datasync();
        this.#synced = this.#end;
      }
    });
  }

  /**
   * Writes the tables, makes the file durable and gives it its name. Waits for the audio.
   *
   * @returns where it is and how many bytes it has.
   * @throws FarmError `failed_precondition` when clips are missing; whatever made the audio fail; `resource_exhausted`
   *   when the disk is full.
   */
  finish(): Promise<{ readonly path: string; readonly bytes: number }> {
    return this.#exclusively('finish the video', async () => {
      const { path, clips } = this.#options;
      const first = this.#first;
      if (first === undefined || this.#videoRuns.length < clips) {
        throw new FarmError('failed_precondition', `only ${this.#videoRuns.length} of ${clips} clips are appended`);
      }
      await this.#audioKnown;
      if (this.#audio === undefined) throw this.#audioFailure;
      await this.#copyAudio(undefined);
      await this.#write(this.#front(first, this.#audio.track, this.#dataOffset), 0);
      // A failed append may have left bytes behind the last one that counts.
      await this.#file.truncate(this.#end);
      await renameDurable(this.#partPath, path);
      this.#state = 'finished';
      await this.#closeFiles();
      return { path, bytes: this.#end };
    });
  }

  /** Whether it is whole, and no clip can be appended any more. */
  get isFinished(): boolean {
    return this.#state === 'finished';
  }

  /**
   * The video as far as it is there: the clips that were appended, with exactly their sound, as an MP4 of its own. It is
   * read from the growing file, which goes on growing meanwhile.
   *
   * @returns what the caller must dispose of.
   * @throws FarmError `failed_precondition` when no clip is appended or the sound is not encoded yet; whatever made the
   *   audio fail; `resource_exhausted` when the disk is full.
   */
  prefix(): Promise<PrefixVideo> {
    return this.#exclusively('read the beginning of the video', async () => {
      const first = this.#first;
      if (first === undefined) throw new FarmError('failed_precondition', 'no clip is appended yet');
      if (!this.#audioArrived) throw new FarmError('failed_precondition', 'the sound is still being encoded');
      await this.#audioKnown;
      if (this.#audio === undefined) throw this.#audioFailure;
      const whole = this.#frames === this.#options.totalFrames;
      const played = whole ? undefined : this.#frames * SAMPLES_PER_FRAME;
      await this.#copyAudio(played);
      const dataOffset = dataOffsetFor(this.#frames);
      const front = this.#front(first, this.#audio.track, dataOffset, played);
      const part = { from: this.#dataOffset, to: this.#end };
      const file = await open(this.#partPath, 'r');
      return new PrefixVideo({ front, file, part, clips: this.#videoRuns.length, frames: this.#frames });
    });
  }

  /** Gives an unfinished file up and deletes it; does nothing after `finish`. Call it when no other call is going on. */
  async close(): Promise<void> {
    if (this.#state !== 'growing') return;
    this.#state = 'closed';
    await this.#closeFiles();
    await rm(this.#partPath, { force: true });
  }

  /**
   * Everything before the media data: kind of file, tables, spare room, the header of the data.
   *
   * @param dataOffset where the media data begins; the tables must fit before it.
   * @param played samples after which the sound ends; all of it when not given.
   */
  #front(first: ChunkInfo, track: AudioTrack, dataOffset: number, played?: number): Buffer {
    const { width, height } = this.#options;
    const shift = dataOffset - this.#dataOffset;
    const placed = (runs: readonly SampleRun[]) => runs.map((run) => ({ ...run, offset: run.offset + shift }));
    const { packets } = this.#audioCopied;
    const moov = buildMoov(
      {
        ...{ width, height, avcC: first.avcC },
        sizes: this.#sizes.subarray(0, this.#frames),
        runs: placed(this.#videoRuns),
      },
      {
        ...track,
        sizes: track.sizes.subarray(0, packets),
        durations: track.durations.subarray(0, packets),
        runs: placed(this.#audioRuns),
        ...(played === undefined ? {} : { played }),
      },
    );
    const dataHeader = mediaDataHeader(this.#end - this.#dataOffset);
    const spare = dataOffset - FTYP.length - moov.length - dataHeader.length;
    if (spare < SHORT_HEADER_BYTES) throw new FarmError('internal', `${moov.length} bytes of tables do not fit`);
    const padding = box('free', Buffer.alloc(spare - SHORT_HEADER_BYTES));
    return Buffer.concat([FTYP, moov, padding, dataHeader]);
  }

  async #exclusively<T>(action: string, work: () => Promise<T>): Promise<T> {
    if (this.#state !== 'growing') throw new FarmError('failed_precondition', `cannot ${action}: it is ${this.#state}`);
    if (this.#busy) throw new FarmError('failed_precondition', `cannot ${action}: another call is going on`);
    this.#busy = true;
    try {
      return await work();
    } catch (error) {
      throw diskError(error, action);
    } finally {
      this.#busy = false;
    }
  }

  async #openAudio(path: string): Promise<void> {
    const track = await readAudioTrack(path);
    const wanted = this.#options.totalFrames * SAMPLES_PER_FRAME;
    if (Math.abs(track.samples - wanted) > SAMPLES_PER_FRAME / 2) {
      throw new FarmError(
        'internal',
        `the delivery audio has ${track.samples} samples, the video needs about ${wanted}`,
      );
    }
    const file = await open(path, 'r');
    if (this.#state === 'closed') await file.close();
    else this.#audio = { track, file };
  }

  /** Copies the packets that begin before `endSample` of the job's audio and are not copied yet; all without it. */
  async #copyAudio(endSample: number | undefined): Promise<void> {
    if (this.#audio === undefined) return;
    const { track, file } = this.#audio;
    const { packets, bytes } = this.#audioCopied;
    const due = endSample === undefined ? Infinity : Math.ceil((endSample + track.priming) / SAMPLES_PER_PACKET);
    const part = track.sizes.subarray(packets, Math.max(packets, Math.min(due, track.sizes.length)));
    if (part.length === 0) return;
    const total = part.reduce((sum, size) => sum + size, 0);
    for (let copied = 0; copied < total; ) {
      const buffer = Buffer.allocUnsafe(Math.min(COPY_BYTES, total - copied));
      const { bytesRead } = await file.read(buffer, 0, buffer.length, track.offset + bytes + copied);
      if (bytesRead === 0) throw new FarmError('internal', 'the delivery audio became shorter while it was read');
      await this.#write(buffer.subarray(0, bytesRead), this.#end + copied);
      copied += bytesRead;
    }
    this.#audioRuns.push({ offset: this.#end, samples: part.length });
    this.#audioCopied = { packets: packets + part.length, bytes: bytes + total };
    this.#end += total;
  }

  async #write(data: Buffer, position: number): Promise<void> {
    for (let written = 0; written < data.length; ) {
      const { bytesWritten } = await this.#file.write(data, written, data.length - written, position + written);
      written += bytesWritten;
    }
  }

  async #closeFiles(): Promise<void> {
    await this.#file.close();
    await this.#audio?.file.close();
  }
}

/**
 * Where the media data of a video of so many frames begins. The tables before it need 4 bytes a frame or packet, and
 * less than 40 a clip for each of its two runs; the rest is headers.
 */
function dataOffsetFor(frames: number): number {
  const packets = Math.ceil((frames * SAMPLES_PER_FRAME) / SAMPLES_PER_PACKET);
  return FTYP.length + 16 * frames + 5 * packets + 64 * 1024 + LONG_HEADER_BYTES;
}

/** Header of the box `mdat` for that much data. */
function mediaDataHeader(bytes: number): Buffer {
  const short = bytes + SHORT_HEADER_BYTES;
  if (short <= LARGEST_SHORT_BOX) return box('mdat').fill(u32(short), 0, 4);
  return Buffer.concat([u32(1), Buffer.from('mdat'), u64Table([bytes + LONG_HEADER_BYTES])]);
}
