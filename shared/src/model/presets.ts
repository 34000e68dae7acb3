/**
 * Four named groups of render settings. They are those that popular articles on Live Avatar recommend, corrected where what
 * they say crashes upstream, changes nothing there, or mistakes a number of clips for a choice.
 */
import { FarmError } from '../errors.ts';
import { CLIP_SECONDS } from './clip.ts';
import type { UpstreamSize } from './size.ts';

/** Names of the presets. */
export const PRESET_NAMES = ['preview', 'social', 'delivery', 'longform'] as const;

/** One of {@link PRESET_NAMES}. */
export type PresetName = (typeof PRESET_NAMES)[number];

/** Preset of a job that names none. */
export const DEFAULT_PRESET: PresetName = 'delivery';

/** Where the farm departs from what popular articles recommend: the flag, both values in words, and the reason. */
export interface Correction {
  readonly field: string;
  readonly article: string;
  readonly farm: string;
  readonly why: string;
}

/** Settings that a preset decides. */
export interface PresetSettings {
  readonly size: UpstreamSize;
  readonly sampleSteps: number;
  /** Most clips that the preset renders; undefined renders the whole audio. */
  readonly numClip: number | undefined;
}

/** A preset: what the articles recommend, by upstream's flags, what the farm does, and why they differ. */
export interface Preset {
  readonly name: PresetName;
  readonly summary: string;
  readonly article: Readonly<Record<string, string | number | boolean>>;
  readonly settings: PresetSettings;
  readonly corrections: readonly Correction[];
}

const wholeAudio = (clips: number): Correction => ({
  field: 'num_clip',
  article: `${clips}`,
  farm: 'as many clips as the audio has',
  why: `A number of clips is a length in disguise: ${clips} clips are ${(clips * CLIP_SECONDS).toFixed(0)} s at most. The audio fixes the length; a smaller number cuts the video short without a word, a larger one changes nothing.`,
});

const onlineDecode: Correction = {
  field: 'enable_online_decode',
  article: 'on',
  farm: 'every clip is decoded, stored and playable as soon as it is rendered',
  why: "Upstream's flag decodes the first clip early and keeps all others in memory until the end; it writes nothing to disk.",
};

const narrower: Correction = {
  field: 'size',
  article: '688x368',
  farm: '688*368, which is 640x384 for a 16:9 image',
  why: "The size is a budget of pixels; the picture takes the image's aspect in multiples of 64.",
};

/** The presets, cheapest first. */
export const PRESETS: readonly Preset[] = [
  {
    name: 'preview',
    summary: 'Small and short: check portrait, prompt and speech before the real thing.',
    article: { size: '384*256', num_clip: 20, sample_steps: 3, sample_guide_scale: 0, infer_frames: 32 },
    settings: { size: '384*256', sampleSteps: 3, numClip: 20 },
    corrections: [
      {
        field: 'infer_frames',
        article: '32',
        farm: '48',
        why: 'The model works in blocks of 12 frames; with 32 upstream crashes in its second clip.',
      },
      {
        field: 'num_clip',
        article: '20',
        farm: 'at most 20 clips of 48 frames, 38.4 s; fewer when the audio is shorter',
        why: 'A preview is meant to be short, so this cap stays. It is reported when it cuts the audio.',
      },
    ],
  },
  {
    name: 'social',
    summary: 'Short videos for the web: medium picture, three steps.',
    article: { size: '688*368', num_clip: 100, sample_steps: 3, enable_online_decode: true },
    settings: { size: '688*368', sampleSteps: 3, numClip: undefined },
    corrections: [wholeAudio(100), narrower, onlineDecode],
  },
  {
    name: 'delivery',
    summary: 'The finished video: larger picture, four steps.',
    article: { size: '704*384', num_clip: 50, sample_steps: 4, enable_online_decode: true },
    settings: { size: '704*384', sampleSteps: 4, numClip: undefined },
    corrections: [wholeAudio(50), onlineDecode],
  },
  {
    name: 'longform',
    summary: 'Talks and lessons of any length: medium picture, three steps.',
    article: { size: '688*368', num_clip: 1000, sample_steps: 3, enable_online_decode: true, infer_frames: 48 },
    settings: { size: '688*368', sampleSteps: 3, numClip: undefined },
    corrections: [wholeAudio(1000), narrower, onlineDecode],
  },
];

/** The articles' rules that hold for every preset, and what becomes of them. */
export const ARTICLE_RULES: readonly Correction[] = [
  {
    field: 'enable_online_decode',
    article: 'on for more than 200 clips',
    farm: 'always on; turning it off above 200 clips is refused',
    why: 'The farm streams every clip, so memory does not grow with the length of the video.',
  },
  {
    field: 'sample_guide_scale',
    article: 'to leave it at 0',
    farm: '0 is the only value accepted',
    why: 'Upstream takes the number and never reads it; another value would promise an effect that does not come.',
  },
  {
    field: 'size',
    article: '720*400 only on 80 GB hosts',
    farm: 'every slot whose memory holds the picture takes it',
    why: 'What counts is the picture: for a 16:9 image 720*400 gives the same 704x384 as 704*384, for 3:2 it gives 640x448.',
  },
  {
    field: 'sample_steps',
    article: '3, 4 or 5, which trade time for quality',
    farm: '1 to 4',
    why: "Upstream keeps four caches, one per step: a fifth step ends in KeyError '5'. The model was trained for four.",
  },
];

/** The preset of that name. Throws `invalid_argument` on `preset` with the accepted names. */
export function presetOf(name: string): Preset {
  const preset = PRESETS.find((candidate) => candidate.name === name);
  if (preset !== undefined) return preset;
  const message = `preset is ${JSON.stringify(name)}; accepted: ${PRESET_NAMES.join(', ')}`;
  throw new FarmError('invalid_argument', message, { field: 'preset' });
}
