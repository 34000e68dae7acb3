import { type FileHandle, open, stat } from 'node:fs/promises';
import { FarmError } from '@clipfarm/shared/errors';
import { LOCAL_ONLY } from '@clipfarm/shared/media/encode';
import type { Ffmpeg } from '@clipfarm/shared/media/ffmpeg';
import { AUDIO_LIMITS, runLimited } from '@clipfarm/shared/media/limited';
import { z } from 'zod';
import { ACCEPTED_AUDIO, type AudioFormat, id3TagBytes, SNIFF_BYTES, sniffAudio } from './audio-format.ts';
import { findRiffChunk } from './wav.ts';

/** What an upload turned out to be. */
export interface AudioSource {
  /** Channels of its first audio stream. */
  readonly channels: number;
  /** How long it says that it plays, in seconds, which need not be true; undefined when it doesn't say. */
  readonly claimedSeconds: number | undefined;
  /** FFmpeg's arguments that name it as input: how strict to be, the reader, the path. */
  readonly input: readonly string[];
}

const TIMEOUT_MS = 60_000;

/**
 * Options of FFmpeg's readers and decoders. It decodes all covers of an album before anything else, whether they are wanted
 * or not: eight of 16000x16000 pixels, which pack into half a megabyte, take 2 GB. Without a limit of one allocation,
 * compressed text in a cover takes as much.
 */
const COVER_LIMIT = [
  '-max_streams',
  '16',
  '-max_pixels',
  String(32 * 1024 ** 2),
  '-max_alloc',
  String(384 * 1024 ** 2),
];

/** Bytes of a WAV in which its `data` chunk must begin for a streamed size to be noticed. */
const WAV_HEADER_BYTES = 64 * 1024;

/** Programs that write a WAV into a pipe can't know its size and put one from here to 2^32 - 1 in its place. */
const STREAMED_WAV_BYTES = 0x7ffff000;

/** Packets of sound in a byte: the oldest codecs of QuickTime count every sample, of which a byte holds up to six. */
const MAX_PACKETS_PER_BYTE = 16;

/** At most this much of a tool's complaint is shown. */
const COMPLAINT_CHARACTERS = 500;

const probeResult = z.object({
  streams: z.array(
    z.object({
      codec_type: z.string().optional(),
      codec_name: z.string().optional(),
      width: z.number().optional(),
      height: z.number().optional(),
      channels: z.number().optional(),
      nb_frames: z.string().optional(),
      bit_rate: z.string().optional(),
      disposition: z.object({ attached_pic: z.number() }).optional(),
    }),
  ),
  format: z.object({ duration: z.string().optional() }).optional(),
});

/**
 * Finds out how to read an upload that should be audio, by its first bytes and what FFmpeg finds in it.
 *
 * @throws FarmError `invalid_argument` (field `audio`) when it is no accepted file, has no audio stream, or has a video
 *   stream other than a cover picture; the system's error when the file can't be read.
 */
export async function probeAudio(ffmpeg: Ffmpeg, path: string, signal?: AbortSignal): Promise<AudioSource> {
  const { format, streamed } = await recognise(path);
  const input = [...COVER_LIMIT, '-f', format.demuxer, '-i', path];
  const argv = [
    ...['-v', 'error', ...LOCAL_ONLY, '-of', 'json', '-show_entries'],
    ...[
      'stream=codec_type,codec_name,width,height,channels,nb_frames,bit_rate:stream_disposition=attached_pic:format=duration',
      ...input,
    ],
  ];
  const options = { timeoutMs: TIMEOUT_MS, ...(signal === undefined ? {} : { signal }) };
  const run = runLimited(ffmpeg, 'ffprobe', argv, AUDIO_LIMITS, options);
  const { stdout } = await run.catch((error: unknown) => {
    const failure = FarmError.from(error);
    if (failure.code !== 'internal') throw failure;
    throw badAudio(`it is no readable ${format.name} file: ${shortComplaint(failure.message, path)}`);
  });
  const { streams, format: whole } = probeResult.parse(JSON.parse(stdout.toString('utf8')));
  const claimed = streams.reduce((sum, stream) => sum + Number(stream.nb_frames ?? 0), 0);
  const { size } = await stat(path);
  // FFmpeg keeps them in a table of 24 bytes each.
  if (claimed > size * MAX_PACKETS_PER_BYTE)
    throw badAudio(`its tables tell of ${claimed} packets of sound, and it has ${size} bytes in all`);
  // A cover picture of an album is a video stream of one attached frame.
  const video = streams.find((stream) => stream.codec_type === 'video' && stream.disposition?.attached_pic !== 1);
  if (video !== undefined) {
    const what = `${video.codec_name ?? 'unknown codec'}, ${video.width ?? 0}x${video.height ?? 0}`;
    throw badAudio(`it holds a video stream (${what})`, 'Submit the sound alone: ffmpeg -i INPUT -vn -c:a copy OUTPUT');
  }
  const audio = streams.find((stream) => stream.codec_type === 'audio');
  if (audio === undefined) throw badAudio(`it is a ${format.name} file without an audio stream`);
  // The last packet of a streamed WAV looks cut off to FFmpeg; PCM has no other faults that a decoder could find.
  const seconds = streamed ? (size * 8) / Number(audio.bit_rate) : Number(whole?.duration);
  const claimedSeconds = Number.isFinite(seconds) && seconds > 0 ? seconds : undefined;
  return { channels: audio.channels ?? 2, claimedSeconds, input: [...(streamed ? [] : ['-xerror']), ...input] };
}

/** The error for audio that can't be used. */
export function badAudio(why: string, hint = `Give a ${ACCEPTED_AUDIO} file.`): FarmError {
  return new FarmError('invalid_argument', `audio: ${why}`, { field: 'audio', hint });
}

/**
 * What FFmpeg complained about, for the one whose file it is: each thing once, in one line, without the coordinator's
 * paths, memory addresses and exit status.
 */
export function shortComplaint(text: string, path: string): string {
  const lines = text
    .replace(/^\S+ ended with (?:status \d+|signal \w+): /, '')
    .split(/[\r\n]+/)
    .map((line) => line.replaceAll(`${path}: `, '').replaceAll(path, 'the file'))
    .map((line) => line.replaceAll(/\[([^\]]+?) @ 0x[0-9a-f]+\] /g, '').trim())
    .filter((line) => line !== '');
  return [...new Set(lines)].join('; ').slice(0, COMPLAINT_CHARACTERS);
}

async function recognise(path: string): Promise<{ readonly format: AudioFormat; readonly streamed: boolean }> {
  await using file = await open(path, 'r');
  const head = await readAt(file, 0, SNIFF_BYTES);
  const tag = id3TagBytes(head);
  const format = sniffAudio(tag === 0 ? head : await readAt(file, tag, SNIFF_BYTES), tag > 0);
  if (format === undefined) {
    throw badAudio(`it begins with ${head.toString('hex', 0, 8) || 'nothing'}, not like a ${ACCEPTED_AUDIO} file`);
  }
  return { format, streamed: format.demuxer === 'wav' && (await isStreamedWav(file)) };
}

async function isStreamedWav(file: FileHandle): Promise<boolean> {
  const data = findRiffChunk(await readAt(file, 0, WAV_HEADER_BYTES), 'data');
  if (data === undefined || data.bytes < STREAMED_WAV_BYTES) return false;
  return data.at + data.bytes > (await file.stat()).size;
}

async function readAt(file: FileHandle, offset: number, bytes: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, offset);
  return buffer.subarray(0, bytesRead);
}
