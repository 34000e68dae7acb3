import { FarmError } from '@clipfarm/shared/errors';
import { InputKind } from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
import type { JobSpec } from '@clipfarm/shared/gen/clipfarm/v1/job';
import type { Context } from '../context.ts';
import type { Connection } from '../farm/connection.ts';
import { uploadInput } from '../farm/upload.ts';
import type { JobRequest } from '../job-request.ts';
import { bytes } from '../render/units.ts';
import type { Persistence } from './persist.ts';

/** Milliseconds that planning and accepting a job may take: the coordinator decodes hours of audio meanwhile. */
export const PREPARE_MS = 15 * 60_000;

/** What the fields of refusals are called that are about an input. */
const fieldOf: { readonly [K in InputKind]: string } = {
  [InputKind.INPUT_KIND_UNSPECIFIED]: '',
  [InputKind.INPUT_KIND_IMAGE]: 'image',
  [InputKind.INPUT_KIND_AUDIO]: 'audio',
};

/** Brings a job's inputs to the coordinator; those that it has already are not sent again. */
export async function sendInputs(
  context: Context,
  farm: Connection,
  patience: Persistence,
  request: JobRequest,
): Promise<void> {
  for (const input of request.inputs) {
    const sent = await patience.run(() => uploadInput(farm, input));
    if (sent && !context.json) context.note(`uploaded ${input.path} (${bytes(input.bytes)})`);
  }
}

/**
 * Runs `work`, and names the user's own file where the coordinator refuses what is in it: it knows only the content.
 *
 * @throws FarmError as `work` does
 */
export async function namingFiles<T>(request: JobRequest, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    const error = FarmError.from(thrown);
    const { code, message, field, hint = `Correct --${field}.` } = error;
    const path = request.inputs.find(({ kind }) => fieldOf[kind] === field)?.path;
    if (code !== 'invalid_argument' || field === undefined || path === undefined) throw error;
    const what = message.startsWith(`${field}: `) ? message.slice(field.length + 2) : message;
    throw new FarmError(code, `${field}: ${JSON.stringify(path)}: ${what}`, { field, hint, cause: error });
  }
}

/** Remarks of both sides on the flags and settings, each once, on stderr. */
export function tellNotes(context: Context, request: JobRequest, fromPlan: readonly string[]): void {
  for (const note of new Set([...request.notes, ...fromPlan])) context.note(`note: ${note}`);
}

/** The job's name for messages. */
export function nameOf(spec: JobSpec | undefined): string {
  return spec?.name || 'job';
}
