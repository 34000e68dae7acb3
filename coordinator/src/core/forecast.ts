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

/** Seconds per clip as measured, by slot and by profile. Plain data; see {@link measured}. */
export interface ForecastTable {
  readonly bySlot: ReadonlyMap<string, number>;
  readonly byProfile: ReadonlyMap<string, number>;
}

/** Nothing measured yet. */
export const EMPTY_FORECAST: ForecastTable = { bySlot: new Map(), byProfile: new Map() };

/** The table after one more measurement: an exponentially weighted mean per slot and per profile. */
export function measured(table: ForecastTable, slot: ForecastSlot, geometry: Geometry, seconds: number): ForecastTable {
  return {
    bySlot: weighted(table.bySlot, geometryKey(slot.key, geometry), seconds),
    byProfile: weighted(table.byProfile, geometryKey(slot.profile, geometry), seconds),
  };
}

/**
 * Forecast of seconds per clip: what this slot took, else what slots of its profile took, else what its operator
 * declares, else the prior.
 */
export function secondsPerClip(table: ForecastTable, slot: ForecastSlot, geometry: Geometry, prior: number): number {
  const own = table.bySlot.get(geometryKey(slot.key, geometry));
  if (own !== undefined) return own;
  if (slot.declaredSecondsPerClip > 0) return slot.declaredSecondsPerClip;
  return table.byProfile.get(geometryKey(slot.profile, geometry)) ?? prior;
}

function geometryKey(name: string, g: Geometry): string {
  return `${name}|${g.width}x${g.height}|${g.sampleSteps}`;
}

function weighted(map: ReadonlyMap<string, number>, key: string, value: number): ReadonlyMap<string, number> {
  const before = map.get(key);
  return new Map(map).set(key, before === undefined ? value : before + WEIGHT * (value - before));
}
