import { FarmError } from '@clipfarm/shared/errors';

/** The error for a picture that can't be used. */
export function badImage(why: string, cause?: unknown): FarmError {
  const hint = 'Give a still PNG, JPEG or WebP picture.';
  return new FarmError('invalid_argument', `image: ${why}`, { field: 'image', hint, cause });
}
