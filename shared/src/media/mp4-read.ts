import { type FileHandle, open } from 'node:fs/promises';
import {
  boxesIn,
  boxVersion,
  damaged,
  MAX_BOX_HEADER_BYTES,
  type Mp4Box,
  oneBox,
  optionalBox,
  readBoxHeader,
  readUint64,
  requireBody,
} from './mp4-box.ts';
import { readSampleTable, type SampleTable } from './mp4-samples.ts';

/** A box at the top level of a file. */
export interface TopLevelBox {
  readonly type: string;
  /** First byte of the header within the file. */
  readonly offset: number;
  /** First byte after the header. */
  readonly bodyOffset: number;
  /** One past the last byte. */
  readonly end: number;
}

/** One stretch of a track's timeline: what is shown, and for how long. */
export interface Edit {
  /** Ticks of the movie's timescale. */
  readonly duration: number;
  /** Ticks of the track's timescale; -1 for an empty stretch. */
  readonly mediaTime: number;
  /** 1 is normal speed. */
  readonly rate: number;
}

/** What the stream header says; `other` is any track that is neither H.264 video nor MPEG-4 audio. */
export type TrackFormat =
  | {
      readonly kind: 'video';
      readonly width: number;
      readonly height: number;
      /** Body of the `avcC` box: profile, level, parameter sets. */
      readonly avcC: Buffer;
    }
  | { readonly kind: 'audio'; readonly channels: number; readonly sampleRate: number }
  | { readonly kind: 'other' };

/** A track. */
export interface Mp4Track {
  /** Four characters of the sample entry, for example `avc1`. */
  readonly codec: string;
  readonly format: TrackFormat;
  /** The sample entry as it stands in the file. */
  readonly sampleEntry: Buffer;
  /** Ticks a second. */
  readonly timescale: number;
  /** Empty when the track has no edit list. */
  readonly edits: readonly Edit[];
  readonly samples: SampleTable;
}

/** A `moov` box. */
export interface Mp4Movie {
  /** Ticks a second of edit durations. */
  readonly timescale: number;
  readonly tracks: readonly Mp4Track[];
}

/** A whole file. */
export interface Mp4File {
  readonly bytes: number;
  readonly boxes: readonly TopLevelBox[];
  readonly movie: Mp4Movie;
}

/** More top-level boxes than this is no file of ours. */
const MAX_TOP_LEVEL_BOXES = 64;

/** More tracks than this is no file of ours. */
const MAX_TRACKS = 8;

/** More entries of an edit list than this is no file of ours. */
const MAX_EDITS = 64;

/** Fixed parts of the sample entries, from the first body byte to the first child box. */
const VISUAL_ENTRY_BYTES = 78;
const AUDIO_ENTRY_BYTES = 28;

/**
 * Reads the tables of an MP4 without fragments, whatever its size: of the media data only the headers are read.
 *
 * @param maxMoovBytes a larger `moov` is refused before it is read.
 * @throws FarmError `invalid_argument` for anything that is not such a file, also when its end is missing; the
 *   system's error when the file can't be read.
 */
export async function readMp4(path: string, maxMoovBytes: number): Promise<Mp4File> {
  await using file = await open(path, 'r');
  const { size } = await file.stat();
  const boxes = await topLevelBoxes(file, size);
  const moov = onlyMoov(boxes, maxMoovBytes);
  return { bytes: size, boxes, movie: parseMovie(await readAt(file, moov.bodyOffset, moov.end - moov.bodyOffset)) };
}

/**
 * {@link readMp4} for a file that lies in memory. Pure.
 *
 * @throws FarmError `invalid_argument`, and nothing else, whatever the bytes are.
 */
export function parseMp4(data: Buffer, maxMoovBytes: number): Mp4File {
  let end = 0;
  const boxes = boxesIn(data).map(({ type, raw, body }) => {
    end += raw.length;
    return { type, offset: end - raw.length, bodyOffset: end - body.length, end };
  });
  const moov = onlyMoov(boxes, maxMoovBytes);
  return { bytes: data.length, boxes, movie: parseMovie(data.subarray(moov.bodyOffset, moov.end)) };
}

/** Parses the body of a `moov` box; time and memory are bounded by its size and by four million samples a track. */
function parseMovie(body: Buffer): Mp4Movie {
  const boxes = boxesIn(body);
  if (optionalBox(boxes, 'mvex') !== undefined) throw damaged('it is fragmented');
  const traks = boxes.filter((box) => box.type === 'trak');
  if (traks.length > MAX_TRACKS) throw damaged(`it has ${traks.length} tracks, at most ${MAX_TRACKS} are read`);
  return { timescale: readTimescale(oneBox(boxes, 'mvhd')), tracks: traks.map(readTrack) };
}

