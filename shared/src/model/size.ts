/**
 * The picture that upstream makes of an image and a `--size`. The size is only a budget of pixels; the aspect comes
 * from the image, and both sides become multiples of 64 (upstream's causal_s2v_pipeline.py).
 */
import { FarmError } from '../errors.ts';
import { requireInteger } from './check.ts';

/** Every spelling that upstream's `--size` accepts. */
export const UPSTREAM_SIZES = [
  '384*256',
  '688*368',
  '704*384',
  '720*400',
  '480*832',
  '832*480',
  '1024*704',
  '704*1024',
  '704*1280',
  '1280*704',
  '720*1280',
  '1280*720',
] as const;

/** One of {@link UPSTREAM_SIZES}. */
export type UpstreamSize = (typeof UPSTREAM_SIZES)[number];

/** The sizes whose whole budget is within {@link MAX_UNITS_SINGLE}: they work with every image, smallest first. */
export const USABLE_SIZES = ['384*256', '688*368', '704*384', '720*400'] as const satisfies readonly UpstreamSize[];

/** Largest picture on one GPU, in units: 40 tokens of reference and motion per unit in a cache of 2800. */
export const MAX_UNITS_SINGLE = 70;

/** Largest picture in upstream's 5-GPU mode, whose cache holds 3000 tokens. */
export const MAX_UNITS_TPP = 75;

/** Shortest side of an image in pixels. */
const MIN_IMAGE_SIDE = 256;

/** Longest side of an image in pixels. */
const MAX_IMAGE_SIDE = 8192;

const GRID = 64;

/** Pixels per unit: a square of 64 x 64. */
const UNIT_PIXELS = GRID * GRID;

/** A picture in pixels, and its area in units of 64 x 64. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly units: number;
}

/** The size as upstream spells it, from "704*384" or "704x384". Throws `invalid_argument` on `size`. */
export function parseSize(text: string): UpstreamSize {
  const wanted = text.trim().replace(/[x×]/i, '*');
  const size = UPSTREAM_SIZES.find((name) => name === wanted);
  if (size !== undefined) return size;
  const message = `size is ${JSON.stringify(text)}; accepted: ${UPSTREAM_SIZES.join(', ')}`;
  const hint = 'The size is a budget of pixels; for an upright video give an upright image, not another size.';
  throw new FarmError('invalid_argument', message, { field: 'size', hint });
}

/** Budget of a size in pixels. */
export function pixelBudget(size: UpstreamSize): number {
  const [width, height] = size.split('*').map(Number);
  return (width ?? 0) * (height ?? 0);
}

/** Units of the largest picture that any image can get at a size. */
export function unitBudget(size: UpstreamSize): number {
  return Math.floor(pixelBudget(size) / UNIT_PIXELS);
}

/** Area of a picture in units, counting a partial one as whole. */
export function unitsOf(width: number, height: number): number {
  return Math.ceil((width * height) / UNIT_PIXELS);
}

/** "704x384". */
export function formatPicture(picture: { readonly width: number; readonly height: number }): string {
  return `${picture.width}x${picture.height}`;
}

/** Throws `invalid_argument` on `image` for a side under 256 or over 8192 pixels, or an aspect beyond 1:2.5. */
export function checkImage(width: number, height: number): void {
  const refuse = (accepted: string): never => {
    throw new FarmError('invalid_argument', `image is ${width}x${height} pixels; accepted: ${accepted}`, {
      field: 'image',
    });
  };
  if (!Number.isSafeInteger(width) || !Number.isSafeInteger(height)) refuse('whole numbers of pixels');
  if (Math.min(width, height) < MIN_IMAGE_SIDE) refuse(`a shorter side of at least ${MIN_IMAGE_SIDE}`);
  if (Math.max(width, height) > MAX_IMAGE_SIDE) refuse(`a longer side of at most ${MAX_IMAGE_SIDE}`);
  if (2 * Math.max(width, height) > 5 * Math.min(width, height)) refuse('an aspect ratio of 1:2.5 to 2.5:1');
}

/**
 * The picture that upstream renders for an image of that many pixels: the largest pair of multiples of 64 within the
 * budget that it finds in a hundred steps down from the largest scale, never enlarged beyond the image save to fill up
 * to 64. Defined for every image that {@link checkImage} accepts and for the pictures made from them; throws
 * `invalid_argument` on `image` for one so narrow that it would have no height or width.
 */
export function pictureSize(imageWidth: number, imageHeight: number, size: UpstreamSize): Picture {
  requireInteger('image', imageWidth, 1);
  requireInteger('image', imageHeight, 1);
  const budget = pixelBudget(size);
  const { lowest, highest } = scaleBounds(imageWidth, imageHeight, budget);
  for (let step = 0; step < 100; step += 1) {
    const scale = highest - ((highest - lowest) * step) / 100;
    const width = upToGrid(Math.trunc(imageWidth * scale));
    const height = upToGrid(Math.trunc(imageHeight * scale));
    const pixels = width * height;
    if (pixels > 0 && pixels <= budget) return { width, height, units: pixels / UNIT_PIXELS };
  }
  // Upstream falls back on rounding down here; no image within checkImage's limits gets this far.
  const message = `image is ${imageWidth}x${imageHeight} pixels, which leaves no picture at size ${size}`;
  throw new FarmError('invalid_argument', message, { field: 'image' });
}

/** The sizes whose picture for this image has at most `maxUnits`, each with that picture. */
export function sizesThatFit(
  imageWidth: number,
  imageHeight: number,
  maxUnits: number,
): readonly { readonly size: UpstreamSize; readonly picture: Picture }[] {
  return UPSTREAM_SIZES.map((size) => ({ size, picture: pictureSize(imageWidth, imageHeight, size) })).filter(
    ({ picture }) => picture.units <= maxUnits,
  );
}

/**
 * The picture for an image and a size. Throws `invalid_argument`: on `image` as {@link checkImage}, on `size` where the
 * picture has more than `maxUnits`, at which upstream crashes in its first clip, naming the sizes that fit this image.
 */
export function checkPicture(imageWidth: number, imageHeight: number, size: UpstreamSize, maxUnits: number): Picture {
  checkImage(imageWidth, imageHeight);
  const picture = pictureSize(imageWidth, imageHeight, size);
  if (picture.units <= maxUnits) return picture;
  const fitting = sizesThatFit(imageWidth, imageHeight, maxUnits);
  const accepted = fitting.map((fit) => `${fit.size} (${formatPicture(fit.picture)})`).join(', ') || 'none';
  const message = `size ${size} makes ${formatPicture(picture)} of this ${imageWidth}x${imageHeight} image, ${picture.units} units of 64x64 pixels where ${maxUnits} are possible; accepted: ${accepted}`;
  throw new FarmError('invalid_argument', message, { field: 'size' });
}

/** Scales between which the best one lies: filled up by 63 pixels a side, and not filled up at all. */
function scaleBounds(width: number, height: number, budget: number): { lowest: number; highest: number } {
  const area = width * height;
  if (area <= budget) return { lowest: 0.1, highest: 1 };
  const fill = GRID - 1;
  const linear = fill * (width + height);
  const constant = fill ** 2 - budget;
  // Upstream has 2 where the quadratic formula has 4. It decides the step width, so it is kept.
  const lowest = (-linear + Math.sqrt(linear ** 2 - 2 * area * constant)) / (2 * area);
  return { lowest, highest: Math.sqrt(budget / area) };
}

function upToGrid(pixels: number): number {
  return Math.ceil(pixels / GRID) * GRID;
}
