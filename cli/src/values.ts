import { FarmError } from '@clipfarm/shared/errors';

/** The error for a value that a flag does not take. */
export function refuseValue(field: string, text: string, accepted: string): FarmError {
  const shown = JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
  return new FarmError('invalid_argument', `${field} is ${shown}; accepted: ${accepted}`, { field });
}

/** A number in decimal notation. Throws `invalid_argument` naming the flag, the text and what is accepted. */
export function parseNumber(field: string, text: string, accepted = 'a number'): number {
  if (!/^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$/.test(text.trim())) throw refuseValue(field, text, accepted);
  return Number(text);
}

/**
 * A whole number that whoever gets it judges; one that no computer would count to is refused here, because it would be told
 * rounded. Throws `invalid_argument` naming the flag, the text and what is accepted.
 */
export function parseWhole(field: string, text: string): number {
  const value = parseNumber(field, text, 'a whole number');
  if (Number.isInteger(value) && !Number.isSafeInteger(value)) {
    const limit = Number.MAX_SAFE_INTEGER;
    throw refuseValue(field, text, `a whole number of -${limit} to ${limit}`);
  }
  return value;
}

/** An integer of `min` to `max`. Throws `invalid_argument` naming the flag, the text and what is accepted. */
export function parseInteger(field: string, text: string, min: number, max: number): number {
  const value = /^[+-]?\d{1,15}$/.test(text.trim()) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max)) throw refuseValue(field, text, `an integer of ${min} to ${max}`);
  return value;
}

/** A number of seconds of `min` to `max`. Throws `invalid_argument` naming the flag, the text and what is accepted. */
export function parseSeconds(field: string, text: string, min: number, max: number): number {
  const accepted = `${min} to ${max} seconds`;
  const value = parseNumber(field, text, accepted);
  if (value < min || value > max) throw refuseValue(field, text, accepted);
  return value;
}

/** `true` or `false`, in the spellings that upstream's scripts take. */
export function parseBoolean(field: string, text: string): boolean {
  if (/^(true|yes|t|y|1)$/i.test(text)) return true;
  if (/^(false|no|f|n|0)$/i.test(text)) return false;
  throw refuseValue(field, text, 'true or false');
}

/** One of several words. */
export function parseChoice<T extends string>(field: string, text: string, choices: readonly T[]): T {
  const choice = choices.find((candidate) => candidate === text);
  if (choice === undefined) throw refuseValue(field, text, choices.join(', '));
  return choice;
}

const unitSeconds: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

/**
 * A point in time to come: a time span from now (`90m`, `6h`, `2d`) or a date and time with its zone
 * (`2030-05-01T18:00:00Z`).
 *
 * @param nowMillis milliseconds since 1970.
 */
export function parseDeadline(text: string, nowMillis: number): Date {
  const accepted = 'a time span such as 90m, 6h or 2d, or a time to come such as 2030-05-01T18:00:00Z';
  const span = /^\+?(\d{1,6})([smhd])$/.exec(text);
  const seconds = span === null ? 0 : Number(span[1]) * (unitSeconds[span[2] ?? ''] ?? 0);
  if (seconds > 0) return new Date(nowMillis + seconds * 1000);
  const hasZone = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/.test(text);
  const time = hasZone ? Date.parse(text) : Number.NaN;
  if (!(time > nowMillis)) throw refuseValue('deadline', text, accepted);
  return new Date(time);
}
