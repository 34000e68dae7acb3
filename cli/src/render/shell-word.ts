/** A text as one word of a POSIX shell, whatever is in it: a command that is shown can be pasted as it stands. */
export function shellWord(text: string): string {
  if (/^[\w@%+=:,./-]+$/.test(text) && !text.startsWith('-')) return text;
  // A leading dash would be read as a flag.
  const path = text.startsWith('-') ? `./${text}` : text;
  return `'${path.replaceAll("'", "'\\''")}'`;
}
