import { readFile, stat } from 'node:fs/promises';
import { basename, extname } from 'node:path';
import { FarmError } from '@clipfarm/shared/errors';
import type { JobSpec } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { checkPrompt, MAX_PROMPT_CHARACTERS } from '@clipfarm/shared/model/prompt';
import { parseSettings, resolveSettings } from '@clipfarm/shared/model/settings';
import { type InputFile, inspectAudio, inspectImage } from './inputs/input-file.ts';
import { whyUnreadable } from './inputs/unreadable.ts';
import { flagValue, type RawOptions, readSettings, remarksOnFlags, settingsMessage } from './job-options.ts';
import { parseDeadline, parseInteger, refuseValue } from './values.ts';

/** A job that passed every check which needs no coordinator. */
export interface JobRequest {
  readonly spec: JobSpec;
  /** The files that the coordinator must have before it takes the job. */
  readonly inputs: readonly InputFile[];
  /** Remarks on the flags: what has no effect, and why. */
  readonly notes: readonly string[];
}

/** Largest file with a prompt: four bytes a character, a mark at the beginning and an end of line. */
const MAX_PROMPT_FILE_BYTES = 4 * MAX_PROMPT_CHARACTERS + 16;

/** Longest label of a job and longest name of an owner in characters. */
const MAX_LABEL = { name: 200, owner: 100 } as const;

/**
 * Checks flags and files, cheapest first, so that a wrong flag is told before a large file is read.
 *
 * @param nowMillis milliseconds since 1970.
 * @throws FarmError `invalid_argument` naming the flag, its value and what is accepted.
 */
export async function readJobRequest(raw: RawOptions, nowMillis: number): Promise<JobRequest> {
  const remarks = remarksOnFlags(raw);
  const input = parseSettings(readSettings(raw));
  const { settings, notes } = resolveSettings(input);
  const priority = parseInteger('priority', flagValue(raw, 'priority') ?? '0', -100, 100);
  const deadline = flagValue(raw, 'deadline');
  const due = deadline === undefined ? undefined : parseDeadline(deadline, nowMillis);
  const imagePath = requiredPath(raw, 'image', 'the portrait');
  const audioPath = requiredPath(raw, 'audio', 'the speech');
  const name = label('name', flagValue(raw, 'name') ?? basename(audioPath, extname(audioPath)));
  // Left out, the coordinator decides on one.
  const givenOwner = flagValue(raw, 'owner');
  const owner = givenOwner === undefined ? '' : label('owner', givenOwner);
  const prompt = await readPrompt(flagValue(raw, 'prompt'), flagValue(raw, 'prompt_file'));
  const image = await inspectImage(imagePath);
  const audio = await inspectAudio(audioPath);
  return {
    spec: {
      name,
      owner,
      prompt,
      priority,
      imageSha256: image.sha256,
      audioSha256: audio.sha256,
      settings: settingsMessage(input, settings.baseSeed),
      deadline: due === undefined ? undefined : { seconds: Math.floor(due.getTime() / 1000), nanos: 0 },
    },
    inputs: [image, audio],
    notes: [...remarks, ...notes],
  };
}

function requiredPath(raw: RawOptions, field: 'image' | 'audio', what: string): string {
  const path = flagValue(raw, field);
  if (path !== undefined && path !== '') return path;
  throw new FarmError('invalid_argument', `${field} is not given; accepted: a file that holds ${what}`, {
    field,
    hint: `Add --${field} FILE.`,
  });
}

function label(field: keyof typeof MAX_LABEL, text: string): string {
  if (text === '' || text.length > MAX_LABEL[field] || /\p{Cc}/u.test(text)) {
    throw refuseValue(field, text, `one line of 1 to ${MAX_LABEL[field]} characters`);
  }
  return text;
}

async function readPrompt(text: string | undefined, file: string | undefined): Promise<string> {
  if (text !== undefined && file !== undefined) {
    throw new FarmError('invalid_argument', 'prompt is given twice, as --prompt and as --prompt_file', {
      field: 'prompt',
    });
  }
  const prompt = file === undefined ? (text ?? '') : await readPromptFile(file);
  checkPrompt(prompt, file === undefined ? 'prompt' : 'prompt_file');
  return prompt;
}

async function readPromptFile(path: string): Promise<string> {
  const accepted = `a text file in UTF-8 of at most ${MAX_PROMPT_CHARACTERS} characters`;
  const refuse = (why: string, cause?: unknown) =>
    new FarmError('invalid_argument', `prompt_file: "${path}" ${why}; accepted: ${accepted}`, {
      field: 'prompt_file',
      hint: 'Correct --prompt_file.',
      cause,
    });
  try {
    const status = await stat(path);
    if (!status.isFile()) throw refuse(status.isDirectory() ? 'is a directory' : 'is no regular file');
    if (status.size > MAX_PROMPT_FILE_BYTES) throw refuse(`has ${status.size} bytes`);
    const text = utf8Text(await readFile(path));
    if (text === undefined) throw refuse('is not in UTF-8');
    // The end of the last line is the editor's, not the prompt's.
    return text.replace(/[\r\n]+$/, '');
  } catch (error) {
    if (error instanceof FarmError) throw error;
    throw refuse(whyUnreadable(error), error);
  }
}

/** Text in UTF-8, without the mark that some editors begin it with; undefined where it is none. */
function utf8Text(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
