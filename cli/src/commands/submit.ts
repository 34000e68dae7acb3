import { randomUUID } from 'node:crypto';
import { FarmError } from '@clipfarm/shared/errors';
import { SubmitJobResponse } from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
import type { Job } from '@clipfarm/shared/gen/clipfarm/v1/job';
import type { Context } from '../context.ts';
import { exitCode } from '../exit-code.ts';
import type { Connection } from '../farm/connection.ts';
import { checkKeepsInputs, checkOutput } from '../inputs/output-file.ts';
import { addJobOptions, flagValue, type RawOptions } from '../job-options.ts';
import { readJobRequest } from '../job-request.ts';
import { deadlineWarning } from '../render/deadline.ts';
import { exitCodeOfJob, watchJob } from '../watch/watch-job.ts';
import { fetchVideo, printEnd } from './finished-job.ts';
import { persistence } from './persist.ts';
import { namingFiles, PREPARE_MS, sendInputs, tellNotes } from './prepare-job.ts';
import { act, examples, type Register } from './register.ts';

/** `clipfarm submit` */
export const registerSubmit: Register = (program, run) => {
  const command = program
    .command('submit')
    .summary('Renders a video from a portrait and a speech.')
    .description(
      'Renders a video from a portrait and a speech. Checks both before anything is sent, prints the job, and with ' +
        '--watch stays until the video is there. Takes the flags of Live Avatar’s own scripts, with underscores or dashes.',
    );
  addJobOptions(command)
    .option('--watch', 'stay and show the progress')
    .option('--output <file>', 'save the finished video there; stays like --watch')
    .option('--force', 'replace the file that --output names')
    .option('--idempotency-key <key>', 'the same key never makes a second job')
    .addHelpText(
      'after',
      examples([
        'clipfarm submit --image me.png --audio talk.mp3 --prompt "A woman speaks to the camera" --output talk.mp4',
        'clipfarm submit --image me.png --audio talk.mp3 --preset preview --num_clip 5 --watch',
        'id=$(clipfarm submit --image me.png --audio talk.mp3 --priority 10)',
        'clipfarm submit --image me.png --audio talk.mp3 -o json | jq -r .job.jobId',
      ]),
    );
  act(command, run, submit);
};

async function submit(context: Context, _operands: readonly string[], options: RawOptions): Promise<number> {
  const output = flagValue(options, 'output');
  const force = options.force === true;
  if (force && output === undefined) {
    throw new FarmError('invalid_argument', 'force has no effect without --output', { field: 'force' });
  }
  const key = flagValue(options, 'idempotencyKey');
  if (key !== undefined && (key === '' || key.length > 200)) {
    throw new FarmError('invalid_argument', `idempotency-key has ${key.length} characters; accepted: 1 to 200`, {
      field: 'idempotency-key',
    });
  }
  if (output !== undefined) await checkOutput(output, force);
  const request = await readJobRequest(options, context.shell.clock.now());
  if (output !== undefined) {
    const named = (flag: string) => flagValue(options, flag);
    const inputs = { image: named('image'), audio: named('audio'), prompt_file: named('prompt_file') };
    await checkKeepsInputs(output, inputs);
  }
  return context.withFarm(async (farm) => {
    const patience = persistence(context, farm);
    await sendInputs(context, farm, patience, request);
    const message = { spec: request.spec, idempotencyKey: key ?? randomUUID() };
    // The key makes it safe to ask again after an answer got lost.
    const response = await patience.run(() =>
      namingFiles(request, () => farm.call(farm.client.submitJob, message, PREPARE_MS)),
    );
    const job = acceptedJob(response);
    tellNotes(context, request, job.plan?.notes ?? []);
    const stays = options.watch === true || output !== undefined;
    tellAccepted(context, response, job, stays);
    return stays ? stay(context, farm, job, output, force) : exitCode.ok;
  });
}

function acceptedJob({ job }: SubmitJobResponse): Job {
  if (job === undefined) throw new FarmError('internal', 'the coordinator accepted the job without saying which');
  return job;
}

function tellAccepted(context: Context, response: SubmitJobResponse, job: Job, stays: boolean): void {
  if (context.json) context.printJson(SubmitJobResponse.toJSON(response), stays ? 'line' : 'document');
  else if (!stays) context.print([job.jobId]);
  if (response.alreadyExisted) context.note(`job ${job.jobId} exists already under this idempotency key`);
  else context.note(`accepted job ${job.jobId}`);
  const warning = deadlineWarning(job);
  if (warning !== undefined) context.note(`note: ${warning}`);
  if (!stays) context.note(`watch it with: clipfarm job watch ${job.jobId}`);
}

async function stay(
  context: Context,
  farm: Connection,
  accepted: Job,
  output: string | undefined,
  force: boolean,
): Promise<number> {
  const job = await watchJob(context, farm, accepted.jobId, true, output);
  if (job?.result !== undefined && output !== undefined) await fetchVideo(context, farm, job, output, force);
  if (job !== undefined) await printEnd(context, farm, job, output);
  return exitCodeOfJob(job);
}
