import { FarmError } from '@clipfarm/shared/errors';
import type { ToolResult } from '@clipfarm/shared/process';
import { shortComplaint } from './probe-audio.ts';

/**
 * Waits for a run of FFmpeg that decodes an upload. It ends well after some kinds of damage, so anything that it complains
 * about counts.
 *
 * @param path of the upload, which the complaint is not to show
 * @param blame makes the error of FFmpeg's complaint
 */
export async function decodeOrBlame(
  run: Promise<ToolResult>,
  path: string,
  blame: (why: string) => FarmError,
): Promise<void> {
  let complaint: string;
  try {
    complaint = (await run).stderr.trim();
  } catch (error) {
    if (!(error instanceof FarmError) || error.code !== 'internal') throw error;
    complaint = error.message;
  }
  if (complaint !== '') throw blame(shortComplaint(complaint, path));
}
