/** Prompts: what may be one, and how much of it the model reads. */
import { FarmError } from '../errors.ts';

/** Longest prompt in characters, counted as Unicode code points. */
export const MAX_PROMPT_CHARACTERS = 4000;

/** Tokens that the model's text encoder reads, its end mark included; upstream cuts the rest off (`text_len`). */
export const PROMPT_TOKENS = 512;

/**
 * Bytes of UTF-8 per token, at least, in ordinary text: about four in English, and a token for each character or two,
 * of three bytes each, in Chinese. Only the model's tokenizer knows exactly.
 */
const BYTES_PER_TOKEN = 3;

/**
 * Throws FarmError `invalid_argument` on `field` for text that can't reach the model as it is: longer than
 * {@link MAX_PROMPT_CHARACTERS}, with a zero byte, which no argument of a program can hold, or with half of a surrogate
 * pair, which UTF-8 can't hold.
 */
export function checkPrompt(prompt: string, field = 'prompt'): void {
  const refuse = (what: string): never => {
    const accepted = `at most ${MAX_PROMPT_CHARACTERS} characters of Unicode text without zero bytes`;
    throw new FarmError('invalid_argument', `${field} ${what}; accepted: ${accepted}`, { field });
  };
  const characters = promptCharacters(prompt);
  if (characters > MAX_PROMPT_CHARACTERS) refuse(`has ${characters} characters`);
  if (prompt.includes('\0'))
    refuse(`has a zero byte at character ${promptCharacters(prompt.slice(0, prompt.indexOf('\0'))) + 1}`);
  if (!prompt.isWellFormed()) refuse('has half of a surrogate pair');
}

/** Characters of a prompt, as {@link MAX_PROMPT_CHARACTERS} counts them. */
export function promptCharacters(prompt: string): number {
  let characters = 0;
  for (const _ of prompt) characters += 1;
  return characters;
}

/** Remarks for the one who submits a prompt: that the model may not read all of it. */
export function promptNotes(prompt: string): readonly string[] {
  const bytes = new TextEncoder().encode(prompt).length;
  if (bytes <= PROMPT_TOKENS * BYTES_PER_TOKEN) return [];
  const reads = `the model reads ${PROMPT_TOKENS} tokens, about 2000 characters of English or 700 of Chinese`;
  return [`prompt has ${promptCharacters(prompt)} characters: ${reads}, and ignores what comes after them.`];
}
