import type { Farm } from './farm.ts';
import type { TestProcess } from './process.ts';

/** What coordinators and agents log about a job, as far as tests look at it. */
interface Told {
  readonly msg: string;
  readonly job_id?: string;
  readonly clip?: number;
  readonly pre_roll?: boolean | number;
  readonly speculative?: boolean;
  readonly start?: number;
  readonly end?: number;
}

/** Lines with a message, in the order in which each process wrote them. */
function told(processes: Iterable<TestProcess>, message: string): Told[] {
  const logs = new Set([...processes].map((one) => one.output()));
  const lines = [...logs].flatMap((log) => log.split('\n')).filter((line) => line.includes(`"msg":"${message}"`));
  return lines.map((line) => JSON.parse(line) as Told);
}

/** Clips that runners finished, in that order, pre-roll left out: what was really rendered, wanted or not. */
function rendered(farm: Farm): Told[] {
  return told(farm.agents.values(), 'clip rendered').filter(({ pre_roll: preRoll }) => preRoll === false);
}

/** How many clips runners finished, pre-roll left out, by job. */
export function clipsRendered(farm: Farm): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { job_id: jobId = '' } of rendered(farm)) counts.set(jobId, (counts.get(jobId) ?? 0) + 1);
  return counts;
}

/** Commits of all jobs, in their order: the job of each. For one coordinator. */
export function jobsOfCommits(farm: Farm): string[] {
  return told([farm.coordinator], 'clip committed').map(({ job_id: jobId = '' }) => jobId);
}

/** How often a clip was to be rendered once more on purpose: a slot that seems stuck, as on a busy machine, is duplicated. */
function duplicates(farm: Farm, jobId: string, clip: number): number {
  const coordinators = farm.coordinators.map(({ process: one }) => one);
  return told(coordinators, 'lease granted').filter(
    ({ job_id: of, speculative, start = 0, end = 0 }) =>
      of === jobId && speculative === true && start <= clip && clip < end,
  ).length;
}

/** Clips of a job that came although another lease had committed them, and that nobody wanted twice. */
export function renderedInVain(farm: Farm, jobId: string): number[] {
  const coordinators = farm.coordinators.map(({ process: one }) => one);
  const twice = told(coordinators, 'clip was rendered twice').filter(({ job_id: of }) => of === jobId);
  return twice.flatMap(({ clip = -1 }) => (duplicates(farm, jobId, clip) === 0 ? clip : []));
}

/** How many clips of a job runners finished once more than anybody wanted. */
export function renderedAgain(farm: Farm, jobId: string): number {
  const counts = new Map<number, number>();
  for (const { job_id: of, clip = -1 } of rendered(farm)) {
    if (of === jobId) counts.set(clip, (counts.get(clip) ?? 0) + 1);
  }
  const needless = [...counts].map(([clip, times]) => Math.max(0, times - 1 - duplicates(farm, jobId, clip)));
  return needless.reduce((sum, times) => sum + times, 0);
}
