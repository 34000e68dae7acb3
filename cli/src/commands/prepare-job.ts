import type { JobSpec } from '@clipfarm/shared/gen/clipfarm/v1/job';
import type { Context } from '../context.ts';
import { type Connection, isSilence } from '../farm/connection.ts';
import { retry, shortOutage } from '../farm/retry.ts';
import { uploadInput } from '../farm/upload.ts';
import type { JobRequest } from '../job-request.ts';
import { bytes } from '../render/units.ts';
import { outageText } from '../watch/watch-job.ts';

/** Milliseconds that planning and accepting a job may take: the coordinator decodes hours of audio meanwhile. */
export const PREPARE_MS = 15 * 60_000;

/** Brings a job's inputs to the coordinator; those that it has already are not sent again. */
export async function sendInputs(context: Context, farm: Connection, request: JobRequest): Promise<void> {
  let reached = false;
  for (const input of request.inputs) {
    const sent = await retry(() => uploadInput(farm, input), {
      ...shortOutage,
      ...onRetry(context, farm),
      // Where nobody answers from the beginning, that is told at once; a restart and a change of the leader are outlasted.
      worthwhile: (error) => {
        reached ||= !isSilence(error);
        return reached;
      },
    });
    reached = true;
    if (sent && !context.json) context.note(`uploaded ${input.path} (${bytes(input.bytes)})`);
  }
}

/** What {@link retry} needs beside the number of attempts. */
export function onRetry(context: Context, farm: Connection) {
  return {
    signal: farm.signal,
    onRetry: (error: Parameters<typeof outageText>[0], delayMillis: number) =>
      context.note(outageText(error, delayMillis)),
  };
}

/** Remarks of both sides on the flags and settings, each once, on stderr. */
export function tellNotes(context: Context, request: JobRequest, fromPlan: readonly string[]): void {
  for (const note of new Set([...request.notes, ...fromPlan])) context.note(`note: ${note}`);
}

/** The job's name for messages. */
export function nameOf(spec: JobSpec | undefined): string {
  return spec?.name || 'job';
}
