import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DEFAULT_POLICY } from '../../coordinator/src/core/schedule-model.ts';
import { Farm } from '../harness/farm.ts';
import { cutAudio } from '../harness/media.ts';
import { shortestSeconds } from './bound.ts';

/** One row of the fleet benchmark. */
export interface FleetRow {
  readonly agents: number;
  readonly clips: number;
  /** Seconds from submission accepted to finished file. */
  readonly seconds: number;
  /** Clips divided by the sum of the agents' declared speeds. */
  readonly idealSeconds: number;
  /** What no scheduler can beat: whole clips, and a clip of pre-roll for each agent but one. */
  readonly boundSeconds: number;
  readonly joins: number;
  readonly rerendered: number;
  /** Milliseconds from the last commit to the verified file. */
  readonly finishMillis: number;
  /** Of the coordinator, at the end. */
  readonly rssMegabytes: number;
  /** CPU seconds of the coordinator per clip. */
  readonly cpuMillisPerClip: number;
}

/** Agents of unlike speed: seconds per clip from `fastest` up to five times that. */
function paces(count: number, fastest: number): number[] {
  return Array.from({ length: count }, (_, i) => fastest * (count === 1 ? 1 : 1 + (4 * i) / (count - 1)));
}

/**
 * Renders one talk with synthetic agents whose speeds differ by a factor of five, and compares with the ideal: all work
 * divided by all speed, no pre-roll, no start, no end.
 *
 * @param seconds of talk; the sample is said over and over
 * @param fastest seconds per clip of the fastest agent; slow enough that the machine itself is not the limit
 */
export async function benchFleet(count: number, seconds: number, fastest: number): Promise<FleetRow> {
  const speeds = paces(count, fastest);
  await using farm = await Farm.start(speeds.map((pace, i) => ({ name: `agent-${i}`, pace })));
  const audio = await cutAudio(join(farm.dir, 'talk.wav'), { seconds });
  const cpuBefore = cpuSeconds(farm.coordinator.child.pid);
  const { jobId } = await farm.submit(audio);
  const job = await farm.finished(jobId, 600);
  const clips = job.plan?.clips ?? 0;
  const started = job.submittedAt ?? { seconds: 0, nanos: 0 };
  const finished = job.finishedAt ?? started;
  return {
    agents: count,
    clips,
    seconds: finished.seconds - started.seconds + (finished.nanos - started.nanos) / 1e9,
    boundSeconds: shortestSeconds(
      clips,
      speeds.map((secondsPerClip) => ({ secondsPerClip })),
      DEFAULT_POLICY.preRoll,
    ),
    idealSeconds: clips / speeds.reduce((sum, pace) => sum + 1 / pace, 0),
    joins: job.result?.joins ?? 0,
    rerendered: job.result?.clipsRerendered ?? 0,
    finishMillis: job.result?.finishMillis ?? 0,
    rssMegabytes: rssMegabytes(farm.coordinator.child.pid),
    cpuMillisPerClip: ((cpuSeconds(farm.coordinator.child.pid) - cpuBefore) * 1000) / clips,
  };
}

function rssMegabytes(pid: number | undefined): number {
  const line = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(line?.[1] ?? 0) / 1024;
}

/** User and system time; Linux counts it in ticks of 10 ms. */
function cpuSeconds(pid: number | undefined): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
