/**
 * What a clip costs on a GPU, by the picture's units of 64x64 pixels. Fits over runs of upstream's code at commit
 * 9c2c38d with random weights on one H200: memory within 0.3 GiB over 31 runs, forward times within 3%, decoder and
 * encoder within 3%. Where a function takes `latents`, the default is the clip of 48 frames that the farm renders.
 */
import { CLIP_FRAMES } from './clip.ts';

/** Bytes in a GiB. */
export const GIB = 2 ** 30;

/** Number format of the model's weights. */
export type Dtype = 'bf16' | 'fp8';

/** Latents of a clip; the key-value cache holds as many. */
const LATENTS = CLIP_FRAMES / 4;

/** Blocks of 12 frames that a clip is rendered in. */
const BLOCKS = LATENTS / 3;

/** Tokens of one latent per unit. */
const TOKENS_PER_UNIT = 16;

/** Above what the fit counts: the allocator's unused share (at most 1.04 GiB seen) and the CUDA context (1.2 GiB). */
const RESERVE = 2.5;

const WEIGHTS: Readonly<Record<Dtype, number>> = { bf16: 30.49, fp8: 15.6 };

/** Cache of reference and motion tokens, of fixed size. */
const CONDITION_CACHE = 2.14;

/** The four key-value caches, per latent and token. */
const KV_PER_TOKEN = 0.0030518;

/**
 * Peak bytes on one GPU that holds the whole model, as upstream's own script uses it: the decoder is off the GPU while
 * the model is at work. Fitted.
 */
export function singleMemoryBytes(dtype: Dtype, units: number, latents = LATENTS): number {
  const caches = CONDITION_CACHE + kvCaches(units, latents);
  return bytes(WEIGHTS[dtype] + caches + activations(units, latents) + RESERVE);
}

/**
 * The same with a streaming decoder beside it, which decodes while the model keeps its caches. The decoder's share is
 * what three runs of the runner on an H200 add to the fit (docs/gpu-results.md), with the driver's context: its weights,
 * and activations and caches that grow with the picture.
 */
export function streamingMemoryBytes(dtype: Dtype, units: number): number {
  return singleMemoryBytes(dtype, units) + bytes(0.25 + 0.08 * units);
}

/**
 * Peak bytes per GPU with the model's layers split evenly over `gpus`, text encoder on the host and decoder (0.25 GiB;
 * it works between forwards, in the same memory) on one of them. Arithmetic from the fit for one GPU, not measured.
 */
export function pipeMemoryBytes(dtype: Dtype, units: number, gpus: number): number {
  const shared = (WEIGHTS[dtype] + CONDITION_CACHE + kvCaches(units)) / gpus;
  return bytes(shared + activations(units) + 0.25 + RESERVE);
}

/**
 * Peak bytes per GPU in upstream's 5-GPU mode: whole model, one key-value cache, a condition cache of 3000 tokens, the
 * text encoder (10.6 GiB) and the decoder, plus 6 GiB so that the sum meets the 47.6 GB reported from five B200 with
 * fp8 at 704x384. Arithmetic, not measured here.
 */
export function tppMemoryBytes(dtype: Dtype, units: number): number {
  return bytes(WEIGHTS[dtype] + 2.29 + kvCaches(units) / 4 + 10.6 + 0.25 + 6 + RESERVE);
}

/** How a model is run: in which number format, and with or without torch.compile. Upstream's default is `fp8-compiled`. */
export type Execution = `${Dtype}-${'compiled' | 'eager'}`;

/**
 * Per execution: share of the fitted bf16 time while the GPU is the limit (measured at 704x384: 3.89, 4.6, 6.85 and
 * 5.74 s a clip), and the floor in seconds that launching kernels from the host sets for one forward (at 384x256: 2.69,
 * 5.3 and 2.68 to 3.03 s a clip; that of compiled bf16 was not measured and is taken to be that of compiled fp8).
 */
const EXECUTIONS: Readonly<Record<Execution, { readonly share: number; readonly floor: number }>> = {
  'fp8-compiled': { share: 0.675, floor: 0.168 },
  'bf16-compiled': { share: 0.8, floor: 0.168 },
  'fp8-eager': { share: 1.19, floor: 0.331 },
  'bf16-eager': { share: 1, floor: 0.189 },
};

/**
 * Seconds that the diffusion model needs for one step of all blocks of a clip.
 *
 * @param slowdown how many times slower than an H200 the GPU is; host time is not scaled
 */
export function stepSeconds(execution: Execution, units: number, slowdown: number): number {
  const tokens = TOKENS_PER_UNIT * units;
  const queries = 3 * tokens;
  const keys = (LATENTS + 2.5) * tokens;
  const fitted = 0.0912e-3 * queries + 0.001471e-6 * queries * keys;
  const { share, floor } = EXECUTIONS[execution];
  return BLOCKS * Math.max(share * fitted * slowdown, floor);
}

/** Seconds to decode a clip block by block and copy it to the host: 0.082, 0.205 and 0.224 s a block were measured. */
export function decodeSeconds(units: number, slowdown: number): number {
  return BLOCKS * 0.0034 * units * slowdown;
}

/**
 * Seconds a clip that upstream's own single-GPU pipeline spends in its decoder and encoder: it decodes 92 latents of
 * motion with every clip and encodes the last 365 frames again. Fitted.
 */
export function upstreamDecodeSeconds(units: number, slowdown: number): number {
  const megapixels = (units * 4096) / 1e6;
  const decode = (92 + LATENTS) * (0.0031 + 0.2414 * megapixels);
  return slowdown * (decode + 0.206 + 13.47 * megapixels);
}

function kvCaches(units: number, latents = LATENTS): number {
  return KV_PER_TOKEN * latents * TOKENS_PER_UNIT * units;
}

function activations(units: number, latents = LATENTS): number {
  const tokens = TOKENS_PER_UNIT * units;
  return 0.71 + (0.9 * tokens) / 1000 + (0.19 * latents * tokens) / 1e4;
}

function bytes(gib: number): number {
  return Math.ceil(gib * GIB);
}
