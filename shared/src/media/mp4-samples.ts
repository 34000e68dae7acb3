import { boxVersion, damaged, type Mp4Box, oneBox, optionalBox, requireBody } from './mp4-box.ts';

/** The samples (video frames or audio packets) of a track, one array entry each, in decoding order. */
export interface SampleTable {
  readonly count: number;
  /** First byte within the file. */
  readonly offsets: Float64Array;
  /** Bytes. */
  readonly sizes: Uint32Array;
  /** Ticks of the track's timescale. */
  readonly durations: Uint32Array;
  /** 1 where decoding can start. */
  readonly sync: Uint8Array;
  /** Ticks from decoding to showing; absent when every frame is shown when it is decoded. */
  readonly compositionOffsets?: Int32Array;
}

/** Most samples of a track: over four hours of video at 25 a second and of AAC at 48 kHz, several times. */
const MAX_SAMPLES = 4_000_000;

/**
 * Expands the tables of a sample table box (ISO/IEC 14496-12, 8.6 and 8.7). Time and memory are bounded by the size of
 * the boxes and by the number of samples, which is at most four million.
 *
 * @param boxes children of `stbl`.
 * @throws FarmError `invalid_argument` when a table is cut off or the tables disagree on the number of samples.
 */
export function readSampleTable(boxes: readonly Mp4Box[]): SampleTable {
  const sizes = readSizes(oneBox(boxes, 'stsz'));
  const count = sizes.length;
  const offsets = readOffsets(boxes, sizes);
  const durations = new Uint32Array(count);
  fillRuns(oneBox(boxes, 'stts'), durations, (body, at) => body.readUInt32BE(at));
  const sync = readSync(optionalBox(boxes, 'stss'), count);
  const table = { count, offsets, sizes, durations, sync };
  const ctts = optionalBox(boxes, 'ctts');
  if (ctts === undefined) return table;
  const compositionOffsets = new Int32Array(count);
  fillRuns(ctts, compositionOffsets, (body, at) => body.readInt32BE(at));
  return compositionOffsets.every((offset) => offset === 0) ? table : { ...table, compositionOffsets };
}

/** Number of entries of `entryBytes` each that follow the count at `countAt`; they are all there. */
function entryCount(box: Mp4Box, countAt: number, entryBytes: number): number {
  if (boxVersion(box) > 1) throw damaged(`the box ${box.type} has the unknown version ${boxVersion(box)}`);
  requireBody(box, countAt + 4);
  const count = box.body.readUInt32BE(countAt);
  requireBody(box, countAt + 4 + count * entryBytes);
  return count;
}

function readSizes(box: Mp4Box): Uint32Array {
  requireBody(box, 12);
  const common = box.body.readUInt32BE(4);
  const count = box.body.readUInt32BE(8);
  if (count > MAX_SAMPLES) throw damaged(`a track has ${count} samples, at most ${MAX_SAMPLES} are read`);
  if (common !== 0) return new Uint32Array(count).fill(common);
  entryCount(box, 8, 4);
  const sizes = new Uint32Array(count);
  for (let i = 0; i < count; i++) sizes[i] = box.body.readUInt32BE(12 + i * 4);
  return sizes;
}

/** Fills `target` from a table of (how many samples, value); the runs must make up exactly the samples. */
function fillRuns(
  box: Mp4Box,
  target: Uint32Array | Int32Array,
  valueAt: (body: Buffer, offset: number) => number,
): void {
  const runs = entryCount(box, 4, 8);
  let filled = 0;
  for (let run = 0; run < runs; run++) {
    const samples = box.body.readUInt32BE(8 + run * 8);
    if (samples > target.length - filled) throw damaged(`the box ${box.type} describes more samples than there are`);
    target.fill(valueAt(box.body, 12 + run * 8), filled, filled + samples);
    filled += samples;
  }
  if (filled !== target.length) throw damaged(`the box ${box.type} describes ${filled} of ${target.length} samples`);
}

function readSync(box: Mp4Box | undefined, count: number): Uint8Array {
  const sync = new Uint8Array(count);
  if (box === undefined) return sync.fill(1);
  const entries = entryCount(box, 4, 4);
  let last = 0;
  for (let i = 0; i < entries; i++) {
    const sample = box.body.readUInt32BE(8 + i * 4);
    if (sample <= last || sample > count) throw damaged(`the box stss lists sample ${sample} of ${count} out of order`);
    sync[sample - 1] = 1;
    last = sample;
  }
  return sync;
}

/** Where the samples lie: `stsc` says how many samples each run of data chunks holds, `stco` where a chunk begins. */
function readOffsets(boxes: readonly Mp4Box[], sizes: Uint32Array): Float64Array {
  const chunkOffset = readChunkOffsets(boxes);
  const stsc = oneBox(boxes, 'stsc');
  const runs = entryCount(stsc, 4, 12);
  const offsets = new Float64Array(sizes.length);
  let sample = 0;
  let nextChunk = 1;
  for (let run = 0; run < runs; run++) {
    const first = stsc.body.readUInt32BE(8 + run * 12);
    const perChunk = stsc.body.readUInt32BE(12 + run * 12);
    const description = stsc.body.readUInt32BE(16 + run * 12);
    const end = run + 1 < runs ? stsc.body.readUInt32BE(8 + (run + 1) * 12) : chunkOffset.length + 1;
    if (first !== nextChunk || end <= first || end > chunkOffset.length + 1 || perChunk === 0 || description !== 1) {
      throw damaged(`entry ${run + 1} of the box stsc does not fit`);
    }
    for (let chunk = first; chunk < end; chunk++) {
      if (perChunk > sizes.length - sample) throw damaged('the box stsc describes more samples than there are');
      let at = chunkOffset[chunk - 1] ?? 0;
      for (const last = sample + perChunk; sample < last; sample++) {
        offsets[sample] = at;
        at += sizes[sample] ?? 0;
      }
    }
    nextChunk = end;
  }
  if (sample !== sizes.length) throw damaged(`the box stsc describes ${sample} of ${sizes.length} samples`);
  return offsets;
}

function readChunkOffsets(boxes: readonly Mp4Box[]): Float64Array {
  const short = optionalBox(boxes, 'stco');
  const long = optionalBox(boxes, 'co64');
  const box = short ?? long;
  if (box === undefined || (short !== undefined && long !== undefined)) {
    throw damaged('there must be one box stco or one box co64');
  }
  const entryBytes = box === short ? 4 : 8;
  const offsets = new Float64Array(entryCount(box, 4, entryBytes));
  for (let i = 0; i < offsets.length; i++) {
    const at = 8 + i * entryBytes;
    offsets[i] = box === short ? box.body.readUInt32BE(at) : Number(box.body.readBigUInt64BE(at));
  }
  return offsets;
}
