import { FarmError } from '@clipfarm/shared/errors';
import { LOCAL_ONLY, QUIET } from '@clipfarm/shared/media/encode';
import { runTool } from '@clipfarm/shared/process';

const TIMEOUT_MS = 20_000;

/**
 * The reference picture in RGB, width x height x 3 bytes.
 *
 * @throws FarmError `invalid_argument` on `referencePath` when it can't be decoded or has another size, `unavailable`
 *   when `signal` aborts.
 */
export async function readReference(
  path: string,
  width: number,
  height: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const input = ['-f', 'png_pipe', '-i', path, '-map', '0:v:0', '-frames:v', '1'];
  const args = [...QUIET, ...LOCAL_ONLY, ...input, '-f', 'rawvideo', '-pix_fmt', 'rgb24', 'pipe:1'];
  const bytes = width * height * 3;
  let decoded: Uint8Array;
  try {
    decoded = (await runTool('ffmpeg', args, { timeoutMs: TIMEOUT_MS, maxOutputBytes: bytes, signal })).stdout;
  } catch (cause) {
    const error = FarmError.from(cause);
    if (error.code === 'unavailable' || error.code === 'failed_precondition') throw error;
    const size = error.code === 'resource_exhausted' ? `is larger than ${width}x${height} pixels` : error.message;
    throw new FarmError('invalid_argument', `reference picture ${size}`, { field: 'referencePath', cause });
  }
  if (decoded.length === bytes) return decoded;
  const message = `reference picture has ${decoded.length / 3} pixels; accepted: a PNG of ${width}x${height}`;
  throw new FarmError('invalid_argument', message, { field: 'referencePath' });
}
