import { setTimeout as sleep } from 'node:timers/promises';
import type { FarmError } from '@clipfarm/shared/errors';
import {
  type ListNodesRequest,
  type ListNodesResponse,
  WatchJobResponse,
} from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
import { type Job, JobState } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { callUnary } from '@clipfarm/shared/rpc/client-call';
import type { Context } from '../context.ts';
import { exitCode } from '../exit-code.ts';
import { allNodes } from '../farm/all-nodes.ts';
import type { Connection } from '../farm/connection.ts';
import { followJob, type JobFollower } from '../farm/follow-job.ts';
import { shellWord } from '../render/shell-word.ts';
import { staleText } from '../render/stale.ts';
import { createDisplay, type Display } from './display.ts';

/** Milliseconds between two looks at the nodes, which say how far the clips in hand are. */
const NODES_MS = 500;

/**
 * Shows a job until it ends: a live picture on a terminal, lines elsewhere, one JSON document per change for `-o json`.
 *
 * @param reached see {@link followJob}.
 * @param output where the caller saves the video after the end; undefined when it does not.
 * @returns the job in its final state, or undefined when the user detached; then it says how to come back.
 */
export async function watchJob(
  context: Context,
  farm: Connection,
  jobId: string,
  reached: boolean,
  output?: string,
): Promise<Job | undefined> {
  const following = context.json ? followAsJson(context, farm, jobId, reached) : follow(context, farm, jobId, reached);
  try {
    return await following;
  } catch (error) {
    if (!farm.signal.aborted) throw error;
    context.note(`no longer watching; the job itself goes on. Come back with: clipfarm job watch ${jobId}`);
    if (output !== undefined) {
      context.note(`save the finished video with: clipfarm job download ${jobId} --output ${shellWord(output)}`);
    }
    return undefined;
  }
}

/** Exit code for a job that has ended, or that nobody watches any more. */
export function exitCodeOfJob(job: Job | undefined): number {
  if (job === undefined) return exitCode.interrupted;
  return job.state === JobState.JOB_STATE_COMPLETED ? exitCode.ok : exitCode.noVideo;
}

/** Words for an outage while something waits for the coordinator. */
export function outageText(error: FarmError, delayMillis: number): string {
  return `waiting: ${error.message}; trying again in ${Math.ceil(delayMillis / 1000)} s`;
}

async function followAsJson(context: Context, farm: Connection, jobId: string, reached: boolean): Promise<Job> {
  const follower: JobFollower = {
    onChange: (job, staleReason) => context.printJson(WatchJobResponse.toJSON({ job, staleReason }), 'line'),
    onOutage: (error, delay) => context.note(outageText(error, delay)),
  };
  return followJob(farm, jobId, follower, reached);
}

async function follow(context: Context, farm: Connection, jobId: string, reached: boolean): Promise<Job> {
  const { shell, noteStyle } = context;
  const display = createDisplay(shell.stderr, noteStyle, shell.clock);
  const stop = new AbortController();
  // First of all, so that even the first line names nodes, not identities.
  await showNodes(display, (request) => farm.call(farm.client.listNodes, request));
  const lookingAtNodes = keepShowingNodes(farm, display, AbortSignal.any([farm.signal, stop.signal]));
  let shown = false;
  try {
    const follower: JobFollower = {
      onChange: (job, staleReason) => {
        // While nobody leads it comes again and again as it was.
        if (staleReason === '' || !shown) display.job(job);
        if (staleReason !== '') display.outage(staleText(staleReason));
        shown = true;
      },
      onOutage: (error, delay) => display.outage(outageText(error, delay)),
    };
    return await followJob(farm, jobId, follower, reached);
  } finally {
    stop.abort();
    await lookingAtNodes;
    display.close();
  }
}

/** Looks at the nodes once. It is an extra: where it fails, the job is shown without it. */
async function showNodes(
  display: Display,
  list: (request: ListNodesRequest) => Promise<ListNodesResponse>,
): Promise<void> {
  try {
    display.nodes(await allNodes(list));
  } catch {
    // The follower reports an outage; here there is nothing to add.
  }
}

async function keepShowingNodes(farm: Connection, display: Display, signal: AbortSignal): Promise<void> {
  // Of the coordinator that is followed; which one that is, the follower decides.
  const list = (request: ListNodesRequest) =>
    callUnary(farm.client, farm.client.listNodes, request, { signal: farm.signal });
  while (!signal.aborted) {
    await sleep(NODES_MS, undefined, { signal }).catch(() => undefined);
    if (!signal.aborted) await showNodes(display, list);
  }
}
