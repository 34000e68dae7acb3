/** Seconds of a time in milliseconds as logs have it: to the millisecond, without the noise of binary fractions. */
export function secondsOf(millis: number): number {
  return Math.round(millis) / 1000;
}

/** A number as logs have it: to three places, without the noise of binary fractions. */
export function logNumber(value: number): number {
  return Math.round(value * 1000) / 1000;
}
