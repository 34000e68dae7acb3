import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { FarmError } from '../errors.ts';
import { FPS } from '../model/clip.ts';
import { TICKS_PER_FRAME, VIDEO_TIMESCALE } from './encode.ts';
import {
  type Mp4File,
  type Mp4Movie,
  type Mp4Track,
  parseMp4,
  type TopLevelBox,
  type TrackFormat,
} from './mp4-read.ts';

/** What a chunk holds; made by {@link inspectChunk} and only for a chunk that keeps the rules named there. */
export interface ChunkInfo {
  /** Bytes of the file. */
  readonly bytes: number;
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;
  readonly frames: number;
  /** SHA-256 (hex) of {@link avcC}. Chunks of one video must agree in it, because the video has one stream header. */
  readonly headerHash: string;
  /** H.264 decoder configuration: profile and level in bytes 1 to 3, then the parameter sets. */
  readonly avcC: Buffer;
  /** Where the frames lie within the file, back to back. */
  readonly payload: { readonly offset: number; readonly bytes: number };
  /** Bytes of each frame. */
  readonly sampleSizes: Uint32Array;
}

/** What a chunk must be. */
export interface ExpectedChunk {
  readonly width: number;
  readonly height: number;
  readonly frames: number;
  /** Of the chunks that are there already; left out for the first. */
  readonly headerHash?: string;
}

/** Largest chunk in bytes; 48 frames of 720x400 are 41 MB even without compression. */
export const MAX_CHUNK_BYTES = 64 * 1024 * 1024;

/** Largest `moov` of a chunk in bytes; 48 frames need about 1 KiB. */
const MAX_CHUNK_MOOV_BYTES = 1024 * 1024;

const IDR_SLICE = 5;
const NON_IDR_SLICE = 1;

/**
 * Reads a chunk and makes sure that its frames can be appended to others byte by byte: one H.264 track, every frame
 * {@link TICKS_PER_FRAME} ticks long and shown when decoded, the first one an IDR frame, no offset in time, the frames
 * back to back and nothing else in the media data, each made of whole NAL units, and the file complete.
 *
 * @throws FarmError `invalid_argument` with what is wrong; the system's error when the file can't be read.
 */
export async function inspectChunk(path: string): Promise<ChunkInfo> {
  return parseChunk(await readSmallFile(path));
}

/**
 * {@link inspectChunk} that also hands out the frames, so that a stitcher reads the file once.
 *
 * @param sha256 hex digest that the whole file must have: a disk may have altered what was checked before.
 */
export async function readChunk(
  path: string,
  sha256: string,
): Promise<{ readonly info: ChunkInfo; readonly payload: Buffer }> {
  const data = await readSmallFile(path);
  const found = createHash('sha256').update(data).digest('hex');
  if (found !== sha256) throw wrong(`has the SHA-256 ${found} instead of ${sha256}`);
  const info = parseChunk(data);
  return { info, payload: data.subarray(info.payload.offset, info.payload.offset + info.payload.bytes) };
}

/**
 * {@link inspectChunk} for a chunk that lies in memory. Pure.
 *
 * @throws FarmError `invalid_argument`, and nothing else, whatever the bytes are.
 */
export function parseChunk(data: Buffer): ChunkInfo {
  const file = parseMp4(data, MAX_CHUNK_MOOV_BYTES);
  const [track, second] = file.movie.tracks;
  if (track === undefined || second !== undefined) throw wrong(`has ${file.movie.tracks.length} tracks instead of one`);
  const { width, height, avcC } = checkHeader(track);
  checkTimes(file.movie, track);
  const { bodyOffset: offset, end } = mediaDataOf(file, track);
  checkNalUnits(data.subarray(offset, end), track.samples.sizes);
  return {
    bytes: data.length,
    width,
    height,
    frames: track.samples.count,
    headerHash: createHash('sha256').update(avcC).digest('hex'),
    avcC: Buffer.from(avcC),
    payload: { offset, bytes: end - offset },
    sampleSizes: track.samples.sizes,
  };
}

/** @throws FarmError `invalid_argument` naming the first thing in which the chunk differs from what is expected. */
export function checkChunk(info: ChunkInfo, expected: ExpectedChunk): void {
  if (info.frames !== expected.frames) throw wrong(`has ${info.frames} frames instead of ${expected.frames}`);
  if (info.width !== expected.width || info.height !== expected.height) {
    throw wrong(`is ${info.width}x${info.height} pixels instead of ${expected.width}x${expected.height}`);
  }
  if (expected.headerHash !== undefined && info.headerHash !== expected.headerHash) {
    const message = `has the stream header ${info.headerHash} instead of ${expected.headerHash}`;
    throw wrong(message, 'Its host encodes with other settings or another libx264; use one version on every host.');
  }
}

