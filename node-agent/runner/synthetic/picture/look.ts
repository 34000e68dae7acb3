/** How a span differs from its neighbours in appearance, as two calls of a generative model do. */
export interface Look {
  /** Factors of red, green and blue. */
  readonly gain: readonly [number, number, number];
  /** Where the head settles, as shares of the face's unit. */
  readonly offsetX: number;
  readonly offsetY: number;
}

/** Largest deviations at strength 1, of a span that starts from the plain picture. */
const GAIN = 0.02;
const TINT = 0.01;
const OFFSET = 0.006;

/** What is left of them when the span's reference is the job's anchor. */
const ANCHORED = 0.35;

/** The look of a span, drawn from its seed; `strength` 0 makes all spans alike. */
export function lookOf(seed: number, strength: number, anchored: boolean): Look {
  const scale = strength * (anchored ? ANCHORED : 1);
  const random = (field: number): number => 2 * unitHash(seed, field) - 1;
  const brightness = GAIN * random(0);
  const gain = (field: number): number => 1 + scale * (brightness + TINT * random(field));
  return {
    gain: [gain(1), gain(2), gain(3)],
    offsetX: scale * OFFSET * random(4),
    offsetY: 0.5 * scale * OFFSET * random(5),
  };
}

/** Copy of a picture with its colours multiplied by the look's gain. */
export function tinted(rgb: Uint8Array, { gain }: Look): Uint8Array {
  const tables = gain.map((factor) => Uint8ClampedArray.from({ length: 256 }, (_, value) => value * factor));
  const out = new Uint8Array(rgb.length);
  for (let i = 0; i < rgb.length; i += 1) out[i] = tables[i % 3]?.[rgb[i] ?? 0] ?? 0;
  return out;
}

/** A number of 0 (included) to 1 that depends on both arguments and nothing else. Only low 32 bits count. */
export function unitHash(seed: number, field: number): number {
  // The finalizer of MurmurHash3.
  let h = (seed ^ Math.imul(field + 1, 0x9e3779b1)) >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return ((h ^ (h >>> 16)) >>> 0) / 2 ** 32;
}
