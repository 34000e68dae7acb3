import type { Farm } from './farm.ts';

/** Clips that runners finished, pre-roll left out, by job: what was really rendered, wanted or not. */
export function clipsRendered(farm: Farm): Map<string, number> {
  const counts = new Map<string, number>();
  const logs = new Set([...farm.agents.values()].map((agent) => agent.output()));
  for (const line of [...logs].flatMap((log) => log.split('\n'))) {
    if (!line.includes('"clip rendered"')) continue;
    const { job_id: jobId, pre_roll: preRoll } = JSON.parse(line) as { job_id: string; pre_roll: boolean };
    if (!preRoll) counts.set(jobId, (counts.get(jobId) ?? 0) + 1);
  }
  return counts;
}
