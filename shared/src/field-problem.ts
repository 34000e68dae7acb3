import type { z } from 'zod';

/** What is wrong with one field of a message. */
export interface FieldProblem {
  /** Path of the field as the protocol spells it: `hello.slots[0].slot_id`. */
  readonly field: string;
  /** Names the field, its value and what is accepted. */
  readonly message: string;
}

/** Characters of a value that are shown; what comes from another process can be of any length. */
const MAX_SHOWN = 80;

/**
 * What a schema found, in the farm's words instead of the schema library's. A schema's own messages, of patterns and
 * refinements, say what is accepted.
 *
 * @param given what was checked
 * @param where name of what was checked, before the path; empty for none
 * @param spell how a key is written where the user reads it; as the protocol does unless given
 */
export function fieldProblem(
  issue: z.core.$ZodIssue,
  given: unknown,
  where: string,
  spell: (key: string) => string = snakeCase,
): FieldProblem {
  let field = where;
  let value = given;
  const enter = (key: PropertyKey): void => {
    if (typeof key === 'number') field += `[${key}]`;
    else field += `${field === '' ? '' : '.'}${spell(String(key))}`;
    value = typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined;
  };
  for (const key of issue.path) enter(key);
  if (issue.code === 'unrecognized_keys') {
    for (const key of issue.keys.slice(0, 1)) enter(key);
    return { field, message: `${field} is not known` };
  }
  return { field, message: `${field} ${shown(value)}; accepted: ${acceptedBy(issue)}` };
}

/** The first {@link fieldProblem} of what a schema refused. */
export function firstProblem(
  error: z.ZodError,
  given: unknown,
  where: string,
  spell?: (key: string) => string,
): FieldProblem {
  const [issue] = error.issues;
  if (issue === undefined) return { field: where, message: `${where}: ${error.message}` };
  return fieldProblem(issue, given, where, spell);
}

function shown(value: unknown): string {
  if (value === undefined || value === null) return 'is missing';
  if (typeof value === 'object') {
    const { length } = Array.isArray(value) ? value : Object.keys(value);
    return length === 1 ? 'has 1 entry' : `has ${length} entries`;
  }
  if (typeof value !== 'string') return `is ${String(value)}`;
  const start = JSON.stringify(value.slice(0, MAX_SHOWN).toWellFormed());
  return value.length > MAX_SHOWN ? `is ${start}... (${value.length} characters)` : `is ${start}`;
}

function acceptedBy(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return issue.expected === 'int' ? 'a whole number' : `a value of type ${issue.expected}`;
    case 'too_small':
      return `${issue.inclusive === false ? 'more than' : 'at least'} ${issue.minimum}${unitOf(issue.origin)}`;
    case 'too_big':
      return `${issue.inclusive === false ? 'less than' : 'at most'} ${issue.maximum}${unitOf(issue.origin)}`;
    case 'invalid_key':
      return issue.issues[0]?.message ?? issue.message;
    case 'not_multiple_of':
      return `a multiple of ${issue.divisor}`;
    default:
      return issue.message;
  }
}

function unitOf(origin: string): string {
  if (origin === 'string') return ' characters';
  return origin === 'array' ? ' entries' : '';
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
