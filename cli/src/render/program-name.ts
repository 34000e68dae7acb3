/** The commands that texts tell the user to run. */
const COMMANDS = 'submit|plan|jobs|job|nodes|node|presets|up|coordinator|agent|doctor|version';

/** This program where a text names it together with a command; not where it is named otherwise. */
const OWN_COMMAND = new RegExp(`(?<![\\w/.-]|npx )clipfarm (?=(?:${COMMANDS})\\b|--help|\\[)`, 'g');

/**
 * A text with the commands in it spelled as the user has to type them.
 *
 * @param program how this program was started: `clipfarm` or `npx clipfarm`
 */
export function asTyped(text: string, program: string): string {
  return program === 'clipfarm' ? text : text.replace(OWN_COMMAND, `${program} `);
}
