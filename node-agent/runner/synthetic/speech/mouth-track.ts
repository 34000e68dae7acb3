import { FPS, MODEL_SAMPLE_RATE } from '@clipfarm/shared/model/clip';
import { readWav } from '../../common/wav.ts';

/** How the mouth moves over a job, one value per frame of its timeline, each 0 to 1. */
export interface MouthTrack {
  /** How far the mouth is open. */
  readonly open: Float32Array;
  /** How broad it is: hissing consonants bare the teeth, vowels round the lips. */
  readonly broad: Float32Array;
}

/** Loudness and hiss of the sound around each frame. */
export interface SoundTrack {
  /** Root mean square of the samples, 0 to 1. */
  readonly rms: Float32Array;
  /** Root mean square of the differences from sample to sample, relative to `rms`: 0 for a hum, about 1.4 for noise. */
  readonly hiss: Float32Array;
}

/** Samples of one frame: 40 ms. */
const FRAME_SAMPLES = MODEL_SAMPLE_RATE / FPS;

/** Share of the way to a louder, and to a quieter sound that the mouth makes in one frame. */
const ATTACK = 0.75;
const DECAY = 0.45;

/** Loudness relative to the talk's loud passages that leaves the mouth closed. */
const CLOSED_BELOW = 0.1;

/** Loud passages of a talk that has none: room noise must not move the mouth. */
const QUIETEST_REFERENCE = 0.02;

/**
 * Measures the sound of the first `frames` frames of a 16 kHz mono WAV file; silence past its end. A frame's window is
 * centred on the time it shows, `frame / 25` s.
 */
export async function readSoundTrack(path: string, frames: number): Promise<SoundTrack> {
  const energy = new Float64Array(frames);
  const change = new Float64Array(frames);
  let index = FRAME_SAMPLES / 2;
  let previous = 0;
  await readWav(path, (samples) => {
    for (const value of samples) {
      const frame = Math.floor(index / FRAME_SAMPLES);
      if (frame >= frames) return false;
      energy[frame] = (energy[frame] ?? 0) + value * value;
      change[frame] = (change[frame] ?? 0) + (value - previous) ** 2;
      previous = value;
      index += 1;
    }
    return true;
  });
  const rms = Float32Array.from(energy, (sum) => Math.sqrt(sum / FRAME_SAMPLES) / 32768);
  const hiss = Float32Array.from(change, (sum, frame) => Math.sqrt(sum / Math.max(1, energy[frame] ?? 0)));
  return { rms, hiss };
}

/** The mouth for a sound: quick to open, slower to close, in proportion to the talk's own loud passages. */
export function mouthTrack({ rms, hiss }: SoundTrack): MouthTrack {
  const loud = loudPassages(rms);
  const open = new Float32Array(rms.length);
  const broad = new Float32Array(rms.length);
  let opened = 0;
  let width = 0;
  for (let frame = 0; frame < rms.length; frame += 1) {
    const level = (rms[frame] ?? 0) / loud;
    const noisy = clamp(((hiss[frame] ?? 0) - 0.3) / 0.6);
    const target = clamp((level - CLOSED_BELOW) / (1 - CLOSED_BELOW)) ** 0.7 * (1 - 0.45 * noisy);
    opened += (target - opened) * (target > opened ? ATTACK : DECAY);
    width += ((level > CLOSED_BELOW ? noisy : 0.5) - width) * 0.5;
    open[frame] = opened;
    broad[frame] = width;
  }
  return { open, broad };
}

/** The loudness that one frame in twenty exceeds. */
function loudPassages(rms: Float32Array): number {
  const sorted = Float32Array.from(rms).sort();
  return Math.max(QUIETEST_REFERENCE, sorted[Math.floor(sorted.length * 0.95)] ?? 0);
}

function clamp(value: number): number {
  return Math.min(1, Math.max(0, value));
}
