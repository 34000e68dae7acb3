import { readFile, stat } from 'node:fs/promises';
import { parse, YAMLParseError } from 'yaml';
import { FarmError } from '../errors.ts';
import { checkModelProfile, type HostPaths, type ModelProfile } from './model-profile.ts';

/** Largest profile file in bytes. */
const MAX_BYTES = 256 * 1024;

/** Most profiles of a file. */
const MAX_PROFILES = 32;

/**
 * Reads the operator's profiles: YAML (or JSON, which is YAML too) with a list `profiles`.
 *
 * @param host what profiles leave open
 * @throws FarmError `not_found` or `invalid_argument` naming the file, the field, its value and what is accepted
 */
export async function readProfileFile(file: string, host: HostPaths = {}): Promise<readonly ModelProfile[]> {
  let text: string;
  try {
    const { size } = await stat(file);
    if (size > MAX_BYTES) {
      throw new FarmError('invalid_argument', `--profiles: ${file} has ${size} bytes; accepted: at most ${MAX_BYTES}`, {
        field: '--profiles',
      });
    }
    text = await readFile(file, 'utf8');
  } catch (cause) {
    if (cause instanceof FarmError) throw cause;
    throw new FarmError('not_found', `--profiles: ${file} can't be read: ${FarmError.from(cause).message}`, {
      field: '--profiles',
      cause,
    });
  }
  return parseProfiles(text, file, host);
}

/** The profiles of a text; see {@link readProfileFile}. `file` names it in messages. */
export function parseProfiles(text: string, file: string, host: HostPaths = {}): readonly ModelProfile[] {
  const list = profileList(parseYaml(text, file));
  if (list === null) {
    throw new FarmError('invalid_argument', `${file}: accepted: a list "profiles" and nothing beside it`, {
      field: 'profiles',
    });
  }
  if (list.length === 0 || list.length > MAX_PROFILES) {
    throw new FarmError('invalid_argument', `${file}: ${list.length} profiles; accepted: 1 to ${MAX_PROFILES}`, {
      field: 'profiles',
    });
  }
  const profiles = list.map((source, index) => {
    try {
      return checkModelProfile(source, `profiles[${index}]`, host);
    } catch (error) {
      const { code, message, field = 'profiles', hint } = FarmError.from(error);
      throw new FarmError(code, `${file}: ${message}`, {
        field,
        ...(hint === undefined ? {} : { hint }),
        cause: error,
      });
    }
  });
  const twice = profiles.find(({ name }, index) => profiles.findIndex((other) => other.name === name) !== index);
  if (twice !== undefined) {
    throw new FarmError('invalid_argument', `${file}: profile "${twice.name}" is there twice`, { field: 'profiles' });
  }
  return profiles;
}

function parseYaml(text: string, file: string): unknown {
  try {
    // Without aliases, because a few of them can stand for gigabytes.
    return parse(text, { schema: 'core', maxAliasCount: 0, strict: true, uniqueKeys: true, logLevel: 'error' });
  } catch (cause) {
    const at = cause instanceof YAMLParseError ? cause.linePos?.[0] : undefined;
    const message = cause instanceof Error ? (cause.message.split('\n')[0] ?? '') : String(cause);
    const place = at === undefined ? '' : ` (line ${at.line}, column ${at.col})`;
    throw new FarmError('invalid_argument', `${file}: is no YAML${place}: ${message}`, { cause });
  }
}

function profileList(document: unknown): readonly unknown[] | null {
  if (typeof document !== 'object' || document === null || Object.keys(document).join() !== 'profiles') return null;
  const list: unknown = Reflect.get(document, 'profiles');
  return Array.isArray(list) ? list : null;
}
