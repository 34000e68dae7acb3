/** Render settings: what a submitter may ask for, what it resolves to, and what is refused before any GPU time. */
import { z } from 'zod';
import { FarmError } from '../errors.ts';
import { requireInteger } from './check.ts';
import { CLIP_FRAMES, clipsForFrames, FPS, MAX_BASE_SEED } from './clip.ts';
import { DEFAULT_PRESET, type PresetName, presetOf } from './presets.ts';
import { parseSize, type UpstreamSize } from './size.ts';

/** Most denoising steps: upstream keeps four caches, one per step. */
export const MAX_SAMPLE_STEPS = 4;

/** Clips above which switching online decode off is refused. */
export const ONLINE_DECODE_CLIPS = 200;

/** Reference pictures that spans after the first may take. */
export const ANCHORS = ['first_frame', 'image'] as const;

/** The job's first generated frame, or the submitted image. */
export type AnchorSource = (typeof ANCHORS)[number];

/** Settings as submitted. Every field is optional; unset ones take the preset's value. */
export const settingsInput = z.strictObject({
  /** Name of a preset; `delivery` when unset or empty. */
  preset: z.string().optional(),
  /** Pixel budget as upstream spells it, `704*384` or `704x384`. */
  size: z.string().optional(),
  /** Number of clips; unset renders the whole audio, or as much as the preset allows. */
  numClip: z.number().optional(),
  /** Denoising steps per block, 1 to 4. */
  sampleSteps: z.number().optional(),
  /** Frames per clip; 48. */
  inferFrames: z.number().optional(),
  /** Seed of clip 0; negative means that one is drawn. */
  baseSeed: z.number().optional(),
  /** Guidance; 0. */
  sampleGuideScale: z.number().optional(),
  /** Decode while rendering; the farm always does. */
  enableOnlineDecode: z.boolean().optional(),
  /** Sampler; `euler`. */
  sampleSolver: z.string().optional(),
  /** Reference picture of spans after the first; `first_frame` when unset. */
  anchor: z.enum(ANCHORS).optional(),
});

/** See {@link settingsInput}. */
export type SettingsInput = z.infer<typeof settingsInput>;

/** Settings with every choice made. */
export interface ResolvedSettings {
  readonly preset: PresetName;
  readonly size: UpstreamSize;
  /** The number asked for, or the preset's cap; undefined renders the whole audio. */
  readonly numClip: number | undefined;
  readonly sampleSteps: number;
  readonly inferFrames: typeof CLIP_FRAMES;
  /** Undefined where the coordinator is to draw one of 0 to {@link MAX_BASE_SEED}. */
  readonly baseSeed: number | undefined;
  readonly sampleGuideScale: 0;
  readonly enableOnlineDecode: boolean;
  readonly sampleSolver: 'euler';
  readonly anchor: AnchorSource;
}

/** Untyped settings, as from a file or JSON, checked for names and types. Throws `invalid_argument` on the field. */
export function parseSettings(value: unknown): SettingsInput {
  const parsed = settingsInput.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  if (issue?.code === 'unrecognized_keys') {
    const field = issue.keys[0] ?? 'settings';
    const accepted = Object.keys(settingsInput.shape).join(', ');
    throw refusal(field, `${field} is not a render setting; accepted: ${accepted}`);
  }
  const key = String(issue?.path[0] ?? 'settings');
  throw refusal(flagName(key), `${flagName(key)}: ${issue?.message ?? 'malformed'}`);
}

/**
 * Every setting decided, with remarks on what has no effect. Throws `invalid_argument`, its field being upstream's flag,
 * for a value that upstream would crash on or silently ignore.
 */
export function resolveSettings(input: SettingsInput): {
  readonly settings: ResolvedSettings;
  readonly notes: readonly string[];
} {
  const preset = presetOf(input.preset || DEFAULT_PRESET);
  const size = input.size === undefined ? preset.settings.size : parseSize(input.size);
  const sampleSteps = input.sampleSteps ?? preset.settings.sampleSteps;
  const enableOnlineDecode = input.enableOnlineDecode ?? true;
  checkInferFrames(input.inferFrames ?? CLIP_FRAMES);
  checkSampleSteps(sampleSteps);
  checkSolver(input.sampleSolver ?? 'euler');
  checkGuideScale(input.sampleGuideScale ?? 0);
  if (input.numClip !== undefined) {
    requireInteger('num_clip', input.numClip, 1);
    checkOnlineDecode(enableOnlineDecode, input.numClip);
  }
  const notes: string[] = [];
  if (!enableOnlineDecode) {
    notes.push('enable_online_decode false has no effect: the farm decodes and stores every clip while it renders.');
  }
  return {
    settings: {
      preset: preset.name,
      size,
      numClip: input.numClip ?? preset.settings.numClip,
      sampleSteps,
      inferFrames: CLIP_FRAMES,
      baseSeed: resolveSeed(input.baseSeed, notes),
      sampleGuideScale: 0,
      enableOnlineDecode,
      sampleSolver: 'euler',
      anchor: input.anchor ?? 'first_frame',
    },
    notes,
  };
}

