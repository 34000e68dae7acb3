import { FarmError } from '@clipfarm/shared/errors';
import { type Job, JobState } from '@clipfarm/shared/gen/clipfarm/v1/job';
import type { Node } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { CLIP_SECONDS, FPS } from '@clipfarm/shared/model/clip';
import { createLogUpdate } from 'log-update';
import type { Context } from '../context.ts';
import { allNodes } from '../farm/all-nodes.ts';
import type { Connection } from '../farm/connection.ts';
import { type DownloadOptions, downloadPrefix, downloadResult, type SavedPrefix } from '../farm/download.ts';
import { isFinal, jobStateWords } from '../farm/job-state.ts';
import { endReport } from '../render/job-report.ts';
import { bytes, mediaLength, percent } from '../render/units.ts';
import { outageText } from '../watch/watch-job.ts';

/** Milliseconds between two updates of the line that counts a download. */
const PROGRESS_MS = 200;

/**
 * Downloads a completed job's video.
 *
 * @throws FarmError `failed_precondition` when the job has no video; as {@link downloadResult} otherwise.
 */
export async function fetchVideo(
  context: Context,
  farm: Connection,
  job: Job,
  path: string,
  force: boolean,
): Promise<void> {
  if (job.result === undefined) {
    const yet = isFinal(job.state) ? '' : ' yet';
    throw new FarmError(
      'failed_precondition',
      `job ${job.jobId} is ${jobStateWords[job.state]} and has no video${yet}`,
      {
        hint: wayToVideo(job),
      },
    );
  }
  const { result } = job;
  await showing(context, (shown) =>
    downloadResult(farm, result, { ...shown, jobId: job.jobId, path, force }).catch((error: unknown) => {
      throw withWayBack(FarmError.from(error), job.jobId);
    }),
  );
  context.note(`saved ${path} (${bytes(result.bytes)}, SHA-256 checked)`);
}

/**
 * Downloads a job's video as far as it is there; all of it when the job is completed.
 *
 * @throws FarmError `failed_precondition` when there is nothing yet.
 */
export async function fetchPrefix(
  context: Context,
  farm: Connection,
  job: Job,
  path: string,
  force: boolean,
): Promise<SavedPrefix> {
  const { result, jobId } = job;
  const all = job.plan?.clips ?? 0;
  if (result !== undefined) {
    await fetchVideo(context, farm, job, path, force);
    return { clips: all, frames: result.frames, bytes: result.bytes, sha256: result.sha256 };
  }
  const saved = await showing(context, (shown) => downloadPrefix(farm, { ...shown, jobId, path, force }));
  const length = mediaLength(saved.frames / FPS);
  const size = bytes(saved.bytes);
  context.note(`saved ${path} (clips 0-${saved.clips - 1} of ${all}, ${length}, ${size}, SHA-256 checked)`);
  return saved;
}

/** Shows how far a download is while it goes on. */
async function showing<T>(
  context: Context,
  work: (shown: Pick<DownloadOptions, 'onProgress' | 'onOutage'>) => Promise<T>,
): Promise<T> {
  const { stderr, clock } = context.shell;
  const update = stderr.isTTY === true && !context.json ? createLogUpdate(stderr) : undefined;
  let shownAt = Number.NEGATIVE_INFINITY;
  try {
    return await work({
      onProgress: (received, total) => {
        const now = clock.monotonic();
        if (now - shownAt < PROGRESS_MS) return;
        shownAt = now;
        update?.(`downloading  ${bytes(received)} of ${bytes(total)}  ${percent(received / total)}`);
      },
      onOutage: (error, delay) => context.note(outageText(error, delay)),
    });
  } finally {
    update?.clear();
    update?.done();
  }
}

/** The command that brings a job without a video closer to one. */
function wayToVideo({ jobId, state, clipsPrefix }: Job): string {
  if (isFinal(state)) {
    const retry = `Take it up where it ended with: clipfarm job retry ${jobId}`;
    return clipsPrefix === 0 ? retry : `${retry}; or add --partial for what is there.`;
  }
  if (state === JobState.JOB_STATE_PAUSED) return `Let it go on with: clipfarm job resume ${jobId}`;
  return `Wait for it with: clipfarm job watch ${jobId}; or add --partial for what is there already.`;
}

/** The error of a download, which always says that the video is not lost. */
function withWayBack(error: FarmError, jobId: string): FarmError {
  const again = `The video is kept; fetch it with: clipfarm job download ${jobId} --output FILE`;
  const hint = error.hint === undefined ? again : `${error.hint} ${again}`;
  return new FarmError(error.code, error.message, { hint, cause: error });
}

/** What became of a job that somebody waited for: a report for people; nothing more where JSON told it all. */
export async function printEnd(
  context: Context,
  farm: Connection,
  job: Job,
  output: string | undefined,
): Promise<void> {
  if (context.json) return;
  context.print(endReport(job, await nodesOf(farm), context.style));
  if (job.state === JobState.JOB_STATE_COMPLETED && output === undefined) {
    context.note(`save the video with: clipfarm job download ${job.jobId} --output video.mp4`);
  }
  if (job.state === JobState.JOB_STATE_FAILED || job.state === JobState.JOB_STATE_CANCELLED) {
    context.note(`take it up where it ended with: clipfarm job retry ${job.jobId}`);
    if (job.clipsPrefix > 0) {
      const beginning = mediaLength(job.clipsPrefix * CLIP_SECONDS);
      context.note(`save its first ${beginning} with: clipfarm job download ${job.jobId} --partial --output video.mp4`);
    }
  }
}

/** The nodes, for their names; none where the coordinator does not tell. */
export async function nodesOf(farm: Connection): Promise<readonly Node[]> {
  try {
    return await allNodes((request) => farm.call(farm.client.listNodes, request));
  } catch {
    return [];
  }
}
