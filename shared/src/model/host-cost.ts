/** What a runner needs of its host's memory, by the picture's units of 64x64 pixels. */
import { CLIP_SECONDS } from './clip.ts';
import { GIB } from './gpu-cost.ts';

/** Bytes of one clip as upstream keeps it: 48 frames of 4096 pixels a unit, three channels of four bytes. */
const UPSTREAM_CLIP_BYTES_PER_UNIT = 48 * 4096 * 3 * 4;

/** Copies of the whole video that upstream has at once while it writes it: as handed over, clamped, listed, stacked. */
const UPSTREAM_COPIES = 4;

/** Bytes that upstream's script has in use beside the video. Arithmetic; 14.1e9 were measured after loading alone. */
const UPSTREAM_BASE_BYTES = 20e9;

/** Bytes while clips are rendered: 13.4 to 16.3 GiB were measured on an H200, most of it the text encoder. */
const STREAMING_BASE_BYTES = 16.5 * GIB;

/** The same for the five processes of upstream's 5-GPU mode, of which each keeps a text encoder. Arithmetic. */
const TPP_BASE_BYTES = 30e9 + 2 * GIB;

/** Bytes per second of audio: 25 frames of 25 layers of 1024 features of two bytes. */
const FEATURE_BYTES_PER_SECOND = 25 * 25 * 1024 * 2;

/** Bytes of the text encoder in bf16. */
const TEXT_ENCODER_BYTES = 11.4e9;

/** Bytes of Python, torch and the other models while the text encoder is loaded; 2.5 GiB were measured. */
const PROCESS_BYTES = 2.5 * GIB;

/** Processes of upstream's 5-GPU mode. */
const TPP_PROCESSES = 5;

/** How a runner uses its host. */
export type HostUse = 'streaming' | 'tpp' | 'upstream';

/**
 * Bytes that a runner needs while it renders.
 *
 * @param clips of the job for a runner that streams (features of its audio), of one model call for upstream's script
 */
export function hostBytes(use: HostUse, units: number, clips: number): number {
  if (use === 'upstream') return UPSTREAM_BASE_BYTES + UPSTREAM_COPIES * UPSTREAM_CLIP_BYTES_PER_UNIT * units * clips;
  const base = use === 'tpp' ? TPP_BASE_BYTES : STREAMING_BASE_BYTES;
  return base + FEATURE_BYTES_PER_SECOND * CLIP_SECONDS * clips;
}

/**
 * Bytes that a runner needs while it loads the model: the text encoder beside the file that it is read from, which
 * upstream's script makes in 32 bits first and the others don't. Arithmetic from the code, not measured.
 */
export function hostBytesToLoad(use: HostUse): number {
  const encoder = use === 'upstream' ? 2 * TEXT_ENCODER_BYTES : TEXT_ENCODER_BYTES;
  return (encoder + TEXT_ENCODER_BYTES + PROCESS_BYTES) * (use === 'tpp' ? TPP_PROCESSES : 1);
}

/** Most clips of one model call that upstream's script can keep in that much memory; 0 when it can't even start. */
export function upstreamClipsIn(bytes: number, units: number): number {
  const perClip = UPSTREAM_COPIES * UPSTREAM_CLIP_BYTES_PER_UNIT * units;
  return Math.max(0, Math.floor((bytes - UPSTREAM_BASE_BYTES) / perClip));
}

/** Runners of a host that may load at the same time, so that all of them fit beside those that are loaded; at least 1. */
export function loadsAtOnce(hostBytesFree: number, runners: number, use: HostUse): number {
  const steady = hostBytes(use, 0, 0);
  const extra = hostBytesToLoad(use) - steady;
  if (extra <= 0) return runners;
  return Math.min(runners, Math.max(1, Math.floor((hostBytesFree - runners * steady) / extra)));
}