/**
 * How many clips a job renders of audio that has `audioFrames` at 25 a second. A number that the submitter asked for must be there:
 * throws `invalid_argument` on `num_clip` otherwise. A preset's cap shortens the video with a remark.
 */
export function resolveClips(
  settings: ResolvedSettings,
  audioFrames: number,
  explicitNumClip: number | undefined,
): { readonly clips: number; readonly notes: readonly string[] } {
  requireInteger('audio', audioFrames, 1);
  const audioClips = clipsForFrames(audioFrames);
  const audioSeconds = secondsOf(audioFrames);
  if (explicitNumClip !== undefined) requireInteger('num_clip', explicitNumClip, 1);
  if (explicitNumClip !== undefined && explicitNumClip > audioClips) {
    const message = `num_clip is ${explicitNumClip}, but the audio has ${audioClips} ${audioClips === 1 ? 'clip' : 'clips'} (${audioSeconds}); accepted: 1 to ${audioClips}`;
    throw refusal('num_clip', message, 'Leave num_clip out to render the whole audio.');
  }
  const clips = Math.min(explicitNumClip ?? settings.numClip ?? audioClips, audioClips);
  checkOnlineDecode(settings.enableOnlineDecode, clips);
  if (clips === audioClips) return { clips, notes: [] };
  const because = explicitNumClip === undefined ? `preset ${settings.preset} stops there` : 'num_clip says so';
  return {
    clips,
    notes: [
      `Renders the first ${clips === 1 ? '' : `${clips} `}of ${audioClips} clips (${secondsOf(clips * CLIP_FRAMES)} of ${audioSeconds}): ${because}.`,
    ],
  };
}

function checkInferFrames(frames: number): void {
  if (frames === CLIP_FRAMES) return;
  const why =
    frames > 0 && frames % 12 === 0
      ? `the model was trained with a window of ${CLIP_FRAMES} frames, and clips, seeds and audio are counted in it`
      : "the model works in blocks of 12 frames, so that 32 as well as 80, upstream's own default, crash in its second clip";
  throw refusal('infer_frames', `infer_frames is ${frames}; accepted: ${CLIP_FRAMES}, because ${why}`);
}

function checkSampleSteps(steps: number): void {
  if (Number.isInteger(steps) && steps >= 1 && steps <= MAX_SAMPLE_STEPS) return;
  const why = "upstream keeps four caches, one per step, so that a fifth step ends in KeyError '5'";
  throw refusal('sample_steps', `sample_steps is ${steps}; accepted: 1, 2, 3 and 4, because ${why}`);
}

function checkSolver(solver: string): void {
  if (solver === 'euler') return;
  const why = 'upstream lists unipc and dpm++ but raises NotImplementedError for both';
  throw refusal('sample_solver', `sample_solver is ${JSON.stringify(solver)}; accepted: euler, because ${why}`);
}

function checkGuideScale(scale: number): void {
  if (scale === 0) return;
  const why = 'upstream takes the number and never reads it, so that another value changes nothing';
  throw refusal('sample_guide_scale', `sample_guide_scale is ${scale}; accepted: 0, because ${why}`);
}

function checkOnlineDecode(enabled: boolean, clips: number): void {
  if (enabled || clips <= ONLINE_DECODE_CLIPS) return;
  const message = `enable_online_decode is false for ${clips} clips; accepted: true above ${ONLINE_DECODE_CLIPS} clips, because frames kept until the end would fill the host's memory`;
  throw refusal('enable_online_decode', message);
}

function resolveSeed(seed: number | undefined, notes: string[]): number | undefined {
  if (seed === undefined) return undefined;
  requireInteger('base_seed', seed, Number.MIN_SAFE_INTEGER, MAX_BASE_SEED);
  if (seed >= 0) return seed;
  notes.push(`base_seed ${seed} means that a seed is drawn, as upstream does.`);
  return undefined;
}

function refusal(field: string, message: string, hint?: string): FarmError {
  return new FarmError('invalid_argument', message, hint === undefined ? { field } : { field, hint });
}

/** Upstream's spelling of a setting: `numClip` is `num_clip`. */
function flagName(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function secondsOf(frames: number): string {
  return `${Number((frames / FPS).toFixed(2))} s`;
}
