import { ListJobsResponse } from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
import { type Job, JobState } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { FPS } from '@clipfarm/shared/model/clip';
import type { Context } from '../context.ts';
import { exitCode } from '../exit-code.ts';
import type { Connection } from '../farm/connection.ts';
import { jobStateWords } from '../farm/job-state.ts';
import { flagValue, type RawOptions } from '../job-options.ts';
import { shortDeadline } from '../render/deadline.ts';
import { noteStale } from '../render/stale.ts';
import { table } from '../render/table.ts';
import { age, dateOf, duration, mediaLength } from '../render/units.ts';
import { parseChoice, parseInteger } from '../values.ts';
import { act, examples, type Register } from './register.ts';

/** Jobs a page; the coordinator's limit. */
const MAX_PAGE = 500;

/** `clipfarm jobs` */
export const registerJobs: Register = (program, run) => {
  const command = program
    .command('jobs')
    .description('Lists jobs, newest first.')
    .option('--state <states>', 'only these, separated by commas: queued, rendering, stitching, completed, ...')
    .option('--limit <n>', 'at most so many', '50')
    .addHelpText(
      'after',
      examples([
        'clipfarm jobs',
        'clipfarm jobs --state queued,rendering',
        'clipfarm jobs -o json | jq ".jobs[].jobId"',
      ]),
    );
  act(command, run, listJobs);
};

async function listJobs(context: Context, _operands: readonly string[], options: RawOptions): Promise<number> {
  const limit = parseInteger('limit', flagValue(options, 'limit') ?? '50', 1, 100_000);
  const states = parseStates(flagValue(options, 'state'));
  const response = await context.withFarm((farm) => collect(farm, states, limit));
  noteStale(context, response);
  if (context.json) {
    context.printJson(ListJobsResponse.toJSON(response));
  } else if (response.jobs.length === 0) {
    context.note('no jobs');
  } else {
    context.print(jobTable(context, response.jobs));
    if (response.nextPageToken !== '') context.note(`there are more; add --limit ${limit * 2}`);
  }
  return exitCode.ok;
}

function parseStates(text: string | undefined): JobState[] {
  if (text === undefined) return [];
  const byWord = new Map(Object.entries(jobStateWords).map(([state, word]) => [word, state as JobState]));
  byWord.delete('unknown');
  const words = [...byWord.keys()];
  return text.split(',').map((part) => {
    const word = parseChoice('state', part.trim().toLowerCase(), words);
    return byWord.get(word) ?? JobState.JOB_STATE_UNSPECIFIED;
  });
}

async function collect(farm: Connection, states: JobState[], limit: number): Promise<ListJobsResponse> {
  const jobs: Job[] = [];
  let pageToken = '';
  let staleReason = '';
  do {
    const pageSize = Math.min(MAX_PAGE, limit - jobs.length);
    const page = await farm.call(farm.client.listJobs, { states, pageSize, pageToken });
    jobs.push(...page.jobs);
    pageToken = page.nextPageToken;
    staleReason = page.staleReason;
  } while (pageToken !== '' && jobs.length < limit);
  return { jobs, nextPageToken: pageToken, staleReason };
}

function jobTable(context: Context, jobs: readonly Job[]): string[] {
  const { style, shell } = context;
  const now = shell.clock.now();
  const paint = (text: string, { state }: Job) => {
    if (state === JobState.JOB_STATE_COMPLETED) return style.good(text);
    return state === JobState.JOB_STATE_FAILED ? style.bad(text) : text;
  };
  return table(
    jobs,
    [
      { title: 'JOB', cell: (job) => job.jobId },
      { title: 'NAME', cell: (job) => job.spec?.name ?? '', max: 30 },
      { title: 'STATE', cell: (job) => jobStateWords[job.state], paint },
      { title: 'CLIPS', cell: (job) => `${job.clipsCommitted}/${job.plan?.clips ?? 0}`, align: 'right' },
      { title: 'LENGTH', cell: (job) => mediaLength((job.plan?.frames ?? 0) / FPS), align: 'right' },
      { title: 'LEFT', cell: (job) => (job.etaSeconds >= 0 ? duration(job.etaSeconds) : '-'), align: 'right' },
      { title: 'AGE', cell: (job) => ageOf(job, now), align: 'right' },
      ...(jobs.some((job) => job.spec?.deadline !== undefined) ? [{ title: 'DEADLINE', cell: shortDeadline }] : []),
      { title: 'REASON', cell: (job) => job.stateReason, max: 60 },
    ],
    style,
  );
}

function ageOf(job: Job, nowMillis: number): string {
  const submitted = dateOf(job.submittedAt);
  return submitted === undefined ? '-' : age((nowMillis - submitted.getTime()) / 1000);
}
