import { createHash, timingSafeEqual } from 'node:crypto';
import { inspect } from 'node:util';

const REDACTED = '[redacted]';

/** A value that must not reach logs, messages or JSON: every way to print it gives `[redacted]`. */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The value itself. Call it where it is sent, nowhere else. */
  reveal(): string {
    return this.#value;
  }

  /** True when the candidate is the same string; takes the same time whichever character differs. */
  matches(candidate: string): boolean {
    // Hashing first gives equal lengths, so the length of the secret does not show either.
    return timingSafeEqual(digest(this.#value), digest(candidate));
  }

  toString(): string {
    return REDACTED;
  }

  toJSON(): string {
    return REDACTED;
  }

  [inspect.custom](): string {
    return REDACTED;
  }
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text, 'utf8').digest();
}
