/** What a terminal obeys instead of showing it: control characters, and what turns the direction of writing or ends a line. */
const commands = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu;

/** The same text with what a terminal would obey written as JSON writes it (`\n`, `\u001b`), so that it stays on its line. */
export function escapeText(text: string): string {
  return text.replace(commands, escaped);
}

/** As {@link escapeText} for a text that is JSON already, and ends with a line feed. */
export function escapeJsonLine(line: string): string {
  return `${escapeText(line.replace(/\n$/, ''))}\n`;
}

function escaped(character: string): string {
  const json = JSON.stringify(character).slice(1, -1);
  return json === character ? `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}` : json;
}
