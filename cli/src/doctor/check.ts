import { FarmError } from '@clipfarm/shared/errors';

/** Outcome of one check. */
export interface Check {
  readonly name: string;
  readonly ok: boolean;
  /** It is not as it should be, and works all the same; `ok` then. */
  readonly unsafe?: boolean;
  readonly detail: string;
  /** What to do; only for a check that failed, or found something unsafe. */
  readonly fix?: string;
}

/** A check that found what is needed. */
export function passed(name: string, detail: string): Check {
  return { name, ok: true, detail };
}

/** A check that did not, and what to do. */
export function failed(name: string, detail: string, fix: string): Check {
  return { name, ok: false, detail, fix };
}

/** A check that could not even be made; the hint of the error goes before `fallback`. */
export function broken(name: string, thrown: unknown, fallback: string): Check {
  const error = FarmError.from(thrown);
  return failed(name, error.message, error.hint ?? fallback);
}