function checkHeader({ codec, format }: Mp4Track): Extract<TrackFormat, { kind: 'video' }> {
  if (format.kind !== 'video') throw wrong(`holds ${JSON.stringify(codec)} instead of H.264 video (avc1)`);
  // Byte 0 is the version of avcC, the low bits of byte 4 are the bytes of a NAL unit's length minus 1.
  if (format.avcC[0] !== 1 || ((format.avcC[4] ?? 0) & 3) !== 3) throw wrong('has an unusual H.264 header');
  return format;
}

function checkTimes(movie: Mp4Movie, { timescale, edits, samples }: Mp4Track): void {
  if (samples.count === 0) throw wrong('has no frames');
  if (timescale !== VIDEO_TIMESCALE) throw wrong(`counts ${timescale} ticks a second instead of ${VIDEO_TIMESCALE}`);
  const odd = samples.durations.findIndex((ticks) => ticks !== TICKS_PER_FRAME);
  if (odd >= 0) throw wrong(`shows frame ${odd} for ${samples.durations[odd]} ticks instead of ${TICKS_PER_FRAME}`);
  if (samples.compositionOffsets !== undefined) throw wrong('has reordered frames (B-frames)');
  if (samples.sync[0] !== 1) throw wrong('does not begin with a frame that can be decoded by itself');
  const [edit, second] = edits;
  if (edit === undefined) return;
  const drift = Math.abs(edit.duration - (samples.count / FPS) * movie.timescale);
  // The muxer rounds the duration to whole ticks of the movie's timescale.
  if (second !== undefined || edit.mediaTime !== 0 || edit.rate !== 1 || drift > 1) {
    throw wrong('has an edit list that moves or cuts frames');
  }
}

/** The `mdat` box, which the samples must fill exactly, in order and without gaps. */
function mediaDataOf(file: Mp4File, { samples }: Mp4Track): TopLevelBox {
  const [data, second] = file.boxes.filter((box) => box.type === 'mdat');
  if (data === undefined || second !== undefined) throw wrong('must have one box mdat');
  let at = data.bodyOffset;
  for (let i = 0; i < samples.count; i++) {
    if (samples.offsets[i] !== at) throw wrong(`has frame ${i} at byte ${samples.offsets[i]} instead of ${at}`);
    at += samples.sizes[i] ?? 0;
  }
  if (at !== data.end) throw wrong(`has frames up to byte ${at}, but media data up to byte ${data.end}`);
  return data;
}

async function readSmallFile(path: string): Promise<Buffer> {
  await using file = await open(path, 'r');
  const { size } = await file.stat();
  if (size > MAX_CHUNK_BYTES) throw wrong(`has ${size} bytes, at most ${MAX_CHUNK_BYTES} are accepted`);
  const data = Buffer.allocUnsafe(size);
  const { bytesRead } = await file.read(data, 0, size, 0);
  return data.subarray(0, bytesRead);
}

/** Each frame is a row of NAL units, each behind its length in 4 bytes (ISO/IEC 14496-15); finds damaged sizes. */
function checkNalUnits(payload: Buffer, sizes: Uint32Array): void {
  let at = 0;
  for (const [frame, size] of sizes.entries()) {
    const end = at + size;
    let slices = 0;
    while (at < end) {
      const next = at + 4 < end ? at + 4 + payload.readUInt32BE(at) : end + 1;
      if (next > end || next === at + 4) throw wrong(`has a damaged frame ${frame}`);
      const type = payload.readUInt8(at + 4) & 0x1f;
      if (type === IDR_SLICE || type === NON_IDR_SLICE) {
        slices++;
        if (frame === 0 && type !== IDR_SLICE) throw wrong('does not begin with an IDR frame');
      }
      at = next;
    }
    if (slices === 0) throw wrong(`has no picture in frame ${frame}`);
  }
}

function wrong(what: string, hint?: string): FarmError {
  return new FarmError('invalid_argument', `the chunk ${what}`, {
    field: 'chunk',
    ...(hint === undefined ? {} : { hint }),
  });
}
