/** What a program needs to be found, to be linked, to speak the right language and to put its temporary files somewhere. */
const INHERITED: ReadonlySet<string> = new Set([
  'PATH',
  'HOME',
  'USER',
  'LANG',
  'TZ',
  'TMPDIR',
  'LD_LIBRARY_PATH',
  'DYLD_LIBRARY_PATH',
  'DYLD_FALLBACK_LIBRARY_PATH',
]);

/**
 * The environment of a program that reads files of others: what an allow-list lets through of `own`. The process's
 * environment may hold tokens and keys of a store, which a program that a crafted file has taken over must not find.
 */
export function toolEnvironment(own: Readonly<Record<string, string | undefined>>): Readonly<Record<string, string>> {
  return pickEnvironment(own, (name) => INHERITED.has(name) || name.startsWith('LC_'));
}

/** The variables of `own` that are set and whose names are allowed. */
export function pickEnvironment(
  own: Readonly<Record<string, string | undefined>>,
  allowed: (name: string) => boolean,
): Readonly<Record<string, string>> {
  const entries = Object.entries(own);
  return Object.fromEntries(
    entries.filter((entry): entry is [string, string] => entry[1] !== undefined && allowed(entry[0])),
  );
}
