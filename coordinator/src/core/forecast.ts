/** Weight of a new measurement against the estimate so far. */
const WEIGHT = 0.3;

/** What a picture costs depends on these. */
export interface Geometry {
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;
  readonly sampleSteps: number;
}

/** A slot that is asked about. */
export interface ForecastSlot {
  /** `node/slot`. */
  readonly key: string;
  readonly profile: string;
  /** What the operator declares; 0 when nothing is declared. */
  readonly declaredSecondsPerClip: number;
}

/** Means by geometry. */
type Means = Map<string, number>;

/**
 * Seconds per clip and GPU memory as measured. Owned by {@link noteMeasured} and {@link notePeak}, which change it in
 * place; everyone else only reads.
 */
export interface ForecastTable {
  readonly bySlot: Map<string, Means>;
  readonly byProfile: Map<string, Means>;
  /** Most bytes on one GPU, by profile and geometry. */
  readonly peaks: Map<string, Map<string, Peak>>;
  /** The same for people, however long ago, by profile and geometry. */
  readonly seen: Map<string, Map<string, SeenMemory>>;
}

/** Most bytes that model calls were seen to take of one GPU; 0 where unknown. */
export interface SeenMemory {
  /** What they needed, the driver's own included. */
  readonly bytes: number;
  /** With what an allocator held in reserve, which it does as long as the card has room. */
  readonly reservedBytes: number;
}

/** What a model call took of one GPU. */
interface Peak {
  readonly bytes: number;
  /** Milliseconds when it first took so much, or when a slot last ran out of memory. */
  readonly since: number;
}

/**
 * Milliseconds for which a measured peak keeps a picture from slots that the model's estimate allows it. The figure is
 * another card's, on which an allocator may have taken more than it needed, so it must not hold for ever: a slot that it
 * is wrong about is idle for an hour, and one that it is right about loses a clip an hour.
 */
export const PEAK_MILLIS = 3_600_000;

/** Nothing measured yet. */
export function newForecast(): ForecastTable {
  return { bySlot: new Map(), byProfile: new Map(), peaks: new Map(), seen: new Map() };
}

/** Takes one more measurement in: an exponentially weighted mean per slot and per profile. */
export function noteMeasured(table: ForecastTable, slot: ForecastSlot, geometry: Geometry, seconds: number): void {
  noteMean(table.bySlot, slot.key, geometryKey(geometry), seconds);
  noteMean(table.byProfile, slot.profile, geometryKey(geometry), seconds);
}

/**
 * Takes in how much memory a model call of a profile has needed; the most counts, because it may be needed again. The same
 * once more does not make it count for longer.
 */
export function notePeak(table: ForecastTable, profile: string, geometry: Geometry, bytes: number, now: number): void {
  const peaks = table.peaks.get(profile) ?? new Map<string, Peak>();
  table.peaks.set(profile, peaks);
  const key = geometryKey(geometry);
  if (bytes > (peaks.get(key)?.bytes ?? 0)) peaks.set(key, { bytes, since: now });
}

/** Takes in what a model call of a profile was seen to take of a GPU; the most of each figure counts. */
export function noteSeen(table: ForecastTable, profile: string, geometry: Geometry, seen: SeenMemory): void {
  const known = table.seen.get(profile) ?? new Map<string, SeenMemory>();
  table.seen.set(profile, known);
  const before = seenMemory(table, profile, geometry);
  known.set(geometryKey(geometry), {
    bytes: Math.max(before.bytes, seen.bytes),
    reservedBytes: Math.max(before.reservedBytes, seen.reservedBytes),
  });
}

/** What model calls of a profile were seen to take of a GPU for a geometry. */
export function seenMemory(table: ForecastTable, profile: string, geometry: Geometry): SeenMemory {
  return table.seen.get(profile)?.get(geometryKey(geometry)) ?? { bytes: 0, reservedBytes: 0 };
}

/** A slot of the profile ran out of memory: what was measured holds for another {@link PEAK_MILLIS}. */
export function confirmPeak(table: ForecastTable, profile: string, geometry: Geometry, now: number): void {
  const peaks = table.peaks.get(profile);
  const key = geometryKey(geometry);
  const known = peaks?.get(key);
  if (known) peaks?.set(key, { ...known, since: now });
}

/** Most bytes that a profile has needed on one GPU for a geometry; 0 where nothing was measured, or too long ago. */
export function peakOf(table: ForecastTable, profile: string, geometry: Geometry, now: number): number {
  const peak = table.peaks.get(profile)?.get(geometryKey(geometry));
  return peak === undefined || now - peak.since >= PEAK_MILLIS ? 0 : peak.bytes;
}

/** Forgets what was measured on slots that are gone; of their profiles it still holds. */
export function forgetSlots(table: ForecastTable, isGone: (slotKey: string) => boolean): void {
  for (const key of table.bySlot.keys()) if (isGone(key)) table.bySlot.delete(key);
}

/** Whether the slot itself has rendered the geometry. */
export function wasMeasured(table: ForecastTable, slotKey: string, geometry: Geometry): boolean {
  return table.bySlot.get(slotKey)?.has(geometryKey(geometry)) ?? false;
}

/** Seconds per clip as measured on a slot, or else, where nothing is declared, on slots of its profile; 0 without. */
export function measuredSeconds(table: ForecastTable, slot: ForecastSlot, geometry: Geometry): number {
  const key = geometryKey(geometry);
  const ofProfile = slot.declaredSecondsPerClip > 0 ? undefined : table.byProfile.get(slot.profile)?.get(key);
  return table.bySlot.get(slot.key)?.get(key) ?? ofProfile ?? 0;
}

/**
 * Forecast of seconds per clip: what this slot took, else what its operator declares, else what slots of its profile
 * took, else the prior.
 */
export function secondsPerClip(table: ForecastTable, slot: ForecastSlot, geometry: Geometry, prior: number): number {
  const key = geometryKey(geometry);
  const own = table.bySlot.get(slot.key)?.get(key);
  if (own !== undefined) return own;
  if (slot.declaredSecondsPerClip > 0) return slot.declaredSecondsPerClip;
  return table.byProfile.get(slot.profile)?.get(key) ?? prior;
}

/** Equal for equal geometries. Kept with the object, because a scheduler asks many times a millisecond. */
export function geometryKey(geometry: Geometry): string {
  const known = keys.get(geometry);
  if (known !== undefined) return known;
  const key = `${geometry.width}x${geometry.height}|${geometry.sampleSteps}`;
  keys.set(geometry, key);
  return key;
}

const keys = new WeakMap<Geometry, string>();

function noteMean(table: Map<string, Means>, name: string, key: string, value: number): void {
  const means = table.get(name) ?? new Map<string, number>();
  table.set(name, means);
  const before = means.get(key);
  means.set(key, before === undefined ? value : before + WEIGHT * (value - before));
}
