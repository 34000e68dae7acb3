import { TICKS_PER_FRAME, VIDEO_TIMESCALE } from '@clipfarm/shared/media/encode';
import { DELIVERY_SAMPLE_RATE, FPS } from '@clipfarm/shared/model/clip';
import { box, fullBox, u8, u16, u32, u32Table, u64Table } from './mp4-box-write.ts';

/** Where the samples of a track lie: runs of samples that stand back to back in the file, in order. */
export interface TrackData {
  /** Bytes of each sample. */
  readonly sizes: readonly number[] | Uint32Array;
  readonly runs: readonly SampleRun[];
}

/** Samples that stand back to back; a "chunk" in the words of ISO/IEC 14496-12. */
export interface SampleRun {
  /** First byte within the file. */
  readonly offset: number;
  readonly samples: number;
}

/** The video track of a finished file. */
export interface VideoTrackData extends TrackData {
  readonly width: number;
  readonly height: number;
  readonly avcC: Buffer;
}

/** The audio track of a finished file. */
export interface AudioTrackData extends TrackData {
  /** The `mp4a` box as the encoder's file had it. */
  readonly sampleEntry: Buffer;
  /** Samples (48 kHz) that each packet stands for. */
  readonly durations: Uint32Array;
  /** Samples at the beginning that are the encoder's delay and are not played. */
  readonly priming: number;
  /** Samples after which the sound ends, where that is before the end of the last packet. */
  readonly played?: number;
}

/** Ticks a second of the movie: both video frames and audio samples last a whole number of them. */
const MOVIE_TIMESCALE = DELIVERY_SAMPLE_RATE;

const UNITY_MATRIX = u32(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000);
const VIDEO_TRACK_ID = 1;
const AUDIO_TRACK_ID = 2;
const LARGEST_UINT32 = 2 ** 32 - 1;

/**
 * The first box of the file. The brands are those that FFmpeg writes for H.264 and AAC.
 */
export const FTYP = box('ftyp', Buffer.from('isom'), u32(0x200), Buffer.from('isomiso2avc1mp41'));

/**
 * The `moov` box of a finished video: constant frame rate, audio behind an edit list that hides the encoder's delay.
 * The same data gives the same bytes; no times of day are written. Layout: ISO/IEC 14496-12, -14 and -15.
 */
export function buildMoov(video: VideoTrackData, audio: AudioTrackData): Buffer {
  const videoDuration = video.sizes.length * (MOVIE_TIMESCALE / FPS);
  const audioDuration = playedSamples(audio);
  const duration = Math.max(videoDuration, audioDuration);
  const mvhd = fullBox(
    'mvhd',
    ...[0, 0],
    u32(0, 0, MOVIE_TIMESCALE, duration, 0x10000),
    ...[u16(0x100), Buffer.alloc(10), UNITY_MATRIX, Buffer.alloc(24), u32(AUDIO_TRACK_ID + 1)],
  );
  return box('moov', mvhd, videoTrak(video, videoDuration), audioTrak(audio, audioDuration));
}

/** Samples (48 kHz) of the track that are played: all but the encoder's delay, and what is cut off at the end. */
export function playedSamples(audio: Pick<AudioTrackData, 'durations' | 'priming' | 'played'>): number {
  return Math.min(audio.played ?? Number.POSITIVE_INFINITY, totalTicks(audio.durations) - audio.priming);
}

function totalTicks(durations: Uint32Array): number {
  return durations.reduce((sum, ticks) => sum + ticks, 0);
}

function videoTrak(video: VideoTrackData, duration: number): Buffer {
  const table = box(
    'stbl',
    fullBox('stsd', 0, 0, u32(1), visualSampleEntry(video)),
    fullBox('stts', 0, 0, u32(1, video.sizes.length, TICKS_PER_FRAME)),
    fullBox('stss', 0, 0, u32(video.runs.length), firstOfEachRun(video.runs)),
    ...placeBoxes(video),
  );
  const tkhd = trackHeader({ id: VIDEO_TRACK_ID, duration, volume: 0, width: video.width, height: video.height });
  const header = fullBox('vmhd', 0, 1, Buffer.alloc(8));
  return box('trak', tkhd, mediaBox('vide', VIDEO_TIMESCALE, video.sizes.length * TICKS_PER_FRAME, header, table));
}

