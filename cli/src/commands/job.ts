import { FarmError } from '@clipfarm/shared/errors';
import {
  CancelJobResponse,
  GetJobResponse,
  PauseJobResponse,
  ResumeJobResponse,
  RetryJobResponse,
  SetJobPriorityResponse,
} from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
import type { Job } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { type Command, Option } from 'commander';
import type { Context } from '../context.ts';
import { exitCode } from '../exit-code.ts';
import type { Connection } from '../farm/connection.ts';
import { isFinal, jobStateWords } from '../farm/job-state.ts';
import { checkOutput } from '../inputs/output-file.ts';
import { flagValue } from '../job-options.ts';
import { jobDetails } from '../render/job-report.ts';
import { noteStale } from '../render/stale.ts';
import { parseInteger } from '../values.ts';
import { exitCodeOfJob, watchJob } from '../watch/watch-job.ts';
import { fetchPrefix, fetchVideo, nodesOf, printEnd } from './finished-job.ts';
import { DEFAULT_EVENTS, showHistory } from './job-history.ts';
import { orDoneBefore, persist } from './persist.ts';
import { act, examples, type Handler, type Register, type Run } from './register.ts';

/** `clipfarm job ...` */
export const registerJob: Register = (program, run) => {
  const job = program.command('job').description('Looks at one job, or changes what becomes of it.');
  job.addHelpText(
    'after',
    examples(['clipfarm job get 3f9a', 'clipfarm job download 3f9a --partial --output beginning.mp4']),
  );
  const add = (name: string, description: string, handler: Handler, example: string) =>
    addCommand(job, run, name, description, handler, example);
  add('get', 'Shows a job.', getJob, 'clipfarm job get 3f9a');
  add(
    'history',
    'Shows what happened to a job: who rendered what, what failed, who changed it.',
    showHistory,
    'clipfarm job history 3f9a',
  ).option('--limit <n>', 'at most so many events, the newest', `${DEFAULT_EVENTS}`);
  add(
    'watch',
    'Shows the progress until the job ends. Ctrl-C detaches; the job goes on.',
    watch,
    'clipfarm job watch 3f9a',
  );
  add(
    'cancel',
    'Stops a job. Its finished clips are kept, so that a retry goes on from there.',
    cancelJob,
    'clipfarm job cancel 3f9a --reason "wrong portrait"',
  ).option('--reason <text>', 'recorded with the job', '');
  add('pause', 'Holds a job at the next clip boundary.', pauseJob, 'clipfarm job pause 3f9a');
  add('resume', 'Lets a paused job go on.', resumeJob, 'clipfarm job resume 3f9a');
  add('retry', 'Takes up a failed or cancelled job where it ended.', retryJob, 'clipfarm job retry 3f9a');
  add('priority', 'Changes the priority of a job.', setPriority, 'clipfarm job priority 3f9a 50').argument(
    '<priority>',
    '-100 to 100; higher runs first',
  );
  add(
    'download',
    'Downloads the finished video and checks its SHA-256.',
    download,
    'clipfarm job download 3f9a --output talk.mp4',
  )
    .addOption(new Option('--output <file>', 'where to save it').makeOptionMandatory())
    .option(
      '--partial',
      'of a video that is not finished: the clips from the beginning that are there, with their sound',
    )
    .option('--force', 'replace a file that is there');
};

function addCommand(
  parent: Command,
  run: Run,
  name: string,
  description: string,
  handler: Handler,
  example: string,
): Command {
  const command = parent
    .command(name)
    .description(description)
    .argument('<job>', "the job's identity, or a beginning of it that only one job has")
    .addHelpText('after', examples([example]));
  act(command, run, handler);
  return command;
}

const getJob: Handler = async (context, [jobId = '']) =>
  context.withFarm(async (farm) => {
    const response = await farm.call(farm.client.getJob, { jobId });
    noteStale(context, response);
    if (context.json) context.printJson(GetJobResponse.toJSON(response));
    else context.print(jobDetails(required(response.job), await nodesOf(farm), context.style));
    return exitCode.ok;
  });

const watch: Handler = async (context, [jobId = '']) =>
  context.withFarm(async (farm) => {
    const job = await watchJob(context, farm, jobId, false);
    if (job !== undefined) await printEnd(context, farm, job, undefined);
    return exitCodeOfJob(job);
  });

const download: Handler = async (context, [jobId = ''], options) => {
  const output = flagValue(options, 'output') ?? '';
  const force = options.force === true;
  await checkOutput(output, force);
  return context.withFarm(async (farm) => {
    const job = required((await farm.call(farm.client.getJob, { jobId })).job);
    if (options.partial === true) {
      const { clips, frames, bytes, sha256 } = await fetchPrefix(context, farm, job, output, force);
      if (context.json) context.printJson({ path: output, sha256, bytes, clips, frames });
      else context.print([output]);
      return exitCode.ok;
    }
    await fetchVideo(context, farm, job, output, force);
    if (context.json) context.printJson({ path: output, sha256: job.result?.sha256, bytes: job.result?.bytes });
    else context.print([output]);
    return exitCode.ok;
  });
};

const cancelJob: Handler = (context, [jobId = ''], options) =>
  change(context, CancelJobResponse, stateOf, (farm) =>
    farm.call(farm.client.cancelJob, { jobId, reason: flagValue(options, 'reason') ?? '' }),
  );

const pauseJob: Handler = (context, [jobId = '']) =>
  change(context, PauseJobResponse, stateOf, (farm) => farm.call(farm.client.pauseJob, { jobId }));

const resumeJob: Handler = (context, [jobId = '']) =>
  change(context, ResumeJobResponse, stateOf, (farm) => farm.call(farm.client.resumeJob, { jobId }));

/** Unlike the other changes, it is refused when it was done before. */
const retryJob: Handler = (context, [jobId = '']) =>
  change(context, RetryJobResponse, stateOf, (farm, repeated) =>
    orDoneBefore(
      repeated,
      () => farm.call(farm.client.retryJob, { jobId }),
      async () => {
        const { job } = await farm.call(farm.client.getJob, { jobId });
        return job === undefined || isFinal(job.state) ? undefined : { job };
      },
    ),
  );

const setPriority: Handler = (context, [jobId = '', text = '']) => {
  const priority = parseInteger('priority', text, -100, 100);
  const said = (job: Job) => `${stateOf(job)}, priority ${job.spec?.priority ?? 0}`;
  return change(context, SetJobPriorityResponse, said, (farm) =>
    farm.call(farm.client.setJobPriority, { jobId, priority }),
  );
};

/** Makes a change, over a restart of the coordinator too, and says where the job stands after it. */
async function change<Response extends { readonly job?: Job | undefined }>(
  context: Context,
  message: { toJSON(response: Response): unknown },
  said: (job: Job) => string,
  call: (farm: Connection, repeated: boolean) => Promise<Response>,
): Promise<number> {
  const response = await context.withFarm((farm) => persist(context, farm, (repeated) => call(farm, repeated)));
  if (context.json) {
    context.printJson(message.toJSON(response));
  } else {
    const job = required(response.job);
    context.note(`job ${job.jobId} is ${said(job)}`);
  }
  return exitCode.ok;
}

function stateOf(job: Job): string {
  return jobStateWords[job.state];
}

function required(job: Job | undefined): Job {
  if (job === undefined) throw new FarmError('internal', 'the coordinator answered without a job');
  return job;
}