function onlyMoov(boxes: readonly TopLevelBox[], maxBytes: number): TopLevelBox {
  const [moov, second] = boxes.filter((box) => box.type === 'moov');
  if (moov === undefined || second !== undefined) throw damaged('there must be one box moov');
  const bytes = moov.end - moov.bodyOffset;
  if (bytes > maxBytes) throw damaged(`its moov has ${bytes} bytes, at most ${maxBytes} are read`);
  return moov;
}

async function topLevelBoxes(file: FileHandle, size: number): Promise<readonly TopLevelBox[]> {
  const boxes: TopLevelBox[] = [];
  for (let offset = 0; offset < size; ) {
    if (boxes.length === MAX_TOP_LEVEL_BOXES) throw damaged(`it has more than ${MAX_TOP_LEVEL_BOXES} boxes`);
    const head = await readAt(file, offset, Math.min(MAX_BOX_HEADER_BYTES, size - offset));
    const { type, headerBytes, bytes } = readBoxHeader(head, 0, size - offset);
    boxes.push({ type, offset, bodyOffset: offset + headerBytes, end: offset + bytes });
    offset += bytes;
  }
  return boxes;
}

async function readAt(file: FileHandle, offset: number, bytes: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(bytes);
  const { bytesRead } = await file.read(buffer, 0, bytes, offset);
  if (bytesRead !== bytes) throw damaged('it became shorter while it was read');
  return buffer;
}

function readTrack(trak: Mp4Box): Mp4Track {
  const boxes = boxesIn(trak.body);
  const media = boxesIn(oneBox(boxes, 'mdia').body);
  const table = boxesIn(oneBox(boxesIn(oneBox(media, 'minf').body), 'stbl').body);
  const entry = readSampleEntry(oneBox(table, 'stsd'));
  return {
    codec: entry.type,
    format: readFormat(entry),
    sampleEntry: entry.raw,
    timescale: readTimescale(oneBox(media, 'mdhd')),
    edits: readEdits(optionalBox(boxes, 'edts')),
    samples: readSampleTable(table),
  };
}

/** `mvhd` and `mdhd` begin alike: version, two times, timescale, duration. */
function readTimescale(box: Mp4Box): number {
  const version = boxVersion(box);
  if (version > 1) throw damaged(`the box ${box.type} has the unknown version ${version}`);
  const at = version === 1 ? 20 : 12;
  requireBody(box, at + 4);
  const timescale = box.body.readUInt32BE(at);
  if (timescale === 0) throw damaged(`the box ${box.type} says 0 ticks a second`);
  return timescale;
}

function readEdits(edts: Mp4Box | undefined): readonly Edit[] {
  const elst = edts === undefined ? undefined : optionalBox(boxesIn(edts.body), 'elst');
  if (elst === undefined) return [];
  const version = boxVersion(elst);
  if (version > 1) throw damaged(`the box elst has the unknown version ${version}`);
  requireBody(elst, 8);
  const count = elst.body.readUInt32BE(4);
  const entryBytes = version === 1 ? 20 : 12;
  requireBody(elst, 8 + count * entryBytes);
  if (count > MAX_EDITS) throw damaged(`it has ${count} edits, at most ${MAX_EDITS} are read`);
  return Array.from({ length: count }, (_, i) => {
    const at = 8 + i * entryBytes;
    const wide = version === 1;
    return {
      duration: wide ? readUint64(elst, at) : elst.body.readUInt32BE(at),
      mediaTime: wide ? Number(elst.body.readBigInt64BE(at + 8)) : elst.body.readInt32BE(at + 4),
      rate: elst.body.readInt32BE(at + entryBytes - 4) / 65_536,
    };
  });
}

/** The only sample entry, so that one stream header holds for the whole track. */
function readSampleEntry(stsd: Mp4Box): Mp4Box {
  requireBody(stsd, 8);
  const entries = boxesIn(stsd.body.subarray(8));
  const [entry] = entries;
  if (stsd.body.readUInt32BE(4) !== 1 || entry === undefined || entries.length !== 1) {
    throw damaged('a track has more than one kind of sample');
  }
  return entry;
}

function readFormat(entry: Mp4Box): TrackFormat {
  if (entry.type === 'avc1') {
    requireBody(entry, VISUAL_ENTRY_BYTES);
    const avcC = oneBox(boxesIn(entry.body.subarray(VISUAL_ENTRY_BYTES)), 'avcC').body;
    return { kind: 'video', width: entry.body.readUInt16BE(24), height: entry.body.readUInt16BE(26), avcC };
  }
  if (entry.type === 'mp4a') {
    requireBody(entry, AUDIO_ENTRY_BYTES);
    return { kind: 'audio', channels: entry.body.readUInt16BE(16), sampleRate: entry.body.readUInt16BE(24) };
  }
  return { kind: 'other' };
}