function audioTrak(audio: AudioTrackData, duration: number): Buffer {
  const table = box(
    'stbl',
    fullBox('stsd', 0, 0, u32(1), audio.sampleEntry),
    timeToSample(audio.durations),
    ...placeBoxes(audio),
    // Every packet needs the one before it to decode right: a roll of -1, so that players start one earlier.
    fullBox('sgpd', 1, 0, Buffer.from('roll'), u32(2, 1), u16(0xffff)),
    fullBox('sbgp', 0, 0, Buffer.from('roll'), u32(1, audio.sizes.length, 1)),
  );
  const tkhd = trackHeader({ id: AUDIO_TRACK_ID, duration, volume: 0x100, width: 0, height: 0 });
  const edits = box('edts', fullBox('elst', 0, 0, u32(1, duration, audio.priming, 0x10000)));
  const header = fullBox('smhd', 0, 0, u32(0));
  return box('trak', tkhd, edits, mediaBox('soun', DELIVERY_SAMPLE_RATE, totalTicks(audio.durations), header, table));
}

function trackHeader(track: {
  readonly id: number;
  readonly duration: number;
  readonly volume: number;
  readonly width: number;
  readonly height: number;
}): Buffer {
  const enabledAndInMovie = 3;
  return fullBox(
    'tkhd',
    ...[0, enabledAndInMovie],
    u32(0, 0, track.id, 0, track.duration, 0, 0),
    u16(0, 0, track.volume, 0),
    UNITY_MATRIX,
    u32(track.width * 0x10000, track.height * 0x10000),
  );
}

function mediaBox(
  handler: 'vide' | 'soun',
  timescale: number,
  duration: number,
  header: Buffer,
  table: Buffer,
): Buffer {
  const undetermined = 0x55c4;
  const name = handler === 'vide' ? 'VideoHandler\0' : 'SoundHandler\0';
  return box(
    'mdia',
    fullBox('mdhd', 0, 0, u32(0, 0, timescale, duration), u16(undetermined, 0)),
    fullBox('hdlr', 0, 0, u32(0), Buffer.from(handler), Buffer.alloc(12), Buffer.from(name)),
    box('minf', header, box('dinf', fullBox('dref', 0, 0, u32(1), fullBox('url ', 0, 1))), table),
  );
}

/** The colour box says what the chunks' encoder was told: BT.709, limited range; pixels are square. */
function visualSampleEntry({ width, height, avcC }: VideoTrackData): Buffer {
  return box(
    'avc1',
    ...[Buffer.alloc(6), u16(1), Buffer.alloc(16), u16(width, height), u32(0x480000, 0x480000, 0)],
    ...[u16(1), Buffer.alloc(32), u16(24, 0xffff)],
    box('avcC', avcC),
    box('colr', Buffer.from('nclx'), u16(1, 1, 1), u8(0)),
    box('pasp', u32(1, 1)),
  );
}

/** Numbers, from 1, of the frames that begin a clip: only these are sure to be decodable by themselves. */
function firstOfEachRun(runs: readonly SampleRun[]): Buffer {
  let next = 1;
  const firsts = runs.map(({ samples }) => {
    const first = next;
    next += samples;
    return first;
  });
  return u32Table(firsts);
}

function timeToSample(durations: Uint32Array): Buffer {
  const entries: number[] = [];
  for (const ticks of durations) {
    const last = entries.length - 1;
    if (entries[last] === ticks) entries[last - 1] = (entries[last - 1] ?? 0) + 1;
    else entries.push(1, ticks);
  }
  return fullBox('stts', 0, 0, u32(entries.length / 2), u32Table(entries));
}

/** Sizes, samples in each run, and where the runs are; 64-bit places only where 32 bits don't reach. */
function placeBoxes({ sizes, runs }: TrackData): readonly Buffer[] {
  const perRun: number[] = [];
  let last = 0;
  for (const [index, { samples }] of runs.entries()) {
    if (samples !== last) perRun.push(index + 1, samples, 1);
    last = samples;
  }
  const offsets = runs.map(({ offset }) => offset);
  const far = offsets.some((offset) => offset > LARGEST_UINT32);
  return [
    fullBox('stsc', 0, 0, u32(perRun.length / 3), u32Table(perRun)),
    fullBox('stsz', 0, 0, u32(0, sizes.length), u32Table(sizes)),
    fullBox(far ? 'co64' : 'stco', 0, 0, u32(offsets.length), far ? u64Table(offsets) : u32Table(offsets)),
  ];
}
