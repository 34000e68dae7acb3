import { join } from 'node:path';
import { FarmError } from '@clipfarm/shared/errors';
import { CLIP_FRAMES, seedOfClip } from '@clipfarm/shared/model/clip';
import {
  formatPicture,
  MAX_UNITS_SINGLE,
  MAX_UNITS_TPP,
  pictureSize,
  pixelBudget,
  UPSTREAM_SIZES,
  type UpstreamSize,
  unitsOf,
} from '@clipfarm/shared/model/size';
import type { SpanRequest } from '../../src/runner/protocol.ts';
import type { CliOptions } from './options.ts';

/** Upstream's script, within a checkout. */
export const SCRIPT = join('minimal_inference', 's2v_streaming_interact.py');

/** Training settings that belong to the published weights, within a checkout. */
const TRAINING_CONFIG = join('liveavatar', 'configs', 's2v_causal_sft.yaml');

/** GPUs of upstream's mode on several: four denoise, the fifth decodes. Its script accepts no other number. */
export const TPP_RANKS = 5;

/** Denoising steps of that mode, one per GPU. */
const TPP_STEPS = 4;

/** Files of one range, all in a folder of its own. */
export interface RangeFiles {
  /** PNG of exactly the picture's size. */
  readonly image: string;
  readonly audio: string;
  readonly output: string;
}

/** One process: upstream starts it this way under torchrun. */
export interface RankCommand {
  readonly rank: number;
  readonly command: string;
  readonly args: readonly string[];
  /** The whole environment. */
  readonly env: Readonly<Record<string, string>>;
}

/** Number of processes that a range takes. */
export function ranksOf(options: Pick<CliOptions, 'tpp'>): number {
  return options.tpp ? TPP_RANKS : 1;
}

/** Clips of the model call of a span, pre-roll included. */
export function clipsOfCall(request: Pick<SpanRequest, 'start' | 'end' | 'preRoll'>): number {
  return request.end - request.start + request.preRoll;
}

/**
 * Upstream's `--size` for a picture: the smallest budget that leaves a reference of exactly that size as it is.
 *
 * @throws FarmError `invalid_argument` for a picture that upstream would change, or crash on.
 */
export function sizeForPicture(width: number, height: number, tpp: boolean): UpstreamSize {
  const limit = tpp ? MAX_UNITS_TPP : MAX_UNITS_SINGLE;
  const units = unitsOf(width, height);
  const picture = formatPicture({ width, height });
  if (units > limit) refuse(`${picture}, ${units} units of 64x64 pixels`, `at most ${limit} units`);
  const found = UPSTREAM_SIZES.toSorted((a, b) => pixelBudget(a) - pixelBudget(b)).find((size) => {
    if (pixelBudget(size) < width * height) return false;
    const made = pictureSize(width, height, size);
    return made.width === width && made.height === height;
  });
  return found ?? refuse(picture, 'a picture whose sides are multiples of 64');
}

/**
 * Arguments of upstream's script for a span. Values are bound to their flags by an equals sign, so that none can be read
 * as a flag itself.
 *
 * @throws FarmError `invalid_argument` for what upstream would refuse, or crash on, once its model is loaded.
 */
export function scriptArgs(options: CliOptions, request: SpanRequest, files: RangeFiles): readonly string[] {
  const { width, height, prompt, sampleSteps, baseSeed, start, preRoll } = request;
  const { tpp, checkout, lora } = options;
  if (prompt.includes('\0')) refuse(JSON.stringify(prompt), 'text without zero bytes', 'prompt');
  if (tpp && sampleSteps !== TPP_STEPS) {
    refuse(String(sampleSteps), `${TPP_STEPS}, because each of four GPUs does one step`, 'sample_steps');
  }
  if (files.audio.includes('+')) refuse(files.audio, 'a path without "+"', 'audio');
  const values: readonly (readonly [string, string | number])[] = [
    ['task', 's2v-14B'],
    ['size', sizeForPicture(width, height, tpp)],
    ['ckpt_dir', options.ckptDir],
    // On one GPU "False" crashes after denoising: the decoder is on the CPU by then.
    ['offload_model', tpp ? 'False' : 'True'],
    ['prompt', prompt],
    ['image', files.image],
    ['audio', files.audio],
    ['num_clip', clipsOfCall(request)],
    ['base_seed', seedOfClip(baseSeed, start - preRoll)],
    ['infer_frames', CLIP_FRAMES],
    ['sample_solver', 'euler'],
    ['sample_steps', sampleSteps],
    ['sample_guide_scale', 0],
    ['training_config', options.trainingConfig ?? join(checkout, TRAINING_CONFIG)],
    ...(lora === undefined ? [] : ([['lora_path_dmd', lora]] as const)),
    ['num_gpus_dit', tpp ? TPP_RANKS - 1 : 1],
    ['save_file', files.output],
  ];
  const switches: readonly (readonly [string, boolean])[] = [
    ['load_lora', lora !== undefined],
    ['convert_model_dtype', true],
    ['enable_vae_parallel', tpp],
    ['fp8', options.fp8],
    ['t5_cpu', options.t5Cpu],
    ['offload_kv_cache', options.offloadKvCache],
    ['enable_online_decode', options.onlineDecode],
  ];
  return [
    ...values.map(([name, value]) => `--${name}=${value}`),
    ...switches.flatMap(([name, on]) => (on ? [`--${name}`] : [])),
  ];
}

/**
 * The processes of a span. The runner starts them itself, as upstream allows, because torchrun gives each worker a
 * session of its own, where no signal to the group reaches it.
 *
 * @param port free TCP port of this host, on which rank 0 gathers the others
 * @param host environment to inherit
 */
export function rankCommands(
  options: CliOptions,
  args: readonly string[],
  port: number,
  host: Readonly<Record<string, string>>,
): readonly RankCommand[] {
  const world = ranksOf(options);
  const common = {
    ...host,
    // Unset means on.
    ENABLE_COMPILE: String(options.compile),
    PYTHONUNBUFFERED: '1',
    // The prompt is UTF-8, whatever the locale of the host.
    PYTHONUTF8: '1',
    MASTER_ADDR: '127.0.0.1',
    MASTER_PORT: String(port),
    WORLD_SIZE: String(world),
    LOCAL_WORLD_SIZE: String(world),
  };
  return Array.from({ length: world }, (_, rank) => ({
    rank,
    command: options.python,
    args: [join(options.checkout, SCRIPT), ...args],
    env: { ...common, RANK: String(rank), LOCAL_RANK: String(rank) },
  }));
}

function refuse(value: string, accepted: string, field = 'size'): never {
  throw new FarmError('invalid_argument', `${field} is ${value}; accepted: ${accepted}`, { field });
}
