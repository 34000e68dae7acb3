import { z } from 'zod';

/**
 * A text of one line that is shown and logged: without control characters, line and paragraph separators, and Unicode's
 * embeddings, overrides and isolates of the direction of writing, with which it could pass for something else.
 *
 * @param max most characters
 */
export function label(max: number) {
  return z
    .string()
    .max(max, `must have at most ${max} characters`)
    .regex(
      /^[^\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]*$/u,
      'must not hold control characters, nor ones that turn the direction of writing',
    );
}
