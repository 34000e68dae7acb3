import type { JobSpec } from '@clipfarm/shared/gen/clipfarm/v1/job';
import type { Context } from '../context.ts';
import type { Connection } from '../farm/connection.ts';
import { uploadInput } from '../farm/upload.ts';
import type { JobRequest } from '../job-request.ts';
import { bytes } from '../render/units.ts';
import type { Persistence } from './persist.ts';

/** Milliseconds that planning and accepting a job may take: the coordinator decodes hours of audio meanwhile. */
export const PREPARE_MS = 15 * 60_000;

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

/** Remarks of both sides on the flags and settings, each once, on stderr. */
export function tellNotes(context: Context, request: JobRequest, fromPlan: readonly string[]): void {
  for (const note of new Set([...request.notes, ...fromPlan])) context.note(`note: ${note}`);
}

/** The job's name for messages. */
export function nameOf(spec: JobSpec | undefined): string {
  return spec?.name || 'job';
}
