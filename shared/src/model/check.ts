import { FarmError } from '../errors.ts';

/** Throws `invalid_argument` on `field` unless `value` is an integer of `min` to `max`. */
export function requireInteger(field: string, value: number, min: number, max = Number.MAX_SAFE_INTEGER): void {
  if (Number.isSafeInteger(value) && value >= min && value <= max) return;
  const accepted = max === Number.MAX_SAFE_INTEGER ? `an integer of ${min} or more` : `an integer of ${min} to ${max}`;
  throw new FarmError('invalid_argument', `${field} is ${value}; accepted: ${accepted}`, { field });
}
