/**
 * A clip may take this many times its forecast before it counts as hung. The longest that a healthy clip is known to
 * take is one at which upstream's code meets a new shape and compiles again: 21 s on top of 4.8 s were measured on an
 * H200, 5.4 times the forecast. The rest is room for a host that is busy with something else; judged, not measured.
 */
const HANG_FACTOR = 8;

/**
 * The coordinator steps in only after this many times the agent's own limit: the agent counts the warm-up on top of it
 * and has to kill its runner and report, and what it says of a hang is better evidence. Judged, not measured.
 */
const STUCK_FACTOR = 3;

/**
 * Seconds without progress after which an agent ends its attempt as hung.
 *
 * @param secondsPerClip forecast
 * @param warmUpSeconds from a grant until the first clip begins; counted twice, because it is seldom measured
 * @param floor seconds that are granted at least, however fast the slot is
 */
export function hangSeconds(secondsPerClip: number, warmUpSeconds: number, floor: number): number {
  return Math.max(floor, HANG_FACTOR * secondsPerClip + 2 * warmUpSeconds);
}

/** Seconds without progress after which the coordinator ends an attempt that its agent should have ended long ago. */
export function stuckSeconds(hangLimitSeconds: number): number {
  return STUCK_FACTOR * hangLimitSeconds;
}
