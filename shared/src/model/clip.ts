/**
 * The model's time: frames, clips, audio samples and seeds. Frame i of a job shows the audio at i / 25 s; clip r holds
 * the frames 48r to 48r + 47. Sources: upstream's shared_config.py, causal_s2v_pipeline.py and audio_encoder.py.
 */
import { requireInteger } from './check.ts';

/** Frames per second of every video. */
export const FPS = 25;

/** Frames per clip; upstream's `--infer_frames`, and the attention window that the model was trained with. */
export const CLIP_FRAMES = 48;

/** Seconds per clip. */
export const CLIP_SECONDS = CLIP_FRAMES / FPS;

/** Frames that a model call loses at its start: the first latent decodes to one frame instead of four. */
export const LOST_FRAMES = 3;

/** Samples per second of the audio that conditions the model, mono. */
export const MODEL_SAMPLE_RATE = 16_000;

/** Samples per second of the audio in the finished video. */
export const DELIVERY_SAMPLE_RATE = 48_000;

/**
 * Clips that one model call can render: upstream's table of rotary positions (causal_model_s2v.py) ends at 45000
 * latents, of which the reference frame may sit 30 ahead of the clip; beyond, the GPU process dies of an assertion.
 */
export const MAX_CLIPS_PER_CALL = 3747;

/** Largest number of clips that a job can have; about 260 years. Bounds seeds only. */
const MAX_CLIP_INDEX = 2 ** 32 - 1;

/** Largest base seed, so that the seed of any clip is still an exact integer. */
export const MAX_BASE_SEED = Number.MAX_SAFE_INTEGER - MAX_CLIP_INDEX;

/** Features per second after upstream's interpolation of the 50 Hz speech features. */
const FEATURE_RATE = 30;

/** Speech features per second before interpolation. */
const RAW_FEATURE_RATE = 50;

/** Samples that the first speech feature spans, and samples from one to the next: wav2vec2's convolutions. */
const RECEPTIVE_SAMPLES = 400;
const STRIDE_SAMPLES = 320;

/** Frames of a video for audio of that length: 25 x samples / sampleRate, rounded half up, without rounding errors. */
export function framesForSamples(samples: number, sampleRate: number): number {
  requireInteger('samples', samples, 0);
  requireInteger('sampleRate', sampleRate, 1, 2 ** 32);
  const rest = samples % sampleRate;
  const wholeSeconds = (samples - rest) / sampleRate;
  return wholeSeconds * FPS + Math.floor((2 * FPS * rest + sampleRate) / (2 * sampleRate));
}

/** Clips that hold that many frames; the last one may be shorter. */
export function clipsForFrames(frames: number): number {
  requireInteger('frames', frames, 0);
  return Math.ceil(frames / CLIP_FRAMES);
}

/** Frames in a clip of a job of `totalFrames`: 48, or what is left for the last. Throws for a clip outside the job. */
export function framesInClip(clip: number, totalFrames: number): number {
  requireInteger('clip', clip, 0, Math.max(0, clipsForFrames(totalFrames) - 1));
  return Math.min(CLIP_FRAMES, totalFrames - clip * CLIP_FRAMES);
}

/**
 * Clips that upstream makes of audio of that many 16 kHz samples: its own formula (audio_encoder.py), in its own
 * floating point, which decides some lengths. 0 where upstream fails because the audio is too short for one feature.
 */
export function upstreamClipCount(samples16k: number): number {
  requireInteger('samples16k', samples16k, 0);
  const features = features30(rawFeatures(samples16k));
  if (features < 1) return 0;
  return Math.trunc(features / (CLIP_FRAMES * (FEATURE_RATE / FPS))) + 1;
}

/** Fewest 16 kHz samples for which upstream makes at least `clips` clips; shorter audio is padded to it with silence. */
export function modelAudioSamples(clips: number): number {
  requireInteger('clips', clips, 1, MAX_CLIP_INDEX);
  const features = Math.max(1, Math.ceil(((clips - 1) * CLIP_FRAMES * FEATURE_RATE) / FPS));
  let raw = Math.ceil((features * RAW_FEATURE_RATE) / FEATURE_RATE);
  // Upstream's floating point may fall just short of the whole number: 115 / 50 * 30 is 68.99999999999999.
  while (features30(raw) < features) raw += 1;
  return (raw - 1) * STRIDE_SAMPLES + RECEPTIVE_SAMPLES;
}

/** Seed of a clip's noise: `baseSeed + clip`, as upstream counts within one call, whoever renders it. */
export function seedOfClip(baseSeed: number, clip: number): number {
  requireInteger('base_seed', baseSeed, 0, MAX_BASE_SEED);
  requireInteger('clip', clip, 0, MAX_CLIP_INDEX);
  return baseSeed + clip;
}

function rawFeatures(samples: number): number {
  if (samples < RECEPTIVE_SAMPLES) return 0;
  return Math.floor((samples - RECEPTIVE_SAMPLES) / STRIDE_SAMPLES) + 1;
}

function features30(raw: number): number {
  return Math.trunc((raw / RAW_FEATURE_RATE) * FEATURE_RATE);
}
