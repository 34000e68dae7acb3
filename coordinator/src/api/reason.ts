import { FarmError } from '@clipfarm/shared/errors';
import { label } from '@clipfarm/shared/label';

/** Most characters of a reason that a user or an operator gives. */
const MAX_GIVEN = 500;

/** Most characters of a reason that are shown; a journal of an earlier version may hold longer ones. */
const MAX_SHOWN = 4000;

const given = label(MAX_GIVEN);

/**
 * The reason that a caller gives for a command; `otherwise` where it gives none.
 *
 * @throws FarmError `invalid_argument` when it is too long, or not of one line
 */
export function givenReason(reason: string, otherwise: string): string {
  const { error } = given.safeParse(reason);
  if (error) {
    throw new FarmError('invalid_argument', `reason: ${error.issues[0]?.message ?? 'not accepted'}`, {
      field: 'reason',
    });
  }
  return reason || otherwise;
}

/** A reason as the API shows it. */
export function shownReason(reason: string): string {
  return reason.length <= MAX_SHOWN ? reason : `${reason.slice(0, MAX_SHOWN).toWellFormed()}...`;
}
