/** What removal goes by: the wall clock, as far as it is believed. */
export interface BelievedTime {
  /** Wall-clock milliseconds that are believed; never ahead of the wall clock. */
  readonly at: number;
  /** Readings of the two clocks at the last look, in milliseconds. */
  readonly wall: number;
  readonly monotonic: number;
  /** Monotonic milliseconds since which the wall clock has gone as the other one does. */
  readonly steadySince: number;
}

/** A wall clock that is set forward is believed once it has gone steadily for this long: by then somebody has noticed. */
export const DOUBT_MILLIS = 24 * 3_600_000;

/** The clocks may differ by so much between two looks: seconds that were slewed or inserted. */
const STEP_MILLIS = 60_000;

/**
 * What is believed of the wall clock at first: no more than what is recorded of jobs, because a host may start with any time.
 *
 * @param recorded newest time in the journal, in wall-clock milliseconds; null where it has none, and then nothing can be lost
 */
export function firstBelief(wall: number, monotonic: number, recorded: number | null): BelievedTime {
  return { at: Math.min(wall, recorded ?? wall), wall, monotonic, steadySince: monotonic };
}

/** What is believed at the next look: the time that has passed is, and after {@link DOUBT_MILLIS} of steady going the wall clock. */
export function nextBelief(before: BelievedTime, wall: number, monotonic: number): BelievedTime {
  const passed = Math.max(0, monotonic - before.monotonic);
  const isSteady = Math.abs(wall - before.wall - passed) <= STEP_MILLIS;
  const steadySince = isSteady ? before.steadySince : monotonic;
  const at = monotonic - steadySince >= DOUBT_MILLIS ? wall : Math.min(wall, before.at + passed);
  return { at, wall, monotonic, steadySince };
}
